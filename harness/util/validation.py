"""Checks parameters by the annotations of a dataclass, and writes one sentence for each value that does not fit."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from harness.util.errors import HarnessError, PluginError

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails, ValidationError

T = TypeVar("T")

SENTENCES: Mapping[str, str] = {
    "missing": "must be given",
    "greater_than": "must be greater than {gt:.15g}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "less_than": "must be less than {lt:.15g}",
    "less_than_equal": "must be at most {le:.15g}",
    "multiple_of": "must be a multiple of {multiple_of:.15g}",
    "finite_number": "must be a finite number",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list, such as [1, 2]",
    "list_type": "must be a list, such as [1, 2]",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have {max_length} or fewer entries",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
}
"""The requirement on a value, by pydantic's type of error. Errors of another type keep pydantic's own sentence."""


BITS = 63
"""Of a whole number."""
SEEDS = 2**32
"""Number of seeds: scikit-learn and NumPy take no others."""
LONGEST = 200
"""Characters of a wrong value in a message."""
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "minlen": "of length >=", "maxlen": "of length <="}


def validated(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """An instance of a dataclass. Values are checked, and converted, by the annotations of its fields.

    A float is a finite number, a whole number fits into 64 bits, a ``seed`` into 32. Names that are not
    fields are ignored. ``prefix`` precedes each name in a message (``controls.``).

    Errors: :class:`HarnessError`, one line for each value that does not fit; :class:`PluginError` where a default
    contradicts its own annotation, or an annotation cannot be read; all errors of ``__post_init__``.
    """
    from pydantic import PydanticUserError, ValidationError

    _check_numbers(values, prefix)
    try:
        instance: T = _adapter(cls).validate_python(dict(values))  # type: ignore[arg-type] # mypy: type[T] not hashable
    except ValidationError as error:
        raise _refusal(cls, values, prefix, error) from error
    except PydanticUserError as error:
        raise PluginError(
            f"{cls.__qualname__}: the annotation of a field cannot be read ({error.message.splitlines()[0]})",
            "Use int, float, bool, str, Literal or tuples of these; import them outside `if TYPE_CHECKING`.",
        ) from error
    return instance


@cache
def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter, with_config

    return TypeAdapter(with_config(ConfigDict(allow_inf_nan=False, validate_default=True))(cls))


def _refusal(cls: type[Any], values: Mapping[str, Any], prefix: str, error: ValidationError) -> HarnessError:
    problems: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for problem in error.errors():
        name, *inside = problem["loc"]
        place = (name, *(part for part in inside if isinstance(part, int)))  # without the names of a union's types
        problems.setdefault(place, []).append(problem)
    lines = []
    for place, details in problems.items():
        given = f"{'.'.join(map(str, place))}={_shown(details[0]['input'])}"
        rule = " or ".join(dict.fromkeys(map(_rule, details)))
        if place[0] not in values:
            return PluginError(
                f"{cls.__qualname__}: the default {given} contradicts its annotation: {rule}.",
                f"Change the default or the annotation of {place[0]} in {cls.__module__}.",
            )
        default = next(field.default for field in fields(cls) if field.name == place[0])
        shown = list(default) if isinstance(default, tuple) else default
        lines.append(f"{prefix}{given}: {rule}." + ("" if default is MISSING else f" The default is {shown!r}."))
    return HarnessError("\n".join(lines))


def _check_numbers(values: Mapping[str, Any], prefix: str) -> None:
    """Refuse whole numbers that 64 bits do not hold, also inside lists: Python cannot even print the largest ones.

    Also refuse seeds that libraries do not take.
    """
    for name, value in values.items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, int) and number.bit_length() > BITS:
                raise HarnessError(f"{prefix}{name}: a number has more than {BITS} bits.", f"Use one below 2**{BITS}.")
        if name == "seed" and isinstance(value, int) and not 0 <= value < SEEDS:
            raise HarnessError(f"{prefix}seed={value}: must be from 0 to {SEEDS - 1}.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _rule(problem: ErrorDetails) -> str:
    sentence = SENTENCES.get(problem["type"])
    return sentence.format(**problem.get("ctx", {})) if sentence else problem["msg"]


def type_text(annotation: Any) -> str:
    """An annotation for readers: ``Annotated[float, Interval(ge=0, lt=1)]`` is ``float >= 0 and < 1``."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    try:
        return ast.unparse(_Bounds().visit(ast.parse(text, mode="eval")))
    except SyntaxError:  # it contains an object whose repr is not code
        return text


class _Bounds(ast.NodeTransformer):
    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if not ast.unparse(node.value).endswith("Annotated") or not isinstance(node.slice, ast.Tuple):
            return node
        plain, *limits = node.slice.elts
        bounds = [
            (sign, ast.unparse(value))
            for limit in limits
            if isinstance(limit, ast.Call)
            for sign, value in [
                *((ast.unparse(limit.func).lower(), value) for value in limit.args),
                *((str(keyword.arg), keyword.value) for keyword in limit.keywords),
            ]
        ]
        texts = [f"{SIGNS[sign]} {value}" for sign, value in bounds if sign in SIGNS]
        return ast.Name(f"{ast.unparse(plain)} {' and '.join(texts)}".strip())
