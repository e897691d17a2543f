"""Checks of what a subject gives to an intervention, and of what it does with the result.

The checks ablate a unit in two ways that must agree: with what the subject gives, and with constants computed from its
recordings. They tell units apart by what they hand on, so that they need no knowledge of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from harness.data.contracts import no_tick
from harness.data.first_order import FirstOrder
from harness.data.tokens import Tokens
from harness.testing.bench import Bench, bench
from harness.testing.checks import Check, NotChecked, Violation, require
from harness.testing.probes import ASKING, Constant, Keep, Mean, Noise, Output, Probe, Push, PushWhere, Std, TargetLogit

# ----------------------------------------------------------------------------------------------------------------------
# The intervention is used
# ----------------------------------------------------------------------------------------------------------------------


def hands_on_what_the_intervention_returns(plugin: Any) -> None:
    """An intervention that returns the output changes nothing; zeros, multiples and sums have the effects they must."""
    test = bench(plugin)
    conditions = [(unit,) for unit in test.units] + [test.pair]
    kept = test.evaluate(conditions, Output())
    require(
        test.same(kept, test.baseline),
        "an intervention that returns the output unchanged changes the prediction: hand on what the intervention "
        "returns, and nothing else",
    )
    for unit in test.units:
        width = _width(test, unit)
        zero, constant = test.evaluate([(unit,)], Output(0.0)), test.evaluate([(unit,)], Constant(np.zeros(width)))
        require(test.same(zero, constant), f"the output of {test.name(unit)} times 0 is not the same as zeros")
        size = test.sizes[unit]
        up, down = (test.evaluate([(unit,)], Push(sign * size)) for sign in (1, -1))
        require(
            not test.same(up, down),
            f"adding and subtracting numbers from {test.name(unit)} has one and the same effect",
        )


def gives_tensors_of_the_right_shapes(plugin: Any) -> None:
    """Outputs, noise and donors are [rows, places, units, width]; mean and std broadcast to it, in its precision."""
    test = bench(plugin)
    conditions = [(test.units[0],), test.pair, (test.units[-1],)]
    for name, kind in _asked(test):
        for probe in (kind(), kind(positions="query")):
            test.evaluate(conditions, probe)
            require(probe.shapes, f"an intervention that asks for '{name}' is never called")
            for shapes in probe.shapes:
                output, given = shapes["output"], shapes[name]
                require(len(output) == 4, f"`output` has shape {output}, not [rows, places, units, width]")
                same = name in ("output", "noise", "donor")
                fits = given == output if same else np.broadcast_shapes(given, output) == output
                require(fits, f"`{name}` has shape {given}, and `output` has shape {output}: {_SHAPES[same]}")


_SHAPES = {True: "give it the same shape", False: "give it [places, units, width], or [rows, 1, units, width]"}


def _asked(test: Bench) -> Iterator[tuple[str, type[Probe]]]:
    if not test.sizes:  # raises where no probe can be used
        return
    yield from ((name, ASKING[name]) for name in ASKING if name in test.subject.gives)


# ----------------------------------------------------------------------------------------------------------------------
# The named unit, at the right positions
# ----------------------------------------------------------------------------------------------------------------------


def ablates_the_named_unit_and_no_other(plugin: Any) -> None:
    """A change of what the named unit hands on has an effect; a change of anything else has none."""
    test = bench(plugin)
    for unit in test.units:
        label = test.name(unit)
        if not _ablates(test, unit, unit):
            raise Violation(
                f"ablating {label} does not change what is recorded as the output of {label}{_culprit(test, unit)}: "
                "use one order of units in units, record and evaluate"
            )
    if len(test.pair) > 1:
        other, unit = sorted(test.pair, key=lambda member: test.subject.units.depth_of[member])
        known, _ = test.handed_on_everywhere(test.batch, unit)
        theirs, _ = test.handed_on_everywhere(test.batch, other)
        if known.shape[1] == theirs.shape[1]:  # what both hand on does not tell them apart
            apart = np.abs(known[:, None] - theirs[None]).max(axis=2).min(axis=1)
            known = known[apart > 1e-3 * np.abs(known).max()]
        if not len(known):  # an expert that no example is routed to hands on zeros, as the other one does elsewhere
            return
        alone, together = test.evaluate([(unit,), test.pair], PushWhere(known, True, test.sizes[unit]))
        require(
            test.same(alone, together),
            f"in the group of {test.name(other)} and {test.name(unit)}, a change of the second has another effect "
            "than alone: hand on every unit's own replacement",
        )


def _ablates(test: Bench, unit: int, recorded: int) -> bool:
    """Whether ablating a unit changes what is recorded of another one, or of itself, and nothing else."""
    known, _ = test.handed_on_everywhere(test.batch, recorded)
    mine, rest = (test.evaluate([(unit,)], PushWhere(known, is_known, test.sizes[unit])) for is_known in (True, False))
    return bool(test.changed(mine).all() and not test.changed(rest).any())


def _culprit(test: Bench, unit: int) -> str:
    """The unit that changes instead, if a few tries find it."""
    site = test.subject.units.units[unit].site
    for other in [*test.candidates, *test.subject.units.at_sites([site])[:32]]:
        if other != unit and _ablates(test, unit, other):
            return f", but that of {test.name(other)}"
    return ""


def honours_positions(plugin: Any) -> None:
    """With `positions=query` a unit is ablated at the query only, else at every position."""
    test = bench(plugin)
    if not isinstance(test.batch, Tokens) or test.one_place:
        raise NotChecked("its units hand on one output per example")
    here, everywhere = [], []
    for unit in test.units:
        at_query, size = test.handed_on(test.batch, unit), test.sizes[unit]
        before, at, elsewhere = (
            test.changed(test.evaluate([(unit,)], PushWhere(at_query, known, size, positions=positions))).any()
            for known, positions in ((False, "query"), (True, "query"), (False, "all"))
        )
        require(
            not before,
            f"with positions=query, {test.name(unit)} is ablated before the query as well: replace its output at "
            "`query` only",
        )
        here.append(at)
        everywhere.append(elsewhere)
    require(any(here), "with positions=query, no unit is ablated at the query")
    if len(set(test.subject.units.depth_of[test.units])) > 1:  # the positions before the query matter in early layers
        require(
            any(everywhere), "with positions=all, units are ablated at the query only: replace them at every position"
        )


# ----------------------------------------------------------------------------------------------------------------------
# True values
# ----------------------------------------------------------------------------------------------------------------------


def gives_true_outputs(plugin: Any) -> None:
    """`output` at the query is what is recorded there."""
    test = bench(plugin)
    for unit in test.few:
        recorded = test.handed_on(test.batch, unit)
        gain = _gain(test, unit, recorded)
        given = test.evaluate([(unit,)], Output(gain, positions="query"))
        _require_examples(test, unit, given, recorded * gain, "`output` is not what is recorded of it at the query")


def gives_outputs_of_donors(plugin: Any) -> None:
    """`donor` is the output in the run of `donors(batch)`, example by example."""
    test = bench(plugin)
    kind = ASKING["donor"]
    _require_given(test, "donor")
    donors = kind().donors(test.batch)
    for unit in test.few:
        recorded = test.handed_on(donors, unit)
        gain = _gain(test, unit, recorded)
        given = test.evaluate([(unit,)], kind(gain, positions="query"))
        wrong = "`donor` is not its output for the example's own donor: keep the order of `donors(batch)`"
        _require_examples(test, unit, given, recorded * gain, wrong)


def _require_examples(
    test: Bench, unit: int, given: np.ndarray, expected: Float[np.ndarray, "examples width"], wrong: str
) -> None:
    """Every example, alone, has the same values if the unit hands on its expected numbers at the query."""
    for example, numbers in enumerate(expected):
        alone = test.batch.take(np.array([example]))
        by_hand = test.evaluate([(unit,)], Constant(numbers, positions="query"), alone)
        require(test.same(given[:, :, [example]], by_hand), f"unit {test.name(unit)}: {wrong}")


def gives_means_over_the_right_examples(plugin: Any) -> None:
    """`mean` is taken over the batch, or over the reference with `over=reference`; for all positions or `per` each."""
    test = bench(plugin)
    _require_given(test, "mean")
    _require_moments(test, Mean, "mean")


def gives_standard_deviations_over_the_right_examples(plugin: Any) -> None:
    """`std` is the standard deviation of the same outputs as `mean`."""
    test = bench(plugin)
    _require_given(test, "std")
    _require_moments(test, Std, "std")


_AVERAGES = (
    # over, per, the given reference (or none), the batch that is averaged
    ("batch", "all", "reference", "batch"),
    ("reference", "all", "reference", "reference"),
    ("reference", "position", "reference", "reference"),
    ("reference", "position", None, "batch"),
)


def _require_moments(test: Bench, kind: type[Probe], moment: str) -> None:
    """What the intervention is given has the effect of the moment of what is recorded."""
    for unit in test.few:
        for over, per, reference, averaged in _AVERAGES:
            batch = getattr(test, averaged)
            gain = _gain(test, unit, test.handed_on(batch, unit))
            probe = kind(gain, positions="query", over=over, per=per)  # type: ignore[arg-type]  # known words
            given = test.evaluate([(unit,)], probe, reference=test.reference if reference else None)
            values, positions = test.handed_on_everywhere(batch, unit)
            queries = np.unique(test.batch.query) if per == "position" and not test.one_place else [None]
            for query in queries:
                chosen = values if query is None else values[positions == query]
                number = getattr(np, moment)(chosen.astype(np.float64), axis=0) * gain
                by_hand = test.evaluate([(unit,)], Constant(number, positions="query"))
                examples = slice(None) if query is None else test.batch.query == query
                require(
                    test.same(given[..., examples], by_hand[..., examples]),
                    f"unit {test.name(unit)}, over={over}, per={per}: `{moment}` is not that of its outputs in the "
                    f"{averaged}, over {'each position' if per == 'position' else 'all positions'} up to the query "
                    "(padding does not count)",
                )


def _require_given(test: Bench, name: str) -> None:
    if name not in test.subject.gives:
        raise NotChecked(f"it does not give `{name}`")


def _gain(test: Bench, unit: int, recorded: Float[np.ndarray, "examples width"]) -> float:
    """The factor that gives recorded outputs a size with a clear effect."""
    return test.sizes[unit] / max(float(np.sqrt(np.mean(np.square(recorded)))), 1e-6)


def _width(test: Bench, unit: int) -> int:
    return int(test.handed_on(test.batch, unit).shape[1])


# ----------------------------------------------------------------------------------------------------------------------
# Noise and gradients
# ----------------------------------------------------------------------------------------------------------------------


def gives_the_same_noise_in_every_condition(plugin: Any) -> None:
    """`noise` is standard normal; it follows from the seed, the unit and the example."""
    test = bench(plugin)
    _require_given(test, "noise")
    unit = test.units[0]
    size = test.sizes[unit]
    several = [(other,) for other in test.units[1:]] + [test.pair, (unit,)]
    probe = Noise(size)
    alone = test.evaluate([(unit,)], probe)[0]
    require(
        test.same(alone, test.evaluate(several, Noise(size))[-1]),
        "the noise of a unit changes with the conditions: draw it from the seed, the unit and the example",
    )
    require(
        not test.same(alone, test.evaluate([(unit,)], Noise(size, seed=1))[0]),
        "another seed gives the same noise: draw it from intervention.seed",
    )
    twice = test.evaluate([(unit,)], Noise(size), test.batch.take(np.array([0, 0])))
    require(not test.same(twice[..., 0], twice[..., 1]), "two examples have the same noise")
    numbers = np.concatenate(probe.numbers)
    error = 6 / np.sqrt(len(numbers))
    normal = abs(numbers.mean()) <= error and abs(numbers.std() - 1) <= error
    require(normal, f"noise has mean {numbers.mean():.2f} and standard deviation {numbers.std():.2f}, not 0 and 1")


def estimates_damage_to_first_order(plugin: Any) -> None:
    """`first_order` is the slope of a metric towards what the intervention gives; by default, the target's to zero."""
    test = bench(plugin)
    if "first_order" not in test.subject.sources or not test.precise:
        raise NotChecked("it does not record `first_order`, or not in 32 bits")
    readings = test.record(test.batch, "first_order")[1].readings["signal"][:, test.units].T
    conditions, step = [(unit,) for unit in test.units], 0.05
    up, down = (test.evaluate(conditions, Output(1 + s), metrics=[TargetLogit()])[:, 0] for s in (step, -step))
    slope = (up - down) / (2 * step)
    worst = np.abs(slope - readings).max()
    require(
        worst <= 0.1 * np.abs(slope).max() + test.tolerance / step,
        f"`first_order` differs by {worst:.2g} from the slope of the target's output when outputs are scaled: it is "
        "the gradient times what the unit hands on, summed over positions; with positions=all, a unit is ablated at "
        "every position",
    )
    half = FirstOrder(Keep("first_order"), Output(0.5), TargetLogit())
    readings = test.subject.record(test.batch, {"signal": half}, no_tick).readings["signal"][:, test.units].T
    worst = np.abs(slope / 2 - readings).max()
    require(
        worst <= 0.1 * np.abs(slope).max() + test.tolerance / step,
        f"`first_order` for an intervention that halves outputs differs by {worst:.2g} from half the slope: use the "
        "intervention and the metric of the reader (harness.data.first_order.FirstOrder)",
    )


ABLATION: tuple[Check, ...] = (
    hands_on_what_the_intervention_returns,
    gives_tensors_of_the_right_shapes,
    ablates_the_named_unit_and_no_other,
    honours_positions,
    gives_true_outputs,
    gives_outputs_of_donors,
    gives_means_over_the_right_examples,
    gives_standard_deviations_over_the_right_examples,
    gives_the_same_noise_in_every_condition,
    estimates_damage_to_first_order,
)
