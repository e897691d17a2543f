"""From a hub id, a folder or a GGUF file to a model. Every weight comes from the files; no code of a model runs."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from harness.data.batch import Beginning, Vocabulary
from harness.engine.families import sites_of_families
from harness.engine.files import ModelFiles, find
from harness.engine.finite import fault_of_weights, not_finite
from harness.engine.hooked import HookedSubject
from harness.engine.quiet import quiet
from harness.engine.subject import HeadSubject, vocabulary_of, vocabulary_of_config
from harness.engine.tokenizer import LazyTokenizer
from harness.util.errors import HarnessError

Dtype = Literal["float32", "bfloat16", "float16"]
_ADAPTED = re.compile(r"lora_|adapter|\.base_layer\.|modules_to_save|vera_|\.ia3_")
_NAMED = 3
"""Names of weights in a message."""


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in memory. ``encode``, ``decode``, ``beginning``: see
    :class:`harness.data.batch.Vocabulary`; ``about``: see :class:`harness.data.contracts.Subject`. ``label``: its name
    in results.
    """

    model: PreTrainedModel
    label: str
    encode: Callable[[str], list[int]] | None
    about: Mapping[str, Any]
    decode: Callable[[list[int]], str] | None = None
    beginning: Callable[[], Beginning | None] | None = None

    @property
    def reads(self) -> Vocabulary:
        """What it reads."""
        return vocabulary_of(self.model, self.encode, self.decode, self.beginning)

    def described(self, **about: Any) -> LoadedModel:
        """The same model with other entries of ``about``."""
        return replace(self, about={**self.about, **about})

    def heads(self, memory: str = "auto") -> HeadSubject:
        """Its attention heads as a subject."""
        with quiet():
            subject = HeadSubject(
                self.model, self.label, self.encode, self.about, memory, decode=self.decode, beginning=self.beginning
            )
        subject.about |= {"layers": len(subject.units.sites), "heads": len(subject.units)}
        return subject

    def units(
        self, families: Collection[str], memory: str = "auto", layers: Collection[int] | None = None
    ) -> HookedSubject:
        """Units of any families (:data:`harness.engine.families.FAMILIES`). ``layers``: those whose neurons are units.

        Errors: those of :func:`harness.engine.families.sites_of_families`.
        """
        with quiet():
            sites = sites_of_families(self.model, families, layers)
            subject = HookedSubject(self.model, sites, self.reads, self.label, self.about, memory)
        subject.about |= {"sites": len(sites), "units": len(subject.units)}
        return subject


class Options(TypedDict, total=False):
    """How a model is loaded (``load``)."""

    revision: str
    dtype: Dtype
    device: str
    device_map: str | None
    allow_pickle: bool
    tokenizer: str | None
    label: str | None


