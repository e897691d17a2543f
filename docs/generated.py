"""Reference pages that are generated from the harness itself: ``.. generated:: methods``.

Each function here returns reStructuredText, which is parsed in place. Nothing is written to disk, so no page can be
older than the code.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import pydoc
import re
import textwrap
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args, get_type_hints

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import harness
from harness.cells.settings import NEUTRAL, Settings
from harness.cli.main import COMMANDS, parser_of
from harness.data.stages import STAGES, inputs_of
from harness.records.record import Record
from harness.registry.config import registry
from harness.registry.registry import Method

log = logging.getLogger(__name__)
CONF = Path(__file__).parents[1] / "conf"
GROUPS = {  # headings of the page on the Python API, by the module of a name
    "notebook.calls": "From a notebook",
    "notebook.results": "What these calls return",
    "data.contracts": "Contracts of the stages",
    "data": "What stages exchange",
    "engine": "Models",
    "proposal": "Results",
    "closure": "Results",
    "records": "Results",
    "registry": "Hooks",
    "testing": "Checks",
    "util": "Errors, seeds, digests",
}


class Generated(SphinxDirective):
    """``.. generated:: NAME``: the text that the function of that name returns, headings included."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse it here."""
        text = WRITERS[self.arguments[0]]()
        return self.parse_text_to_nodes(text, allow_section_headings=True)


# ----------------------------------------------------------------------------------------------------------------------
# Pages
# ----------------------------------------------------------------------------------------------------------------------


