"""The documentation site: `make docs` builds it with Sphinx. It needs no network to build and none to read."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # generated.py and mathml.py

from harness import __version__

project = "Closure Harness"
html_title = f"{project} {__version__}"
extensions = ["myst_nb", "sphinx.ext.autodoc", "generated", "mathml"]
exclude_patterns = ["figures"]
nb_execution_mode = "force"  # the notebook has no outputs: those of the site are made when it is built
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
html_theme = "furo"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False

myst_heading_anchors = 3  # [text](page.md#heading), as on GitHub
myst_enable_extensions = ["colon_fence", "attrs_block"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
nitpicky = True  # a reference to an unknown name is an error
nitpick_ignore_regex = [("py:class", ".*")]  # the types in signatures are links only where the site has a page for them
