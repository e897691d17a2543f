"""The tokenizer of a model, loaded when a text is first read or shown: batches of token ids need none."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from harness.data.batch import Beginning
from harness.engine.files import ModelFiles
from harness.engine.quiet import quiet
from harness.util.errors import HarnessError

_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")


class LazyTokenizer:
    """A tokenizer that is loaded at its first use. ``path``: the model, for errors."""

    def __init__(self, path: str, files: ModelFiles) -> None:
        self._path, self._files = path, files

    @classmethod
    def of(cls, path: str, files: ModelFiles) -> LazyTokenizer | None:
        """The tokenizer beside a model. None: there are no files of one."""
        has_one = files.gguf is not None or any((files.folder / name).is_file() for name in _FILES)
        return cls(path, files) if has_one else None

    def encode(self, text: str) -> list[int]:
        """Token ids, without special tokens. Errors: the tokenizer cannot be loaded."""
        return list(self._tokenizer().encode(text, add_special_tokens=False))

    def decode(self, ids: list[int]) -> str:
        """The text of token ids. If the tokenizer cannot be loaded, the ids themselves."""
        if isinstance(self._loaded, HarnessError):
            return " ".join(map(str, ids))
        return str(self._loaded.decode(ids))

    def beginning(self) -> Beginning | None:
        """Its beginning-of-sequence token. Errors: the tokenizer cannot be loaded."""
        return beginning_of(self._tokenizer())

    def _tokenizer(self) -> Any:
        if isinstance(self._loaded, HarnessError):
            raise self._loaded
        return self._loaded

    @cached_property
    def _loaded(self) -> Any:
        """The tokenizer, or the reason why there is none: it is looked for once."""
        files = self._files
        try:
            with quiet():
                return _read(files.folder, files.gguf, files.changed(*_FILES))
        except Exception as error:  # damaged files, and those that need their own code, can raise anything
            why = " ".join(str(error).split())[:200]
            return HarnessError(
                f"subject.path={self._path}: its tokenizer cannot be loaded ({type(error).__name__}): {why}",
                "The code of a tokenizer is never run. Batches of token ids need no tokenizer: "
                "batch=synthetic_induction, batch=random_repeat",
            )


@lru_cache(maxsize=1)  # that of a GGUF file takes seconds: a batch is made before the model is loaded
def _read(folder: Path, gguf: str | None, _changed: tuple[int, ...]) -> Any:
    options = {} if gguf is None else {"gguf_file": gguf}
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
    tokenizer.model_max_length = 10**30  # batches cut texts themselves, so no warning about long ones
    return tokenizer


def beginning_of(tokenizer: Any) -> Beginning | None:
    """The beginning-of-sequence token of a tokenizer of transformers, and whether it begins every text by default."""
    token = getattr(tokenizer, "bos_token_id", None)
    if token is None:
        return None
    text = tokenizer.encode("a", add_special_tokens=False)  # an unknown word may itself be the token
    return Beginning(int(token), by_default=list(tokenizer.encode("a")[: 1 + len(text)]) == [token, *text])