def load(
    path: str,
    *,
    revision: str = "main",
    dtype: Dtype = "float32",
    device: str = "auto",
    device_map: str | None = None,
    allow_pickle: bool = False,
    tokenizer: str | None = None,
    label: str | None = None,
) -> LoadedModel:
    """A causal language model.

    ``path``: a hub id, a folder in Hugging Face layout, or a ``.gguf`` file. ``device``: ``auto`` is the first CUDA
    device if there is one; ``device_map`` spreads the model over devices instead. ``tokenizer``: a folder with a
    tokenizer, for a model without one. Code that comes with a model is never run.

    Errors: those of :func:`harness.engine.files.find`; missing weights; a model that is not a causal language model; a
    device that does not exist or is too small; a missing package.
    """
    files = find(path, revision, allow_pickle)
    _check_packages(files, device_map)
    first_device = torch.device("cpu") if device_map else device_named(device)
    with quiet(), _explained(path, dtype):
        model, unused = _model(path, files, getattr(torch, dtype), device_map)
        if device_map is None:
            model.to(first_device)  # type: ignore[arg-type]  # transformers types its wrapper as if it were unbound
        if fault_of_weights(model):
            raise not_finite(f"subject.path={path}", "its weights are not finite", model)
    text = LazyTokenizer.of(path, files if tokenizer is None else ModelFiles(Path(tokenizer)))
    about = {
        "architecture": type(model).__name__,
        "path": path,
        "revision": files.commit,
        "dtype": dtype,
        "device": _devices(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights": files.digest,
        **({"unused_weights": unused} if unused else {}),
    }
    name = label or _label(path, revision, files)
    if text is None:
        return LoadedModel(model, name, None, about)
    return LoadedModel(model, name, text.encode, about, text.decode, text.beginning)


def vocabulary_in(path: str, revision: str = "main", allow_pickle: bool = False) -> Vocabulary:
    """What a model reads, without loading its weights: from its configuration and its tokenizer.

    Errors: those of :func:`harness.engine.files.find`; a configuration that transformers cannot load.
    """
    files = find(path, revision, allow_pickle, weights=False)
    _check_packages(files, None)
    with quiet(), _explained(path, "float32"):
        config = _config(files)
    text = LazyTokenizer.of(path, files)
    return vocabulary_of_config(config, *((text.encode, text.decode, text.beginning) if text else ()))


def load_model(path: str, *, memory: str = "auto", **options: Unpack[Options]) -> HeadSubject:
    """The attention heads of a causal language model.

    ``path``: a hub id, a folder in Hugging Face layout, or a ``.gguf`` file. ``options``: ``revision``, ``dtype``,
    ``device``, ``device_map``, ``allow_pickle``, ``tokenizer``, ``label``. ``memory``: how much memory a pass may use.

    Errors: a model that cannot be found or loaded; one whose attention cannot be intercepted.
    """
    return load(path, **options).heads(memory)


def _model(path: str, files: ModelFiles, dtype: torch.dtype, device_map: str | None) -> tuple[PreTrainedModel, str]:
    """The model in evaluation mode, with every weight read from the files, and which weights of the files it lacks."""
    config = _config(files)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise HarnessError(
            f"subject.path={path}: a {config.model_type or type(config).__name__} is not a causal language model.",
            "Units are ablated in models that predict the next token (transformers' AutoModelForCausalLM).",
        )
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        files.folder,
        config=config,
        dtype=dtype,
        device_map=device_map,
        use_safetensors=all(weights.suffix == ".safetensors" for weights in files.weights),
        output_loading_info=True,  # transformers fills missing weights at random, with only a warning
        trust_remote_code=False,
        **({} if files.gguf is None else {"gguf_file": files.gguf}),
    )
    model: PreTrainedModel = loaded[0]
    report: dict[str, Any] = loaded[1]
    wrong = [*report["missing_keys"], *(str(key) for key, *_ in report["mismatched_keys"])]
    if wrong:
        raise HarnessError(
            f"subject.path={path}: {_listed(wrong)} of {type(model).__name__} are missing or misshapen.",
            "Its config.json and its weights do not belong together, or a file is incomplete.",
        )
    unused = list(report["unexpected_keys"])
    if adapted := [name for name in unused if _ADAPTED.search(name)]:
        raise HarnessError(
            f"subject.path={path}: {_listed(adapted)} belong to an adapter, which {type(model).__name__} would ignore.",
            "Merge the adapter into the model and save it: model.merge_and_unload().save_pretrained(FOLDER)",
        )
    model.eval()
    return model, _listed(unused) if unused else ""


def _config(files: ModelFiles) -> PreTrainedConfig:
    return deepcopy(_config_read(files.folder, files.gguf, files.changed("config.json")))  # models change theirs


@lru_cache(maxsize=1)  # a GGUF file takes seconds to read, before its batch is made and again for the model
def _config_read(folder: Path, gguf: str | None, _changed: tuple[int, ...]) -> PreTrainedConfig:
    options = {} if gguf is None else {"gguf_file": gguf}
    config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False, **options)
    return config


