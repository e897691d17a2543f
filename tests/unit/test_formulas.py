"""Formulas in a terminal: those of all built-in methods are shown without LaTeX."""

from __future__ import annotations

import inspect
import re

import pytest

from harness.cli.formulas import formula, in_terminal
from harness.registry.config import registry


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"P(s_i \mid s_{-i}) = \sigma\bigl(2 s_i (h_i + \textstyle\sum_j J_{ij} s_j)\bigr)",
         "P(sᵢ | s₋ᵢ) = σ(2 sᵢ (hᵢ + ∑ⱼ Jᵢⱼ sⱼ))"),
        (r"a_{e,h} = \max_{t \le q_e} A^{(h)}_{e}[q_e, t]", "aₑ,ₕ = max_(t ≤ qₑ) A⁽ʰ⁾ₑ[qₑ, t]"),
        (r"\lVert z^{(h)}_{e}[q_e]\, W_O^{(h)} \rVert_2", "‖z⁽ʰ⁾ₑ[qₑ] W_O⁽ʰ⁾‖₂"),
        (r"= \lVert z \rVert_2", "= ‖z‖₂"),
        (r"\frac{b_i - a_i}{\max(a_i, b_i)}", "(bᵢ - aᵢ)/max(aᵢ, bᵢ)"),
        (r"\frac{1}{|L_i| - 1} \sum_{j \in L_i, j \ne i} a_{e,j}", "1/(|Lᵢ| - 1) ∑_(j ∈ Lᵢ, j ≠ i) aₑ,ⱼ"),
        (r"-\frac{P_{ij}}{\sqrt{P_{ii} P_{jj}}}", "-Pᵢⱼ/√(Pᵢᵢ Pⱼⱼ)"),
        (r"\frac{1}{2w} \sum_i d_i", "1/(2w) ∑ᵢ dᵢ"),
        (r"\frac1V + \tfrac12", "1/V + 1/2"),
        (r"\sum_v p_v \log\frac{p_v}{q_v}", "∑ᵥ pᵥ log(pᵥ/qᵥ)"),
        (r"(s_\Sigma - s_i) \log_2 \tfrac{c-1}{c}", "(s_Σ - sᵢ) log₂((c-1)/c)"),
        (r"\hat\alpha_i + \bar x + \hat m", "α̂ᵢ + x̅ + m̂"),
        (r"\hat K = \arg\max_K (\lambda_{K+1} - \lambda_K)", "K̂ = arg max_K (λ_(K+1) - λ_K)"),
        (r"\arg\max_v z_v", "arg maxᵥ zᵥ"),
        (r"\log\det P - \operatorname{tr}(R P)", "log det P - tr(R P)"),
        (r"o_h^{(e)}(t) \leftarrow o_h^{(\pi(e))}(t)", "oₕ⁽ᵉ⁾(t) ← oₕ^(π(e))(t)"),
        (r"D^{-1/2} x^2 10^{-12}", "D^(-1/2) x² 10⁻¹²"),
        (r"e^{z_v} - z_{y'} + z^{\text{baseline}}", "e^zᵥ - z_y' + z^baseline"),
        (r"d_{\text{layer}(u)} + g_{\pi(i)}", "d_(layer(u)) + g_(π(i))"),
        (r"\{g : \text{min\_size} \le |g|\}", "{g : min_size ≤ |g|}"),
        (r"\sqrt n, \sqrt{n + 1}", "√n, √(n + 1)"),
        (r"\frac{\partial\, \ell_e}{\partial z_e[t]}", "∂ℓₑ/∂zₑ[t]"),
        (r"i \bmod k, \qquad \pi \text{ a permutation}", "i mod k,\nπ a permutation"),
        (r"\mathbb 1[z_v = y]", "1[zᵥ = y]"),
        (r"\mathbf{x}^\top y", "𝐱^⊤y"),
    ],
)  # fmt: skip
def test_a_formula_is_shown_in_plain_notation(latex: str, text: str) -> None:
    assert formula(latex) == text


@pytest.mark.parametrize(
    "latex", ["", r"\frac{1}{", "x_", "a^{", "}{", r"\frac", r"\begin{matrix} a", "$x", r"\nosuch{x}"]
)
def test_a_formula_that_does_not_parse_gives_no_error(latex: str) -> None:
    assert isinstance(formula(latex), str)


def test_no_built_in_method_is_shown_with_latex_or_markup() -> None:
    for method in registry().methods.values():
        text = in_terminal(inspect.getdoc(method.cls) or "")
        assert not re.search(r"\\[a-zA-Z]|`|\.\. math|:\w+:`|[_^]\{", text), (method.name, text)
        assert "math" not in text.split()


def test_markup_is_removed_and_an_equation_keeps_its_indentation() -> None:
    docstring = (
        "Groups of ``k`` units.\n\n.. math:: q_p = 1\n   \\text{ where } k_p = k, \\qquad 0 < k\n\n"
        "See :class:`Spins` and ``a\nb``: :math:`x_i`."
    )
    assert in_terminal(docstring) == (
        "Groups of k units.\n\n    qₚ = 1 where kₚ = k,\n    0 < k\n\nSee Spins and a\nb: xᵢ."
    )
