"""Parameters are checked by their annotations, and every refusal says what a value must be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen
from pydantic import AfterValidator

from harness.registry.config import registry
from harness.util.errors import HarnessError, PluginError
from harness.util.validation import type_text, validated

if TYPE_CHECKING:
    from fractions import Fraction


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


@dataclass(frozen=True)
class Parameters:
    at_least: Annotated[int, Ge(1)] = 99
    above: Annotated[float, Gt(0)] = 0.5
    below: Annotated[float, Lt(1)] = 0.5
    at_most: Annotated[int, Le(3)] = 3
    between: Annotated[float, Interval(ge=0, lt=1)] = 0.75
    optional: Annotated[int, Ge(1)] | None = None
    several: Annotated[tuple[Annotated[int, Ge(2)], ...], MinLen(1)] = (4, 6)
    either: int | Literal["final"] = "final"
    choice: Literal["abs", "signed"] = "abs"
    flag: bool = True
    text: str = ""
    even: Annotated[int, AfterValidator(_even)] = 0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"at_least": 0}, "controls.at_least=0: must be at least 1. The default is 99."),
        ({"at_least": 1.5}, "controls.at_least=1.5: must be an integer. The default is 99."),
        ({"at_least": "many"}, "controls.at_least='many': must be an integer. The default is 99."),
        ({"at_least": None}, "controls.at_least=None: must be an integer. The default is 99."),
        ({"above": 0}, "controls.above=0: must be greater than 0. The default is 0.5."),
        ({"above": "much"}, "controls.above='much': must be a number. The default is 0.5."),
        ({"above": float("nan")}, "controls.above=nan: must be a finite number. The default is 0.5."),
        ({"above": float("inf")}, "controls.above=inf: must be a finite number. The default is 0.5."),
        ({"below": 1}, "controls.below=1: must be less than 1. The default is 0.5."),
        ({"below": float("-inf")}, "controls.below=-inf: must be a finite number. The default is 0.5."),
        ({"at_most": 4}, "controls.at_most=4: must be at most 3. The default is 3."),
        ({"between": -1}, "controls.between=-1: must be at least 0. The default is 0.75."),
        ({"between": 1}, "controls.between=1: must be less than 1. The default is 0.75."),
        ({"optional": 0}, "controls.optional=0: must be at least 1. The default is None."),
        ({"several": []}, "controls.several=[]: must have 1 or more entries. The default is [4, 6]."),
        ({"several": [4, 1]}, "controls.several.1=1: must be at least 2. The default is [4, 6]."),
        ({"several": 4}, "controls.several=4: must be a list, such as [1, 2]. The default is [4, 6]."),
        ({"either": "last"}, "controls.either='last': must be an integer or must be 'final'. The default is 'final'."),
        ({"choice": "cube"}, "controls.choice='cube': must be 'abs' or 'signed'. The default is 'abs'."),
        ({"flag": "maybe"}, "controls.flag='maybe': must be true or false. The default is True."),
        ({"text": 3}, "controls.text=3: must be text. The default is ''."),
        ({"even": 3}, "controls.even=3: must be even. The default is 0."),
    ],
)
def test_an_invalid_value_gives_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HarnessError) as caught:
        validated(Parameters, values, "controls.")
    assert str(caught.value) == sentence


def test_each_bad_value_has_a_line() -> None:
    with pytest.raises(HarnessError) as caught:
        validated(Parameters, {"text": 3, "at_least": 0})
    assert str(caught.value).splitlines() == [
        "at_least=0: must be at least 1. The default is 99.",
        "text=3: must be text. The default is ''.",
    ]


def test_valid_values_are_converted_and_missing_ones_have_their_defaults() -> None:
    found = validated(Parameters, {"at_least": "7", "above": 1, "several": [2, 3]})
    assert found == Parameters(at_least=7, above=1.0, several=(2, 3))
    assert isinstance(found.above, float)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("int", "int"),
        ("Literal['abs', 'signed']", "Literal['abs', 'signed']"),
        ("Annotated[int, Ge(1)]", "int >= 1"),
        ("Annotated[int, Ge(1)] | None", "int >= 1 | None"),
        ("Annotated[float, Interval(ge=0, lt=1)]", "float >= 0 and < 1"),
        ("Annotated[float, Gt(0), Lt(1)]", "float > 0 and < 1"),
        ("tuple[Annotated[int, Ge(2)], ...]", "tuple[int >= 2, ...]"),
        ("Annotated[tuple[Annotated[int, Ge(2)], ...], MinLen(1)]", "tuple[int >= 2, ...] of length >= 1"),
        ("Annotated[str, AfterValidator(size)]", "str"),
        (int, "int"),
        (Annotated[int, Ge(1)], "int >= 1"),
        (Annotated[int, Ge(1)] | None, "Optional[int >= 1]"),
    ],
)
def test_types_are_shown_with_their_bounds(annotation: Any, text: str) -> None:
    assert type_text(annotation) == text


def test_an_annotation_without_source_text_is_shown_unchanged() -> None:
    assert type_text(Annotated[int, AfterValidator(_even)]).startswith("typing.Annotated[int, AfterValidator(")


@dataclass(frozen=True)
class Contradicted:
    n: Annotated[int, Ge(1)] = 0


@dataclass(frozen=True)
class Unreadable:
    share: Fraction | None = None


@dataclass(frozen=True)
class Dependent:
    low: int = 0
    high: int = field(default=1)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise HarnessError(f"low={self.low}: must be at most high={self.high}.")


def test_a_default_that_contradicts_its_annotation_is_an_error_of_the_class() -> None:
    with pytest.raises(
        PluginError, match="Contradicted: the default n=0 contradicts its annotation: must be at least 1"
    ):
        validated(Contradicted, {})
    assert validated(Contradicted, {"n": 2}) == Contradicted(2)


def test_an_unreadable_annotation_is_an_error_of_the_class() -> None:
    with pytest.raises(PluginError, match="Unreadable: the annotation of a field cannot be read") as caught:
        validated(Unreadable, {})
    assert "TYPE_CHECKING" in caught.value.fix


def test_the_message_of_a_check_across_fields_is_shown_unchanged() -> None:
    with pytest.raises(HarnessError, match=r"^low=2: must be at most high=1\.$"):
        validated(Dependent, {"low": 2})


@pytest.mark.parametrize("value", [10**19, -(10**5000), [1, 10**400], (2**64,)], ids=["int", "digits", "list", "tuple"])
def test_numbers_that_64_bits_do_not_hold_are_refused(value: Any) -> None:
    with pytest.raises(HarnessError, match=r"batch\.n: a number has more than 63 bits"):
        registry().get("batch", "synthetic_induction").build({"n": value})


@pytest.mark.parametrize("value", [-1, 2**32])
def test_seeds_that_libraries_do_not_take_are_refused(value: int) -> None:
    @dataclass(frozen=True)
    class Method:
        seed: int = 0

    with pytest.raises(HarnessError, match=rf"partitioner\.seed={value}: must be from 0 to 4294967295"):
        validated(Method, {"seed": value}, "partitioner.")


def test_a_long_value_is_cut_in_its_message() -> None:
    with pytest.raises(HarnessError, match=r"batch\.n='xxx") as caught:
        registry().get("batch", "synthetic_induction").build({"n": "x" * 5000})
    assert len(str(caught.value)) < 400