def door() -> str:
    """Every name of ``harness/__init__.pyi``, by its module."""
    stub = ast.parse(Path(harness.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {title: [] for title in GROUPS.values()}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            title = next(title for place, title in GROUPS.items() if f"{node.module}.".startswith(f"{place}."))
            found[title] += [_documented(f"harness.{node.module}", name.name) for name in node.names]
    return "\n\n".join(f"{_heading(title, '-')}\n\n" + "\n\n".join(blocks) for title, blocks in found.items())


def methods() -> str:
    """Every built-in method: docstring and parameters, by stage."""
    names = {stage: [f":ref:`{name} <{stage}-{name}>`" for name in registry().names(stage)] for stage in STAGES}
    rows = [(f":ref:`{stage} <stage-{stage}>`", ", ".join(links)) for stage, links in names.items()]
    blocks = [_table(("stage", "methods"), rows)]
    for stage in STAGES.values():
        blocks.append(f".. _stage-{stage.name}:\n\n{_heading(stage.name, '-')}\n\n{_sentence(stage.does)}")
        of_stage = [method for _, method in sorted(registry().methods.items()) if method.stage == stage.name]
        blocks += [_method(method) for method in of_stage]
    return "\n\n".join(blocks)


def settings() -> str:
    """The keys of a cell that are not stages: default and meaning, from the comments of ``conf/config.yaml``."""
    lines = (CONF / "config.yaml").read_text(encoding="utf-8").splitlines()
    comments = {match[1]: match[2] for line in lines if (match := re.match(r"(\w+): [^#]*# (.*)", line))}
    rows = []
    for setting in dataclasses.fields(Settings):
        if setting.name not in comments:
            log.warning("conf/config.yaml has no comment on the setting %s", setting.name)
        identity = "no" if setting.name in NEUTRAL else "yes"
        rows.append(
            (_code(setting.name), _code(_value(setting.default)), identity, _comment(comments.get(setting.name, "")))
        )
    return _table(("key", "default", "enters identity", "meaning"), rows)


def stages() -> str:
    """The keys of a cell that choose a method."""
    lines = (CONF / "config.yaml").read_text(encoding="utf-8")
    rows = []
    for stage in STAGES.values():
        default = re.search(rf"^  - {stage.name}: (.*)$", lines, re.MULTILINE)
        value = default[1] if default else ""
        rows.append((f":ref:`{stage.name} <stage-{stage.name}>`", _code(value), stage.does))
    return _table(("key", "default", "meaning"), rows)


def presets() -> str:
    """Configuration files that set several keys, with their comments."""
    rows = []
    for group in ("experiment", "preset", "subject", "hydra/launcher"):
        for file in sorted((CONF / group).glob("*.yaml")):
            lines = file.read_text(encoding="utf-8").splitlines()
            comments = takewhile(lambda line: line[:1] == "#", lines)
            text = " ".join(line.lstrip("# ") for line in comments if "@package" not in line)
            rows.append((_code(f"{group}={file.stem}"), _comment(text)))
    return _table(("key", "what it sets"), rows)


def commands() -> str:
    """The text that every command prints for ``--help``."""
    os.environ["COLUMNS"] = "100"
    blocks = []
    for name in COMMANDS:
        text = parser_of(name).format_help()
        if name != next(iter(COMMANDS)):  # the first command shows the part that all have in common
            text = re.sub(r"\nKEY=VALUE words are .*?(?=\n\nexample:|\Z)", "", text, flags=re.DOTALL)
        blocks.append(f"{_heading(f'harness {name}', '-')}\n\n.. code-block:: text\n\n{textwrap.indent(text, '   ')}")
    return "\n\n".join(blocks)


def record() -> str:
    """Every class of a record: its docstring, then its fields with their types."""
    blocks = []
    for cls in _reachable(Record, []):
        rows = [(_code(field.name), _code(str(field.type))) for field in dataclasses.fields(cls)]
        blocks.append(f"{_heading(cls.__name__, '-')}\n\n{_plain(cls)}\n\n{_table(('field', 'type'), rows)}")
    return "\n\n".join(blocks)


WRITERS: dict[str, Callable[[], str]] = {
    writer.__name__: writer for writer in (door, methods, settings, stages, presets, commands, record)
}

# ----------------------------------------------------------------------------------------------------------------------
# Parts of pages
# ----------------------------------------------------------------------------------------------------------------------


def _documented(module: str, name: str) -> str:
    """One public name. Warns where it has no docstring."""
    value = getattr(harness, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        if not (vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__):
            log.warning("harness.%s has no docstring", name)
        kind = "class" if inspect.isclass(value) else "function"
        members = "\n   :members:" if kind == "class" else ""
        return f".. auto{kind}:: harness.{name}{members}"
    if ("", name) not in ModuleAnalyzer.for_module(module).find_attr_docs():
        log.warning("harness.%s has no docstring", name)
    return f".. autodata:: {module}.{name}\n   :no-value:"


def _method(method: Method) -> str:
    rows = [
        (_code(f.name), _code(_value(method.node[f.name])), str(f.metadata.get("help", "")))
        for f in dataclasses.fields(method.cls)
    ]
    asks = ", ".join(map(_code, inputs_of(method.cls)))
    parts = [
        f".. _{method.stage}-{method.name}:\n\n{_heading(method.name, '~')}",
        _plain(method.cls),
        f"Asks for: {asks}." if asks else "",
        _table((f"{method.stage}.", "default", "meaning"), rows) if rows else "No parameters.",
    ]
    return "\n\n".join(part for part in parts if part)


def _reachable(cls: type, found: list[type]) -> list[type]:
    """A dataclass, and the dataclasses of its fields, each once and in order."""
    found.append(cls)
    for hint in get_type_hints(cls).values():
        for inside in _inside(hint):
            if dataclasses.is_dataclass(inside) and inside not in found:
                _reachable(inside, found)
    return found


def _inside(hint: Any) -> Iterator[Any]:
    yield hint
    for argument in get_args(hint):
        yield from _inside(argument)


def _plain(cls: type) -> str:
    """A docstring whose references to code are code: these pages have no descriptions to link to."""
    lines = re.sub(r":(?:class|func|meth|data):`([^`]+)`", r"``\1``", inspect.getdoc(cls) or "").splitlines()
    bars_escaped(lines)
    return "\n".join(lines)


def bars_escaped(lines: list[str]) -> None:
    """In place: ``|J|`` in a sentence is an absolute value, and not the name of a substitution."""
    inside_formula = False
    for at, line in enumerate(lines):
        inside_formula = line.lstrip().startswith(".. math::") or (inside_formula and line[:1] in ("", " "))
        if not inside_formula:
            lines[at] = re.sub(r"(``.*?``|`[^`]*`)|\|", lambda found: found[1] or r"\|", line)


def _docstring(_app: Sphinx, _what: str, _name: str, _of: Any, _options: Any, lines: list[str]) -> None:
    bars_escaped(lines)


def _signature(
    _app: Sphinx, _what: str, _name: str, value: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """A contract has no signature to show, because it is not called."""
    return ("", "") if getattr(value, "_is_protocol", False) else (signature, returns)


def _without_page(_app: Sphinx, _env: Any, node: nodes.Element, text: nodes.Element) -> nodes.Element | None:
    """A reference to a name inside the harness without a page is shown as code. An unknown name is a warning."""
    target = node.get("reftarget", "")
    return text if target.startswith("harness.") and pydoc.locate(target) is not None else None


def _heading(title: str, line: str) -> str:
    return f"{title}\n{line * len(title)}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _code(text: str) -> str:
    return f"``{text}``" if text else ""


def _comment(text: str) -> str:
    """A comment of a configuration file: single backticks mark code there."""
    return re.sub(r"`([^`]+)`", r"``\1``", text)


def _value(value: Any) -> str:
    """A default as it is typed on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"[{','.join(map(_value, value))}]" if isinstance(value, list | tuple) else str(value) or "''"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        lines += [f"   {'*' if place == 0 else ' '} - {cell}" for place, cell in enumerate(row)]
    return "\n".join(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directive to Sphinx."""
    app.add_directive("generated", Generated)
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _signature)
    app.connect("missing-reference", _without_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
