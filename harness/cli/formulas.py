"""Docstrings as a terminal shows them: formulas in Unicode instead of LaTeX, and no reST markup."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pylatexenc.latex2text import LatexNodes2Text

SUPERSCRIPTS = dict(zip("0123456789+-()ehijklmnrst", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ᵉʰⁱʲᵏˡᵐⁿʳˢᵗ", strict=True))
SUBSCRIPTS = dict(zip("0123456789+-(),aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₍₎,ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
SCRIPTS = {"_": SUBSCRIPTS, "^": SUPERSCRIPTS}
FUNCTIONS = ("arg", "det", "exp", "log", "max", "min")  # pylatexenc knows some of them, and drops the others
RELATIONS = {"ne": "≠", "to": "→", "sim": "~", "bmod": "mod", "approx": "≈", "mid": "|", "cdot": "·"}
NAMED = rf"\b({'|'.join(FUNCTIONS)})"
LOWERED = "".join(SUBSCRIPTS.values())
OPEN, CLOSED = "\ue000", "\ue001"  # of a fraction, until it is known whether it needs brackets


def in_terminal(docstring: str) -> str:
    """A docstring with its formulas in Unicode, one line per equation, and without markup."""
    text = re.sub(r"^( *)\.\. math::(.*(?:\n\1 +\S.*)*)", _block, docstring, flags=re.MULTILINE)
    text = re.sub(r":math:`([^`]+)`", lambda found: formula(found[1]), text)
    text = re.sub(r":\w+:`~?([^`]+)`", r"\1", text)
    return re.sub(r"``(.+?)``", r"\1", text, flags=re.DOTALL)


def formula(latex: str) -> str:
    """A formula in Unicode; text after ``\\qquad`` begins a new line.

    Scripts that Unicode lacks stay as ``_y`` or ``^(e')``; a fraction is ``a/b``, with brackets where it needs them.
    """
    from pylatexenc.latexwalker import LatexWalker, get_default_latex_context_db
    from pylatexenc.macrospec import MacroStandardArgsParser, SpecialsSpec, std_macro

    syntax = get_default_latex_context_db()
    scripts = [SpecialsSpec(mark, args_parser=MacroStandardArgsParser("{")) for mark in SCRIPTS]
    syntax.add_context_category("formulas", [std_macro("tfrac", "{{")], specials=scripts, prepend=True)
    nodes, _, _ = LatexWalker(" ".join(latex.split()), latex_context=syntax).get_latex_nodes()
    text: str = _converter().nodelist_to_text(nodes)
    return _spaced(text)


def _block(found: re.Match[str]) -> str:
    lines = formula(found[2]).splitlines()
    return "\n".join(f"{found[1]}    {line}" for line in lines)


@cache
def _converter() -> LatexNodes2Text:
    from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, SpecialsTextSpec, get_default_latex_context_db

    words = {name: f"{name} " for name in FUNCTIONS} | {name: f" {sign} " for name, sign in RELATIONS.items()}
    replacements = [MacroTextSpec(name, text) for name, text in ({",": " ", "qquad": "\n", "|": "‖"} | words).items()]
    # Lambdas: pylatexenc looks at the names of their arguments, which a checked function hides.
    replacements += [MacroTextSpec(name, lambda node, l2tobj: _fraction(node, l2tobj)) for name in ("frac", "tfrac")]  # noqa: PLW0108
    scripts = [SpecialsTextSpec(mark, lambda node, l2tobj: _script(node, l2tobj)) for mark in SCRIPTS]  # noqa: PLW0108
    rules = get_default_latex_context_db()
    rules.add_context_category("formulas", replacements, specials=scripts, prepend=True)
    spaces = {"between-macro-and-chars": False, "between-latex-constructs": True}
    return LatexNodes2Text(latex_context=rules, strict_latex_spaces=spaces)


def _script(node: Any, converter: LatexNodes2Text) -> str:
    mark, text = node.specials_chars, _spaced(converter.node_arg_to_text(node, 0))
    small, letters = text.replace(", ", ","), SCRIPTS[mark]
    if all(letter in letters for letter in small):
        return "".join(letters[letter] for letter in small)
    simple = re.fullmatch(r".|\w+'*|\((?:[^()]|\([^()]*\))*\)", text)
    return f"{mark}{text}" if simple else f"{mark}({text})"


def _fraction(node: Any, l2tobj: LatexNodes2Text) -> str:
    parts = (_spaced(l2tobj.node_arg_to_text(node, place)) for place in (0, 1))
    return OPEN + "/".join(part if _is_atom(part) else f"({part})" for part in parts) + CLOSED


def _is_atom(text: str) -> bool:
    """Whether a text needs no brackets: a number, a name with its scripts and arguments, something in brackets."""
    outside, before = text, ""
    while outside != before:
        outside, before = re.sub(r"\([^()]*\)|\[[^][]*\]|\|[^|]*\|", "", outside), outside
    return bool(re.fullmatch(r"\d*|√|∂?[^\W\d][^\s+\-/·,=]*", outside))


def _spaced(text: str) -> str:
    """One space around relations and before a sum, none inside brackets, and one argument to a function."""
    for pattern, replacement in (
        (rf"{NAMED} +(?=[(\[_{LOWERED}])", r"\1"),
        (rf"{NAMED}([{LOWERED}]*) *{OPEN}([^{CLOSED}]*){CLOSED}", r"\1\2(\3)"),
        (f"[{OPEN}{CLOSED}]", ""),
        (r" *([=≤≥≠≈∈∉←→≻∪·>]) *", r" \1 "),
        (r"(?<=[^\s(]) *- ", " - "),
        (r"(?<=[\w)\]|])(?=[∑√])", " "),
        (r"([∂(\[⌊‖]) +", r"\1"),
        (rf" +(?=[)\],⌋]|‖[{LOWERED}])", ""),
        (r"√\((\w)\)", r"√\1"),
    ):
        text = re.sub(pattern, replacement, text)
    return "\n".join(" ".join(line.split()) for line in text.split("\n"))
