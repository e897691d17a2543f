"""Configurations of many cells: Hydra composes every distinct choice once, with the result that it has cell by cell.

Hydra takes 0.1 s per configuration. In a grid, cells differ in a few parts: the choice for a stage with its parameters,
or a setting. A part is taken from the configuration of another cell if it is independent of all other parts, and a
value (``seed=3``, ``affinity.l2=0.1``) is set in it without composing anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.default_element import DefaultsTreeNode, InputDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

Words = tuple[str, ...]
Json = dict[str, Any]


@dataclass(frozen=True)
class Composed:
    """A configuration with interpolations as they are written, and its origin.

    ``files``: every file of the defaults tree, with its place in the configuration; ``overrides``: the choices that
    files, and not words, make for others (``override /signal: ...``).
    """

    config: Json
    files: tuple[tuple[str, str], ...]
    overrides: Mapping[str, str]

    @classmethod
    def of(cls, name: str, words: Sequence[str]) -> Composed:
        """What Hydra composes. Errors: Hydra's own."""
        config = OmegaConf.to_container(compose(name, overrides=list(words)), resolve=False)
        assert isinstance(config, dict)
        found = GlobalHydra.instance().config_loader().compute_defaults_list(name, list(words), RunMode.RUN)
        by_file = {
            key: choice.containing_config_path
            for key, choice in found.overrides.override_metadata.items()
            if not choice.external_override
        }
        return cls({str(key): value for key, value in config.items()}, tuple(_files(found.defaults_tree)), by_file)

    def without(self, part: str) -> tuple[Any, ...]:
        """Everything outside of a part."""
        config = {key: value for key, value in self.config.items() if key != part}
        return config, [file for file in self.files if file[1].partition(".")[0] != part], self.overrides


def _files(tree: DefaultsTreeNode | InputDefault) -> Iterator[tuple[str, str]]:
    node = tree.node if isinstance(tree, DefaultsTreeNode) else tree
    if not node.is_virtual() and not node.is_self():
        yield node.get_config_path(), node.get_final_package()
    for child in (isinstance(tree, DefaultsTreeNode) and tree.children) or ():
        yield from _files(child)


class GridComposer:
    """Composes cells one after the other, inside of :func:`harness.registry.config.hydra_ready`.

    Words that set values change no file of the defaults tree: they are set in what the other words compose. A part (a
    key at the top of the configuration) is independent if another choice for it changes nothing outside of it: no
    value, no file of the defaults tree, no choice that a file makes for others. Its words are then composed once. The
    words of other parts are composed in all their combinations. Interpolations of values are resolved at the end, in
    the whole configuration.
    """

    def __init__(self, name: str, first_cell: Sequence[str]) -> None:
        self.name = name
        self.words: dict[str, Override] = {}
        words = tuple(word for word in first_cell if not self._may_set_value(word))
        base = Composed.of(name, words)
        self.parts = frozenset(base.config)
        self.independent = set(base.config)
        self.bases: dict[Words, tuple[Words, Composed]] = {self._rest(words): (words, base)}
        self.nodes: dict[tuple[Words, str, Words], Any] = {}

    @cached_property
    def _loader(self) -> ConfigLoaderImpl:
        loader = GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        return loader

    @cached_property
    def _parser(self) -> OverridesParser:
        return OverridesParser.create(config_loader=self._loader)

    def config(self, words: Words) -> Json:
        """The configuration of a cell, not resolved. Errors: Hydra's own."""
        values = [word for word in words if self._may_set_value(word) and self._key(word) in self.parts]
        config = self._chosen(tuple(word for word in words if word not in values))
        changed = OmegaConf.create({key: config[key] for key in map(self._key, values)})
        OmegaConf.set_struct(changed, True)
        try:
            for override in map(self._parsed, values):
                OmegaConf.update(changed, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:  # Hydra says what is wrong with a key
            return Composed.of(self.name, words).config
        set_values = OmegaConf.to_container(changed, resolve=False)
        assert isinstance(set_values, dict)
        return config | {str(key): value for key, value in set_values.items()}

    def _chosen(self, words: Words) -> Json:
        """The configuration of words that choose files."""
        rest = self._rest(words)
        if rest not in self.bases:
            self.bases[rest] = words, Composed.of(self.name, words)
        first, base = self.bases[rest]
        config = dict(base.config)
        for part in self.independent & set(map(self._part, words)):
            chosen = self._words_of(part, words)
            if chosen == self._words_of(part, first):
                continue
            if (rest, part, chosen) not in self.nodes:
                other = Composed.of(self.name, [*(word for word in first if self._part(word) != part), *chosen])
                if other.without(part) != base.without(part):
                    self.independent.remove(part)
                    return self._chosen(words)
                self.nodes[rest, part, chosen] = other.config[part]
            config[part] = self.nodes[rest, part, chosen]
        return config

    def _rest(self, words: Words) -> Words:
        return tuple(word for word in words if self._part(word) not in self.independent)

    def _words_of(self, part: str, words: Words) -> Words:
        return tuple(word for word in words if self._part(word) == part)

    def _parsed(self, word: str) -> Override:
        if word not in self.words:
            (self.words[word],) = self._parser.parse_overrides([word])
        return self.words[word]

    def _part(self, word: str) -> str:
        """The part of the configuration that a word sets; empty where the word does something else."""
        override = self._parsed(word)
        return self._key(word) if override.package is None and not override.is_delete() else ""

    def _key(self, word: str) -> str:
        return self._parsed(word).key_or_group.partition(".")[0]

    def _may_set_value(self, word: str) -> bool:
        """Whether a word replaces a value, and chooses no file. Hydra makes the same distinction."""
        override = self._parsed(word)
        key, is_plain = override.key_or_group, override.type == OverrideType.CHANGE and override.package is None
        return is_plain and (isinstance(override.value(), dict) or not self._loader.repository.group_exists(key))