def _listed(names: Collection[str]) -> str:
    """``12 weights (a, b, c ...)``."""
    shown = ", ".join(sorted(names)[:_NAMED]) + (" ..." if len(names) > _NAMED else "")
    return f"{len(names)} weight{'' if len(names) == 1 else 's'} ({shown})"


@contextmanager
def _explained(path: str, dtype: str) -> Iterator[None]:
    """Errors of transformers as one sentence. The original stays in the chain, for --debug."""
    try:
        yield
    except HarnessError:
        raise
    except torch.OutOfMemoryError as error:
        raise HarnessError(
            f"subject.path={path}: it does not fit into the memory of the device in {dtype}.",
            "Spread it over all devices: subject.device_map=auto"
            + ("   Or halve it: subject.dtype=bfloat16" if dtype == "float32" else ""),
        ) from error
    except Exception as error:  # damaged configurations, weights and tokenizers can raise anything
        words = " ".join(str(error).split())
        raise HarnessError(
            f"subject.path={path}: transformers cannot load it ({type(error).__name__}): {words[:200]}",
            "HARNESS_DEBUG=1 shows the messages of transformers.",
        ) from error


def _check_packages(files: ModelFiles, device_map: str | None) -> None:
    needed = {"gguf": files.gguf is not None, "accelerate": files.gguf is not None or device_map is not None}
    missing = [name for name, need in needed.items() if need and importlib.util.find_spec(name) is None]
    if missing:
        what = "a GGUF file" if files.gguf is not None else f"subject.device_map={device_map}"
        raise HarnessError(
            f"{what} needs {' and '.join(missing)}, which is not installed.",
            'Type: pip install "closure-harness[gguf]"',
        )


def device_named(device: str) -> torch.device:
    """The device that ``subject.device`` names; ``auto`` is the first CUDA device, or the processor.

    Errors: not a device; a CUDA device that this machine does not have.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if re.fullmatch(r"cpu|cuda(:\d+)?", device) is None:
        raise HarnessError(f"subject.device={device} is not a device.", "Devices: auto, cpu, cuda, cuda:1")
    chosen = torch.device(device)
    count = torch.cuda.device_count()
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise HarnessError(
            f"subject.device={device}: this machine has {count or 'no'} CUDA device{'' if count == 1 else 's'} "
            f"that torch {torch.__version__} can use.",
            "subject.device=auto takes the first CUDA device, or else the processor.",
        )
    return chosen


def _devices(model: PreTrainedModel) -> str:
    """The devices of the weights: ``cpu``, ``cuda:0 (NVIDIA H200)``, or several."""
    devices = sorted({parameter.device for parameter in model.parameters()}, key=str)
    return ", ".join(f"{d} ({torch.cuda.get_device_name(d)})" if d.type == "cuda" else str(d) for d in devices)


COMMON = re.compile(
    r"(checkpoint|ckpt|global|step|epoch|iter|model|final|best|last|latest|main|output|out|weights|hf|export|merged|v|ggml)?"
    r"[-_.]?(step|model)?[-_.]?\d*",
    re.IGNORECASE,
)
"""Names of folders and files that many models have: they are shown with the folder above."""


def _label(path: str, revision: str, files: ModelFiles) -> str:
    """The model's name in results: the last part of its path, and the revision unless it is ``main``.

    A name that many models have (``checkpoint-100``) is preceded by the folder above.
    """
    if files.commit:
        name = path.rsplit("/", 1)[-1]
        return name if revision == "main" else f"{name}@{revision}"
    folder = Path(os.path.normpath(files.folder))  # of `..`, the folder that it is
    parts = [*folder.parts[1:], *([Path(files.gguf).stem] if files.gguf is not None else [])] or [str(folder)]
    place = len(parts) - 1
    while place > 0 and len(parts) - place < 3 and COMMON.fullmatch(parts[place]):
        place -= 1
    return "/".join(parts[place:])
