"""Hidden neurons of any torch module that takes vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from harness import HarnessError, SubjectMethod, Width, digest, digest_files, hookimpl
from harness.data.stages import FOR_ANY_UNITS
from harness.util.paths import expanded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from harness import HookedSubject

SHIPPED = Path(__file__).parent / "_classifier"
SEED = 0  # of weights that the file's function draws


@dataclass(frozen=True)
class TorchModule(SubjectMethod):
    """Hidden neurons of a torch module that takes vectors [rows, inputs] and returns [rows, outputs].

    ``module`` names your own Python file, and the function in it that returns the module: ``path/to/file.py:build``.
    The file is run, as with ``--plugin``. ``weights`` are then loaded into the module; every tensor has to fit. Without
    ``weights`` the module keeps those of the function, which is called with torch's seed at 0.

    ``sites`` are paths of modules whose outputs [rows, n] are n units. By default these are all activation functions
    (``nn.ReLU``, ``nn.GELU``), or, if there are none, all linear layers but the last. The harness's own classifier is
    used if ``module`` is empty: four classes of 12 numbers, two hidden layers.

    Units: neurons, ``<site>:<index>``; a site for each module, its depth is its place in the list.
    Errors: no file or function; a function that fails or returns something else; weights that do not fit; a module path
    that is not there; a module that does not run once in a pass, or whose output is not [rows, n].
    Source: none.
    """

    name: ClassVar[str] = "torch_module"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {**FOR_ANY_UNITS, "batch": "vectors"}
    module: str = field(
        default="",
        metadata={"help": "your Python file and its function, FILE.py:build; the file is run", "by_content": True},
    )
    weights: str = field(default="", metadata={"help": ".safetensors file of weights", "by_content": True})
    sites: tuple[int | str, ...] = field(
        default=(), metadata={"help": "modules whose outputs are the units; empty: the hidden layers"}
    )
    inputs: Annotated[int, Ge(1)] | None = field(
        default=None, metadata={"help": "numbers per example; null: those of the first linear layer"}
    )
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:1", "neutral": True})
    memory: str = field(
        default="auto",
        metadata={"help": "memory for one pass, such as 4GiB; it changes only the time", "neutral": True},
    )

    def __call__(self) -> HookedSubject:
        from harness import Features, HookedSubject
        from harness.engine.sites import module_at

        from ._module import first_inputs, hidden_layers, measured

        model = self.load()
        modules = {path: module_at(model, path) for path in [str(site) for site in self.sites] or hidden_layers(model)}
        inputs = self.inputs or first_inputs(model)
        sizes, outputs = measured(model, modules, inputs)
        sites = [
            Features(path, depth, [f"{path}:{unit}" for unit in range(sizes[path])], module, family="neuron")
            for depth, (path, module) in enumerate(modules.items())
        ]
        parameters = [(name, value.cpu().numpy()) for name, value in model.state_dict().items()]
        about = {
            "architecture": type(model).__name__,
            "module": f"{Path(self._file).name}:{self._function}" if self.module else "the harness's classifier",
            "parameters": sum(value.size for _, value in parameters),
            "weights": f"sha256:{digest(*(part for pair in parameters for part in pair))}",
            "device": str(next(iter(model.parameters())).device) if parameters else "cpu",
        }
        label = Path(self._file).stem if self.module else "classifier"
        return HookedSubject(model, sites, Width(inputs, outputs), label, about, self.memory)

    def load(self) -> nn.Module:
        """The module with its weights, on its device."""
        from harness.engine.loading import device_named

        model = self._built()
        weights = self.weights or ("" if self.module else str(SHIPPED / "weights.safetensors"))
        if weights:
            self._load(model, weights)
        return model.to(device_named(self.device)).eval()

    def fingerprint(self) -> str:
        """The contents of the file and of the weights, and the name of the function."""
        files = [self._file, *([expanded(self.weights)] if self.weights else [])]
        if not self.module:
            files.append(SHIPPED / "weights.safetensors")
        return digest([self._function, *(digest_files(file) for file in files if file.is_file())])

    @property
    def _file(self) -> Path:
        return expanded(self.module.partition(":")[0]) if self.module else SHIPPED / "model.py"

    @property
    def _function(self) -> str:
        return self.module.partition(":")[2] or "build"

    def _built(self) -> nn.Module:
        """The module that the file's function returns."""
        import runpy

        import torch

        if not self._file.is_file():
            raise self._wrong(f"there is no file {self._file}.", f"Relative paths start at {Path.cwd()}")
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(SEED)
                function = runpy.run_path(str(self._file)).get(self._function)
                model = function() if callable(function) else None
        except Exception as error:
            raise self._wrong(f"it fails with {type(error).__name__}: {error}.", "Correct the file.") from error
        if function is None:
            raise self._wrong(f"the file has no function '{self._function}'.", "Name it: subject.module=FILE.py:NAME")
        if not isinstance(model, torch.nn.Module):
            raise self._wrong(f"{self._function} returns {type(model).__name__}.", "Return an nn.Module.")
        return model

    def _load(self, model: nn.Module, weights: str) -> None:
        from safetensors.torch import load_model

        try:
            load_model(model, expanded(weights), strict=True)
        except FileNotFoundError as error:
            raise HarnessError(f"subject.weights={weights}: the file does not exist.") from error
        except Exception as error:  # safetensors and torch have an error class each
            why = " ".join(str(error).split())[:200]
            raise HarnessError(
                f"subject.weights={weights}: they do not fit {self._function}() of {self._file.name} ({why}).",
                "Save the weights of this module: safetensors.torch.save_model(model, FILE)",
            ) from error

    def _wrong(self, what: str, fix: str) -> HarnessError:
        return HarnessError(f"subject.module={self.module}: {what}", fix)


@hookimpl
def harness_subjects() -> list[type[TorchModule]]:
    return [TorchModule]
