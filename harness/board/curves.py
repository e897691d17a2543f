"""Faithfulness curves of several methods on one task."""

from __future__ import annotations

from dataclasses import dataclass

from harness.closure.faithfulness import Faithfulness


@dataclass(frozen=True)
class Curves:
    """Curves on the same test examples, by method. ``title``: subject, examples, intervention and metric."""

    title: str
    by_method: dict[str, Faithfulness]

    @property
    def names(self) -> dict[str, str]:
        """The methods without the words at their end that all of them share."""
        words = [method.split() for method in self.by_method]
        shared = 0
        while len(words) > 1 and all(len(each) > shared + 1 for each in words):
            if len({each[-1 - shared] for each in words}) > 1:
                break
            shared += 1
        return {
            method: " ".join(each[: len(each) - shared]) for method, each in zip(self.by_method, words, strict=True)
        }

    @property
    def first(self) -> Faithfulness:
        """Any of them: baselines and random rankings are the same for all."""
        return next(iter(self.by_method.values()))
