"""The settings of a decomposition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True)
class Settings:
    r"""How a model's matrices are decomposed. The loss of a step, on ``rows`` examples:

    .. math:: L = \lambda_s L_{stochastic} + \lambda_l L_{layerwise} + \lambda_a L_{adversary} + \lambda_f L_{faithful}
              + \lambda_m L_{minimality} + \lambda_r L_{frequency}

    ``stochastic``: error of the outputs with stochastic masks at all sites; ``layerwise``: at one site, mean over
    sites; ``adversary``: with masks that follow the gradient upwards, step by step, and are shared by all examples.
    The error is the mean squared difference from the target's outputs, or for language models the KL divergence.
    ``faithful``: :math:`|W - \sum_c U_c V_c^\top|^2 / |W|^2`, mean over sites; ``warmup`` steps reduce it alone first.
    ``minimality``: the penalty, ``smooth_l0`` (its gamma falls linearly from 1 to .01) or ``lp`` with ``p``.
    ``frequency``: of subcomponents that many examples need, with ``smooth_l0`` only.

    ``start``: where subcomponents start. ``random``; ``inputs``: what they read is a site's input on an example that is
    not zero, what they write is what the matrix makes of it; ``single`` and ``mixed``: the same, with examples of one
    feature, and of two or more. ``spread``: these examples are as different as possible, not drawn at random, so that
    subcomponents do not start as copies of each other.
    ``tied``: two sites that share their tensors, because the second matrix is the transpose of the first.

    Source: Bushnaq et al. 2025 (stochastic parameter decomposition), and the authors' later configurations.
    """

    sites: tuple[str, ...] = field(default=(), metadata={"help": "paths of linear modules; empty: all"})
    subcomponents: Annotated[int, Ge(1)] = field(default=100, metadata={"help": "per matrix"})
    importance: Literal["mlp", "gates"] = field(
        default="mlp", metadata={"help": "mlp: one per site, of its whole input; gates: one per subcomponent"}
    )
    hidden: Annotated[int, Ge(1)] = field(default=200, metadata={"help": "hidden numbers of an importance function"})
    penalty: Literal["smooth_l0", "lp"] = field(default="smooth_l0", metadata={"help": "on importances"})
    minimality: Annotated[float, Ge(0)] = field(default=1.2e-4, metadata={"help": "coefficient of the penalty"})
    frequency: Annotated[float, Ge(0)] = field(default=6e-5, metadata={"help": "coefficient of the frequency term"})
    p: Annotated[float, Gt(0)] = field(default=1.0, metadata={"help": "of lp"})
    stochastic: Annotated[float, Ge(0)] = field(default=1.0, metadata={"help": "coefficient: all sites masked"})
    layerwise: Annotated[float, Ge(0)] = field(default=1.0, metadata={"help": "coefficient: one site masked"})
    adversary: Annotated[float, Ge(0)] = field(default=0.0, metadata={"help": "coefficient: adversarial masks"})
    faithful: Annotated[float, Ge(0)] = field(default=1.0, metadata={"help": "coefficient of faithfulness"})
    start: Literal["random", "inputs", "single", "mixed"] = field(
        default="inputs", metadata={"help": "initial subcomponents"}
    )
    spread: bool = field(default=False, metadata={"help": "start at inputs as different from each other as possible"})
    tied: tuple[str, ...] = field(default=(), metadata={"help": "two sites that share their tensors"})
    warmup: Annotated[int, Ge(0)] = field(default=200, metadata={"help": "steps of faithfulness alone"})
    steps: Annotated[int, Ge(1)] = field(default=2500, metadata={"help": "training steps"})
    rows: Annotated[int, Ge(1)] = field(default=512, metadata={"help": "examples of a step"})
    rate: Annotated[float, Gt(0)] = field(default=3e-3, metadata={"help": "learning rate; cosine to a tenth"})
    clip: Annotated[float, Gt(0)] = field(default=1.0, metadata={"help": "largest norm of the gradient"})
    alive: Annotated[float, Gt(0), Le(1)] = field(
        default=0.1, metadata={"help": "importance above which an example needs a subcomponent"}
    )
