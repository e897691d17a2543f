"""Finds the files of a model (a folder, a GGUF file, or the Hugging Face hub), and checks that they are complete."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.util.digest import digest_files
from harness.util.errors import HarnessError
from harness.util.paths import expanded

# Names of a repository on the hub: `gpt2`, `EleutherAI/pythia-160m`. Anything else is a path.
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
# No weights of other frameworks, no second copy of the same weights (`consolidated*`), nothing from subfolders.
_TEXTS = ["*.json", "*.txt", "*.model", "*.jinja"]
_WANTED = [*_TEXTS, "*.safetensors"]
_UNWANTED = ["*/*", "consolidated*"]
_PICKLES = ["*.bin"]
_SUFFIXES = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".json")


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk: its ``folder``, and, for a GGUF model, the name of the ``gguf`` file in it.

    ``commit`` is that of the hub, and "" for a model that was given as a path.
    """

    folder: Path
    gguf: str | None = None
    commit: str = ""

    @property
    def weights(self) -> list[Path]:
        """The files with the weights: safetensors if there are any, else pickles."""
        if self.gguf is not None:
            return [self.folder / self.gguf]
        return sorted(self.folder.glob("*.safetensors")) or sorted(self.folder.glob("*.bin"))

    def changed(self, *names: str) -> tuple[int, ...]:
        """When these of its files last changed [ns], without those that are not there; of GGUF, its only file."""
        files = [self.folder / name for name in ((self.gguf,) if self.gguf else names)]
        return tuple(file.stat().st_mtime_ns for file in files if file.is_file())

    @property
    def digest(self) -> str:
        """SHA-256 of the weight files; for a model from the hub its commit, which identifies them without reading."""
        return f"commit:{self.commit}" if self.commit else f"sha256:{digest_files(*self.weights)}"


def looks_like_path(path: str) -> bool:
    """Whether a model's name can only be a path."""
    return path.endswith(_SUFFIXES) or Path(path).exists() or _HUB_ID.fullmatch(path) is None


def find(path: str, revision: str = "main", allow_pickle: bool = False, weights: bool = True) -> ModelFiles:
    """The model's files. A model from the hub is downloaded unless it was downloaded before; ``weights=False``: only
    its configuration and its tokenizer.

    Errors: no such model, an incomplete folder, weights that are pickles, a hub that cannot be reached or refuses.
    """
    if not path:
        raise HarnessError(
            "subject.path is empty: no model is given.",
            "Give a hub id, a folder or a .gguf file: subject.path=EleutherAI/pythia-160m",
        )
    files = _on_disk(path) if looks_like_path(path) else _from_hub(path, revision, allow_pickle, weights)
    if files.gguf is None and (weights or not files.commit):
        _check_folder(path, files.folder, allow_pickle)
    return files


def _on_disk(path: str) -> ModelFiles:
    place = expanded(path).absolute()
    if not place.exists():
        raise HarnessError(
            f"subject.path={path}: there is no such file or folder (looked in {place.parent}).",
            "A hub id has the form owner/name; anything else is read as a path.",
        )
    if place.is_dir():
        return ModelFiles(place)
    if place.suffix != ".gguf":
        raise HarnessError(
            f"subject.path={path}: a single file has to be a .gguf file.",
            f"Give the folder: subject.path={place.parent}",
        )
    return ModelFiles(place.parent, gguf=place.name)


def _check_folder(path: str, folder: Path, allow_pickle: bool) -> None:
    if adapters := sorted(folder.glob("adapter_*")):  # with peft installed transformers would apply it, else not
        raise HarnessError(
            f"subject.path={path}: it has an adapter ({adapters[0].name}), which belongs to another model's weights.",
            "Merge it and save the result: model.merge_and_unload().save_pretrained(FOLDER), or move it elsewhere.",
        )
    if not (folder / "config.json").is_file():
        ggufs = sorted(folder.glob("*.gguf"))
        raise HarnessError(
            f"subject.path={path}: it has no config.json, so it is not a model in Hugging Face layout.",
            f"For the GGUF file in it: subject.path={ggufs[0]}"
            if ggufs
            else "A model saved with save_pretrained() has config.json and model.safetensors.",
        )
    if any(folder.glob("*.safetensors")):
        return
    if not any(folder.glob("*.bin")):
        raise HarnessError(
            f"subject.path={path}: it has a config.json but no weights.",
            "model.safetensors (or its shards) is missing.",
        )
    if not allow_pickle:
        raise _pickled(path)


def _pickled(path: str) -> HarnessError:
    return HarnessError(
        f"subject.path={path}: its weights are pickles (.bin), which can run code when they are loaded.",
        "If you trust their author: subject.allow_pickle=true",
    )


def _from_hub(name: str, revision: str, allow_pickle: bool, weights: bool) -> ModelFiles:
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def fetch(patterns: list[str]) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=_UNWANTED))

    try:
        folder = fetch(_WANTED if weights else _TEXTS)
        if weights and not any(folder.glob("*.safetensors")):
            if not allow_pickle:
                raise _pickled(name)
            folder = fetch(_WANTED + _PICKLES)
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        # An earlier download is enough, if it has the files that are needed here.
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if not isinstance(cached, str):
            raise _refused_by_hub(name, revision, error) from error
        folder = Path(cached).parent
    return ModelFiles(folder, commit=folder.name)


def _refused_by_hub(name: str, revision: str, error: Exception) -> HarnessError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):  # a subclass of RepositoryNotFoundError, so it comes first
        return HarnessError(
            f"subject.path={name}: the hub gives it only to users who accepted its terms.",
            f"Accept them at https://huggingface.co/{name}, then type: hf auth login\n"
            f"Or give a folder that holds it: subject.path=/folder/of/{name.rsplit('/', 1)[-1]}",
        )
    if isinstance(error, RevisionNotFoundError):
        return HarnessError(
            f"subject.revision={revision}: {name} has no such branch, tag or commit.",
            f"They are listed at https://huggingface.co/{name}/tree/main",
        )
    if isinstance(error, RepositoryNotFoundError):
        return HarnessError(
            f"subject.path={name}: the hub has no such model (or it is private), and there is no such folder here.",
            "Check the spelling of owner/name; for a private model type: hf auth login",
        )
    folder = name.rsplit("/", 1)[-1]
    return HarnessError(
        f"subject.path={name}: there is no such folder here, it was not downloaded before, and the hub cannot be "
        f"reached{' because HF_HUB_OFFLINE is set' if os.environ.get('HF_HUB_OFFLINE') else ''}.",
        f"Where there is a network, type: hf download {name} --local-dir {folder}\n"
        f"and give that folder: subject.path=./{folder}   Without any network there is subject=tiny.",
    )
