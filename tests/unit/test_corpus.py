"""The text from Python's own documentation."""

from __future__ import annotations

import inspect
import json.decoder
from pydoc_data.topics import topics

from harness.data.corpus import python_documentation


def test_pythons_documentation_is_a_million_characters_of_text_without_repeats() -> None:
    documents = python_documentation()
    assert sum(map(len, documents)) > 1_000_000
    assert len(set(documents)) == len(documents)
    assert min(map(len, documents[len(topics) :])) > 80


def test_the_corpus_begins_with_the_language_reference_and_continues_with_docstrings() -> None:
    documents = python_documentation()
    reference = list(dict.fromkeys(topics[name].strip() for name in sorted(topics)))  # two topics share a text
    assert list(documents[: len(reference)]) == reference
    assert inspect.cleandoc(json.decoder.JSONDecoder.__doc__ or "") in documents[len(reference) :]
