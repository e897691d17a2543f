"""Any units of any torch module as a subject: recorded and ablated by hooks on the modules of its sites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.data.batch import Batch, Reads
from harness.data.contracts import Intervention, Metric, Subject, Tick, no_tick
from harness.data.first_order import FirstOrder
from harness.data.fitting import fitted_by
from harness.data.grouping import Labels
from harness.data.recording import ROUTER, SOURCES, Reader, Recording
from harness.data.requests import check_gives, check_sources
from harness.data.sampling import Group
from harness.data.stages import MIXING, inputs_of, mixes
from harness.data.units import UnitSpace
from harness.engine.attention import evaluating, frozen
from harness.engine.batching import micro_batches
from harness.engine.budget import Load
from harness.engine.evaluation import Predict, evaluate_in_passes, within_memory
from harness.engine.fitted import Constants, normal_mode
from harness.engine.forward import Forward, Measured
from harness.engine.hooked_model import HookedModel
from harness.engine.hooked_recorder import HookedRecorder
from harness.engine.replacement import Moments, Replacement, averaged_over, donors_of, moments, noise_of, traffic
from harness.engine.routers import Router, routers_of, with_routers
from harness.engine.schedule import load_of
from harness.engine.sites import Mixture, Site
from harness.util.errors import HarnessError


class HookedSubject(Subject):
    """The units of a torch module that are at these sites.

    ``reads``: the vocabulary of a module that takes token ids [rows, positions], or the widths of one that takes
    vectors [rows, inputs]; :class:`harness.engine.forward.Forward` says what it has to return. Token sequences are
    right-padded, so later positions must not influence earlier ones.

    Conditions are evaluated together. Where the module is a chain of blocks (``nn.ModuleList``, ``nn.Sequential``) that
    contains all sites, they share the baseline's work up to the first block in which they differ. This is tried once,
    with an intervention that changes nothing: if outputs then differ from the baseline's, nothing is shared.

    ``memory``: how much memory a pass may use, such as ``4GiB``, or ``auto``. ``share=False``: conditions share
    nothing. Neither changes a result. ``truth``: the class of every unit, where it is known.

    Errors: no sites; a module of a site that does not run exactly once in a pass; an output of another shape.
    """

    sources: Mapping[str, str] = {name: SOURCES[name] for name in ("activation", "first_order")}
    gives: frozenset[str] = frozenset({"output", "mean", "std", "noise", "donor", "traffic", "constant"})

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        reads: Reads,
        label: str,
        about: Mapping[str, Any] | None = None,
        memory: str = "auto",
        share: bool = True,
        truth: Labels | None = None,
    ) -> None:
        self.model: nn.Module = model
        own = [site.sources for site in sites] or [{}]
        shared = {name: words for name, words in own[0].items() if all(name in other for other in own)}
        self.sources = with_routers({**self.sources, **shared}, model)
        self.gives |= {*MIXING} if all(isinstance(site, Mixture) for site in sites) else set()
        self.sites, self.reads, self.label, self.truth = tuple(sites), reads, label, truth
        at_most = {site.name: site.at_most for site in sites if site.at_most is not None}
        self.units = UnitSpace(tuple(unit for site in sites for unit in site.units), at_most)
        forward = Forward(model, reads, label)
        with evaluating(model), torch.inference_mode():
            self.budget = Measured.of(forward, {site.name: site.module for site in sites}).budget(memory)
            build = HookedModel.with_chain if share else HookedModel
            self.hooked = build(forward, self.sites, self.units)
        self.constants = Constants(label, self.budget, 2 * len(sites), self._with_gradients)
        self.about: dict[str, Any] = {**(about or {}), "conditions_share": ["trunk"] if self.hooked.chain else []}

    @contextmanager
    def _with_gradients(self) -> Iterator[None]:
        with normal_mode(), frozen(self.model):
            yield

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Tick = no_tick) -> Recording:
        """Run the batch once; every reader reduces the rows of its source, site by site.

        Errors: a source that this subject does not have (``router``, for a dense model); routers that cannot be read;
        for ``first_order``, what :meth:`evaluate` refuses.
        """
        batch.check(self.reads)
        check_sources(self, readers)
        routers = self.routers if any(reader.source == ROUTER for reader in readers.values()) else ()
        first_order, everything = FirstOrder.among(readers), tuple(range(len(self.units)))
        for reader in first_order.values():
            check_gives(self, reader.intervention)
            if mixes(reader.intervention):
                raise HarnessError(
                    f"attribution needs an intervention that replaces what units hand on; {reader.intervention.name} "
                    "changes the weights of a mixture.",
                    "Choose another one, such as intervention=zero, or another signal.",
                )
        with evaluating(self.model), within_memory(self.label, self.hooked.forward.device, self.budget):
            with torch.inference_mode():
                replacements = {
                    name: _Passes(self, batch, [everything], reader.intervention, None).replacement
                    for name, reader in first_order.items()
                }
            recorder = HookedRecorder(self.hooked.forward, self.sites, batch, readers, replacements, routers)
            for examples in micro_batches(batch, Load.throughout(recorder.rows_each), self.budget):
                recorder.run(examples)
                tick(len(examples))
        return Recording(batch, self.units, recorder.joined())

    @cached_property
    def routers(self) -> tuple[Router, ...]:
        """The routers of a mixture of experts. Errors: they cannot be read."""
        assert isinstance(self.model, PreTrainedModel)  # others do not have the source
        return routers_of(self.model, self.label)

    def evaluate(
        self,
        batch: Batch,
        conditions: Sequence[Group],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick = no_tick,
        reference: Batch | None = None,
    ) -> Float[np.ndarray, "metrics conditions examples"]:
        """Every metric under every condition; ``()`` is the baseline model.

        Errors: a batch, a reference or donors that the subject cannot read; an intervention that asks for what the
        subject does not give; a group of more units of a site than can be ablated together.
        """
        batch.check(self.reads)
        check_gives(self, intervention)
        for group in conditions:
            if not self.units.allows(group):
                limits = ", ".join(f"{limit} at {site}" for site, limit in self.units.at_most.items())
                raise HarnessError(
                    f"{self.label}: {' '.join(self.units.names(group))} cannot be ablated together.",
                    f"Ablate at most: {limits}.",
                )
        device = self.hooked.forward.device
        with evaluating(self.model), within_memory(self.label, device, self.budget), torch.inference_mode():
            passes = _Passes(self, batch, conditions, intervention, reference)
            return evaluate_in_passes(self.label, self.model, batch, conditions, metrics, passes.budget, passes, tick)


class _UnitsOfSite:
    """The units of one site, ablated by constants (:class:`harness.engine.fitted.Ablatable`)."""

    def __init__(self, model: HookedModel, site: str, intervention: Intervention) -> None:
        self._model, self._site, self._intervention = model, site, intervention
        self._units = np.array([i for i, unit in enumerate(model.units.units) if unit.site == site])
        self.size = len(self._units)

    def outputs(self, part: Batch, places: Int[np.ndarray, " some"]) -> Float[Tensor, "examples positions some width"]:
        """What the units hand on in a baseline pass."""
        with torch.no_grad():
            return self._model.outputs(part, self._chosen(places))[self._site]

    def logits(
        self, part: Batch, places: Int[np.ndarray, " some"], constants: Float[Tensor, "1 some width"]
    ) -> Float[Tensor, "rows outputs"]:
        """Outputs of the baseline, then with each of these units ablated alone."""
        content, query = self._model.forward.tensors(part)
        replacement = Replacement(self._intervention, constant={self._site: constants})
        groups = [(int(unit),) for unit in self._units[places]]
        return self._model.predictions(content, query, groups, replacement, self._chosen(places))

    def _chosen(self, places: Int[np.ndarray, " some"]) -> dict[str, Tensor]:
        return {self._site: torch.from_numpy(places).to(self._model.forward.device)}


class _Passes:
    """The passes of one evaluation."""

    one_position = False

    def __init__(
        self,
        subject: HookedSubject,
        batch: Batch,
        conditions: Sequence[Group],
        intervention: Intervention,
        reference: Batch | None,
    ) -> None:
        groups = sorted((group for group in conditions if group), key=sorted)
        self._model, self._batch, self._intervention = subject.hooked, batch, intervention
        self._chosen = self._model.chosen(groups)
        self.load = self.examples_load = load_of(self._model.schedule(groups).blocks)
        widest = max((len(places) for places in self._chosen.values()), default=1)
        self.budget = replace(subject.budget, per_position=subject.budget.per_position + 32 * widest)
        inputs = set(inputs_of(type(intervention))) if groups else set()
        self._noisy = "noise" in inputs
        self._donors = donors_of(intervention, batch, subject.reads) if "donor" in inputs else None
        self._moments = Moments({}, {})
        self._traffic: Mapping[str, Tensor] = {}
        self._constant: Mapping[str, Tensor] = {}
        if inputs & {"mean", "std", "traffic", "constant"}:
            over = averaged_over(intervention, batch, reference, subject.reads)
            parts = list(micro_batches(over, Load(), self.budget))
        if inputs & {"mean", "std"}:
            each_position, spread = intervention.per == "position", "std" in inputs
            self._moments = moments(
                over, each_position, parts, lambda some: self._model.outputs(over.take(some), self._chosen), spread
            )
        if "constant" in inputs:
            self._constant = {
                site: subject.constants.of(
                    site,
                    _UnitsOfSite(self._model, site, intervention),
                    places.cpu().numpy(),
                    fitted_by(intervention),
                    over,
                )
                for site, places in sorted(self._chosen.items())
            }
        if "traffic" in inputs:  # a mixture's weights go to units that are not ablated as well
            chosen = self._model.all_at(self._chosen) if mixes(intervention) else self._chosen
            self._traffic = traffic(over, parts, lambda some: self._model.outputs(over.take(some), chosen))

    def begin(self, examples: Int[np.ndarray, " chosen"]) -> Predict:
        """The examples, and the intervention's inputs for them."""
        content, query = self._model.forward.tensors(self._batch.take(examples))
        replacement = self.replacement(examples)
        return lambda groups: self._model.predictions(content, query, groups, replacement, self._chosen)

    def replacement(self, examples: Int[np.ndarray, " chosen"]) -> Replacement:
        """The intervention, with its inputs for these examples."""
        donor = self._model.outputs(self._donors.take(examples), self._chosen) if self._donors else {}
        noise = self._noise(examples) if self._noisy else {}
        means, std = self._moments.mean, self._moments.std
        return Replacement(self._intervention, donor, means, std, noise, self._traffic, self._constant)

    def _noise(self, examples: Int[np.ndarray, " chosen"]) -> dict[str, Float[Tensor, "chosen places _ _"]]:
        part = self._batch.take(examples)
        sizes = {name: values.shape for name, values in self._model.outputs(part, self._chosen).items()}
        labels = {site.name: site.labels for site in self._model.sites}
        return {
            name: noise_of(
                self._intervention.seed,
                [labels[name][place] for place in places.tolist()],
                examples,
                *sizes[name][1::2],
            )
            for name, places in self._chosen.items()
        }
