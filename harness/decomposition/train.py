"""Trains a decomposition: the loss of a step, its optimizer, and the state from which it continues unchanged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.decomposition.importance import Gates, Importance, SiteMlp
from harness.decomposition.masked import Masks, Target, error_of, stochastic
from harness.decomposition.penalties import lp, rarity, smooth_l0
from harness.decomposition.settings import Settings
from harness.decomposition.sigmoids import lower_leaky, upper_leaky
from harness.decomposition.start import started, tensors_of, unfaithful
from harness.util.errors import HarnessError
from harness.util.seeds import seed_for

GAMMA = (1.0, 0.01)
"""Of smooth_l0, at the first and at the last step."""
FINAL_RATE = 0.1
ADVERSARY_RATE = 0.05
DIVERGED = 10.0
"""A run is stopped where its loss is this many times that of its first step, and that without the matrices."""


@dataclass(frozen=True)
class Step:
    """What one step measured: parts of its loss, and by site how many subcomponents an example needs, and how many are
    needed by any."""

    step: int
    loss: Mapping[str, float]
    l0: Mapping[str, float]
    alive: Mapping[str, int]


class Training:
    """A decomposition in training. Every random choice depends on the seed and the step only."""

    def __init__(self, target: Target, content: Tensor, settings: Settings, seed: int = 0) -> None:
        self.target, self.content, self.settings, self.seed = target, content, settings, seed
        self.matrices = started(target, content, settings, seed)
        self.importances = {site: self._importance(site) for site in target.modules}
        size = settings.subcomponents + 1
        self.adversary = {site: torch.full((size,), 0.5, device=content.device) for site in target.modules}
        self.parameters = [
            *tensors_of(self.matrices),
            *(value for importance in self.importances.values() for value in importance.parameters()),
        ]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=settings.rate, weight_decay=0, fused=True)
        self.step, self.highest = 0, math.inf
        self.rates = [(0, settings.rate)]

    def advance(self) -> Step:
        """One step. Errors: the loss is not finite, or far above that of the first step."""
        settings, rng = self.settings, self._rng("step")
        done = self.step / max(settings.steps - 1, 1)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * done)))
        rows = torch.randint(len(self.content), (settings.rows,), generator=rng).to(self.content.device)
        content = self.content[rows]
        outputs, inputs = self.target.record(content)
        gamma = self.before_sigmoid(inputs)
        needed = {site: lower_leaky(values) for site, values in gamma.items()}
        parts = self._reconstruction(content, outputs, needed, rng)
        if settings.faithful:
            parts["faithful"] = settings.faithful * unfaithful(self.target, self.matrices)
        upper = [upper_leaky(values.flatten(0, -2)) for values in gamma.values()]
        if settings.penalty == "lp":
            parts["minimality"] = settings.minimality * lp(torch.cat(upper, dim=1), settings.p)
        else:
            frequencies = [smooth_l0(values, GAMMA[0] + (GAMMA[1] - GAMMA[0]) * done) for values in upper]
            parts["minimality"] = settings.minimality * torch.cat(frequencies).sum()
            parts["frequency"] = settings.frequency * rarity(torch.cat(frequencies))
        loss = torch.stack(list(parts.values())).sum()
        self._check(float(loss.detach()), content, outputs, needed)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, settings.clip)
        self.optimizer.step()
        self.step += 1
        active = {site: values.detach() > settings.alive for site, values in needed.items()}
        return Step(
            self.step,
            {name: float(value.detach()) for name, value in parts.items()},
            {site: float(values.sum(-1).float().mean()) for site, values in active.items()},
            {site: int(values.flatten(0, -2).any(0).sum()) for site, values in active.items()},
        )

    @torch.no_grad()
    def needed(self, content: Tensor) -> dict[str, Tensor]:
        """Importances in [0, 1] on these examples, by site."""
        _, inputs = self.target.record(content)
        return {site: lower_leaky(values) for site, values in self.before_sigmoid(inputs).items()}

    def before_sigmoid(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The importance functions of all sites, from the inputs that the sites have in the undamaged target."""
        return {
            site: self.importances[site](values, values @ self.matrices[site].v.T, None)
            for site, values in inputs.items()
        }

    def state(self) -> dict[str, Tensor]:
        """All tensors that change in training. With them and the step, a run continues with the same digits."""
        optimizer = self.optimizer.state_dict()["state"]
        return {
            **{f"parameter.{place}": value.detach() for place, value in enumerate(self.parameters)},
            **{f"adversary.{site}": value for site, value in self.adversary.items()},
            **{f"optimizer.{place}.{name}": value for place, of in optimizer.items() for name, value in of.items()},
        }

    def restore(
        self, state: Mapping[str, Tensor], step: int, highest: float, rates: Sequence[tuple[int, float]]
    ) -> None:
        """Continue from a state. ``rates``: the learning rates so far, each with the step from which it holds."""
        self.step, self.highest = step, highest
        changed = [(step, self.settings.rate)] if rates[-1][1] != self.settings.rate else []
        self.rates = [*rates, *changed]
        moments: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for name, value in state.items():
                kind, _, rest = name.partition(".")
                if kind == "parameter":
                    self.parameters[int(rest)].copy_(value)
                elif kind == "adversary":
                    self.adversary[rest].copy_(value)
                else:
                    place, _, moment = rest.partition(".")
                    moments.setdefault(int(place), {})[moment] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _reconstruction(
        self, content: Tensor, outputs: Tensor, needed: Mapping[str, Tensor], rng: torch.Generator
    ) -> dict[str, Tensor]:
        settings, parts = self.settings, {}
        masks = {site: stochastic(values, rng) for site, values in needed.items()}
        if settings.stochastic:
            parts["stochastic"] = settings.stochastic * self._error(content, outputs, masks)
        if settings.layerwise:
            errors = [self._error(content, outputs, {site: mask}) for site, mask in masks.items()]
            parts["layerwise"] = settings.layerwise * torch.stack(errors).mean()
        if settings.adversary:
            parts["adversary"] = settings.adversary * self._adversarial(content, outputs, needed)
        return parts

    def _adversarial(self, content: Tensor, outputs: Tensor, needed: Mapping[str, Tensor]) -> Tensor:
        """The error with the adversary's masks; the adversary then moves to where it is larger."""
        r = {site: value.clone().requires_grad_() for site, value in self.adversary.items()}
        masks = {
            site: Masks(values + (1 - values) * r[site][:-1], r[site][-1:].expand(*values.shape[:-1], 1))
            for site, values in needed.items()
        }
        error = self._error(content, outputs, masks)
        slopes = torch.autograd.grad(error, list(r.values()), retain_graph=True)
        for site, slope in zip(r, slopes, strict=True):
            self.adversary[site] = (self.adversary[site] + ADVERSARY_RATE * slope.sign()).clamp(0, 1)
        return error

    def _error(self, content: Tensor, outputs: Tensor, masks: Mapping[str, Masks]) -> Tensor:
        return error_of(self.target.masked(content, self.matrices, masks), outputs, self.target.tokens)

    def _importance(self, site: str) -> Importance:
        settings, weight = self.settings, self.target.weight(site)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(self.seed, f"decompose importance {site}"))
            if settings.importance == "gates":
                return Gates(settings.subcomponents, settings.hidden).to(weight.device)
            return SiteMlp(settings.subcomponents, weight.shape[1], settings.hidden).to(weight.device)

    def _rng(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(seed_for(self.seed, f"decompose {purpose} {self.step}"))

    def _check(self, loss: float, content: Tensor, outputs: Tensor, needed: Mapping[str, Tensor]) -> None:
        settings = self.settings
        if self.step == 0:
            with torch.no_grad():
                nothing = {site: Masks(0 * values, 0 * values[..., :1]) for site, values in needed.items()}
                error = float(self._error(content, outputs, nothing))
            without = settings.faithful + (settings.stochastic + settings.layerwise + settings.adversary) * error
            self.highest = DIVERGED * max(loss, without)
        if not loss <= self.highest:
            raise DivergedError(self.step, loss, settings.rate)


class DivergedError(HarnessError):
    """A run whose loss grows without bound."""

    def __init__(self, step: int, loss: float, rate: float) -> None:
        super().__init__(
            f"the decomposition diverges: at step {step} the loss is {loss:.3g}.",
            f"Type the same command with a smaller rate, such as rate={rate / 3:.1g}: it continues from the last "
            "checkpoint.",
        )
