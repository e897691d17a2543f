"""How the words of a command line are read: which of them are overrides, and what their values mean.

Every command reads its words here, and only here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from harness.cells.settings import Settings
from harness.data.stages import STAGES
from harness.records.upgrades import SETTINGS_2
from harness.registry.command import quoted
from harness.registry.presets import GROUPS
from harness.registry.registry import Registry
from harness.util.errors import HarnessError

KEYS = frozenset({*STAGES, *GROUPS, *Settings.__dataclass_fields__, *SETTINGS_2, "contrast", "hydra"})
"""The first names of all keys of the configuration, and of those that had another name."""
EXAMPLES = {"workspace": "DIR", "out": "DIR", "tracking": "URI", "cache_limit": "SIZE", "worlds": "N"}
"""Keys that commands without a configuration take, with what stands after ``=``."""
FOLDERS = ("workspace", "out")
"""Keys that name one folder: their value is text, whatever it looks like."""
TEXT = re.compile(r"(str|Literal\['[^]]*\])( \| None)?")
"""The types of parameters that take text, or one of several texts."""


@dataclass(frozen=True)
class Words:
    """The words of a command: ``overrides`` of the configuration, ``own`` words with a key that only this command has
    (``out=DIR``), and ``names`` (cells, units, methods, folders)."""

    overrides: tuple[str, ...]
    own: tuple[str, ...]
    names: tuple[str, ...]


def separated(words: Iterable[str], keys: Sequence[str], configured: bool, named: bool) -> Words:
    """Sort words by their kind. A word is an override only if its left side is a key that the command takes.

    ``keys``: those of the command; ``configured``: it takes those of the configuration as well; ``named``: it takes
    names. Errors: a key that has no effect here; text that no file can have in its name.
    """
    overrides: list[str] = []
    own: list[str] = []
    names: list[str] = []
    takes = {*keys, *(KEYS if configured else ())}
    for word in words:
        _check_text(word)
        key = key_of(word)
        if key in takes:
            (overrides if key in KEYS else own).append(word)
        elif configured and (key or (not named and ("=" in word or word.startswith("~")))):
            overrides.append(word)  # Hydra says what is wrong with it
        elif (key in KEYS or (key and not named)) and not os.path.exists(word):
            possible = " and ".join(f"{taken}={EXAMPLES[taken]}" for taken in keys)
            raise HarnessError(f"'{word}' has no effect here.", f"This command takes {possible}.")
        else:
            names.append(word)
    return Words(tuple(overrides), tuple(own), tuple(names))


def key_of(word: str) -> str:
    """The first name of the key that a word sets or deletes (``batch`` of ``batch.n=8``); empty where it does neither.

    Only the form counts: the left side of ``spectral(k=[4])`` or ``./a=b`` is no key.
    """
    left, equals, _ = word.partition("=")
    key = re.fullmatch(r"(~|\+{0,2})([A-Za-z_]\w*)(?:[./@].*)?", left, re.DOTALL)
    return key[2] if key and (equals or key[1] == "~") else ""


def as_read(word: str, methods: Registry) -> str:
    """An override as Hydra has to read it.

    The value of a folder (:data:`FOLDERS`) is text, and so is that of a parameter that takes text, where Hydra would
    read a number or nothing at all: ``workspace=2026``, ``batch.text=a=b.txt``.
    """
    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    if not equals or name.startswith("~"):
        return word
    parsed = _parsed(word)
    if name in FOLDERS:
        return word if parsed and isinstance(parsed.value(), str) else f"{key}={quoted(value)}"
    if parsed is None or isinstance(parsed.value(), int | float):
        return f"{key}={quoted(value)}" if _takes_text(name, methods) else word
    return word


def value_of(word: str) -> Any:
    """The value of a word, as Hydra reads it. Errors: it cannot be read."""
    if (parsed := _parsed(word)) is None or parsed.is_sweep_override():
        raise HarnessError(f"'{word}' has no value that can be read.", "Examples: steps=500, 'sites=[linear1,linear2]'")
    return parsed.value()


def without_repeats(word: str) -> str:
    """A sweep with every value once: ``seed=0,1`` for ``seed=0,1,0``."""
    parsed = _parsed(word)
    values = parsed.value() if parsed else None
    if parsed is None or not isinstance(values, ChoiceSweep) or not values.simple_form:
        return word
    return f"{word.partition('=')[0]}={','.join(dict.fromkeys(map(str, parsed.sweep_string_iterator())))}"


def _parsed(word: str) -> Override | None:
    try:
        return OverridesParser.create().parse_overrides([word])[0]
    except HydraException:
        return None


def _takes_text(key: str, methods: Registry) -> bool:
    """Whether a key takes text: a setting, or a parameter in all methods of the stage that have it."""
    first, *rest = key.split(".")
    if not rest:
        return first in KEYS and getattr(Settings.__dataclass_fields__.get(first), "type", "") == "str"
    stage = "batch" if first == "contrast" else first
    having = [method for (of, _), method in methods.methods.items() if of == stage and rest[-1] in method.parameters]
    return bool(having) and all(TEXT.fullmatch(method.types[rest[-1]]) for method in having)


def _check_text(word: str) -> None:
    try:
        is_text = "\0" not in word and bool(word.encode())
    except UnicodeEncodeError:
        is_text = False
    if not is_text and word:
        raise HarnessError(f"{word!a} is not text: it holds a NUL or is not UTF-8.", "Rename what it names.")
