"""Figures inside a page: how matplotlib's become SVG that follows the page's colours, and the same on every run."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK = "#010203"
"""Drawn in the page's own text colour, light or dark."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
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
    """An empty figure, in inches, that belongs to no window system."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def style() -> Any:
    """What figures are drawn under: a context manager."""
    return matplotlib.rc_context(STYLE)


def svg(drawn: Figure, told: str) -> Markup:
    """The figure as an element of a page; ``told``: what it shows, for those who cannot see it."""
    out = io.StringIO()
    drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = out.getvalue()
    element = text[text.index("<svg") :].replace(INK, "currentColor")
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    return Markup(element.replace("<svg", f'<svg role="img" aria-label="{Markup.escape(told)}"', 1))
