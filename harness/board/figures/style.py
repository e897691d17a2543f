"""Figures inside a page: matplotlib figures as SVG in the page's colours, identical on every run."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

NewFigure = Callable[[float, float], Figure]
"""Makes an empty figure of this width and height, in inches."""
INK = "#010203"
"""Replaced by the page's text colour, light or dark."""
CANDIDATE = "#d1495b"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names in records may hold a dollar sign
    "svg.hashsalt": "closure-harness",
    "font.family": "sans-serif",
    "font.size": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, without a window."""
    empty = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(empty)
    return empty


def style() -> Any:
    """A context manager: figures drawn inside it have the style of the pages."""
    return matplotlib.rc_context(STYLE)


def svg(drawn: Figure, label: str) -> Markup:
    """The figure as an element of a page; ``label``: what it shows, for screen readers."""
    out = io.StringIO()
    with warnings.catch_warnings():
        # Of names in other scripts, or very long ones: text stays text, and the browser has its fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing|constrained_layout not applied")
        drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = out.getvalue()
    element = text[text.index("<svg") :].replace(INK, "currentColor")
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    return Markup(element.replace("<svg", f'<svg role="img" aria-label="{Markup.escape(label)}"', 1))
