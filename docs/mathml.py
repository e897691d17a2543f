r"""Formulas as MathML, written when the site is built: no script, no font, no network.

Docstrings are LaTeX (``.. math::``). A command that the converter does not know gives a warning, which is an error in
``make docs``.
"""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)


def write(self: nodes.NodeVisitor, node: nodes.math | nodes.math_block) -> None:
    """One formula, inline or as a block of its own."""
    block = isinstance(node, nodes.math_block)
    source = " ".join(node.astext().split()).replace(r"\arg", r"\operatorname{arg}").replace(r"\_", "_")
    element = convert(source, display="block" if block else "inline")
    if "\\" in element:
        log.warning("formula with a command that latex2mathml does not know: %s", source, location=node)
    self.body.append(f'<div class="formula">{element}</div>' if block else element)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer to Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(write, None), block_renderers=(write, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
