"""A decomposition: rank-one subcomponents of a model's matrices with their importances, and its file."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from harness.decomposition.importance import IMPORTANCES, Importance
from harness.decomposition.targets import TOYS, Toy, weights_digest
from harness.engine.sites import module_at, weight_of
from harness.util.arrays import read_arrays
from harness.util.errors import HarnessError
from harness.util.json_files import parse_json
from harness.util.paths import expanded

HEADER = "decomposition"
LARGEST_HEADER = 2**24
"""Bytes of the JSON in a file's header."""


@dataclass(frozen=True, eq=False)
class Subcomponents:
    r"""The subcomponents of one matrix: :math:`W \approx \sum_c U_c V_c^\top`, with W [outputs, inputs].

    ``v`` [subcomponents, inputs]: what each reads; ``u`` [subcomponents, outputs]: what it writes.
    """

    v: Float[Tensor, "subcomponents inputs"]
    u: Float[Tensor, "subcomponents outputs"]
    importance: Importance

    @property
    def weight(self) -> Float[Tensor, "outputs inputs"]:
        """The sum of all subcomponents."""
        return self.u.T @ self.v

    def importances(
        self, inputs: Float[Tensor, "*rows inputs"], examples: Shaped[Tensor, "*_"] | None = None
    ) -> Float[Tensor, "*rows subcomponents"]:
        """How much the site's inputs need each subcomponent, in [0, 1]. ``examples``: the model's input."""
        result: Tensor = self.importance(inputs, inputs @ self.v.T, examples)
        return result.clamp(0, 1)


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Subcomponents by site (the path of a linear module), and where they come from.

    ``label``: the target's; ``target_digest``: of its weights (:func:`harness.decomposition.targets.weights_digest`).
    ``target``: the target itself if it is a toy, which is stored in the same file. ``tied``: the sites share tensors
    (encoder and decoder of an autoencoder), so that their pairing is built in. ``settings``: of the training (penalty,
    steps, seed, ...), empty for an oracle. ``fidelity``: measures of its quality, by name. ``truth``: the mechanism of
    every subcomponent, by site, where it is known by construction. ``examples``: some of those that it was trained on,
    if the target is no toy: they show which subcomponents are alive.
    """

    sites: Mapping[str, Subcomponents]
    label: str
    target_digest: str
    target: Toy | None = None
    tied: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    fidelity: Mapping[str, float] = field(default_factory=dict)
    truth: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    examples: Shaped[Tensor, "rows _"] | None = None

    def importances(
        self, inputs: Mapping[str, Float[Tensor, "*rows _"]], examples: Shaped[Tensor, "*_"] | None = None
    ) -> dict[str, Float[Tensor, "*rows _"]]:
        """Importances in [0, 1] by site, from the inputs of every site in the undamaged target."""
        return {path: site.importances(inputs[path], examples) for path, site in self.sites.items()}

    def to(self, device: torch.device) -> Decomposition:
        """The same decomposition with its subcomponents and examples on a device."""
        sites = {
            path: Subcomponents(site.v.to(device), site.u.to(device), site.importance.to(device))
            for path, site in self.sites.items()
        }
        return replace(self, sites=sites, examples=None if self.examples is None else self.examples.to(device))

    def check(self, model: nn.Module) -> None:
        """Refuse another model than the one that was decomposed. Errors: other weights; a matrix of another shape."""
        if (found := weights_digest(model)) != self.target_digest:
            raise HarnessError(
                f"the decomposition is one of {self.label} with weights {self.target_digest[:12]}; this model has "
                f"weights {found[:12]}.",
                "Give the model that was decomposed, or decompose this one: harness decompose",
            )
        self._check_shapes(model)

    def save(self, path: str | Path) -> None:
        """Write one .safetensors file: all tensors, and JSON in its header."""
        from safetensors.torch import save_file

        tensors = {f"site/{name}/{part}": getattr(site, part) for name, site in self.sites.items() for part in "vu"}
        for name, site in self.sites.items():
            tensors |= {f"site/{name}/importance/{key}": value for key, value in site.importance.state_dict().items()}
        if self.target is not None:
            tensors |= {f"target/{key}": value for key, value in self.target.state_dict().items()}
        if self.examples is not None:
            tensors["examples"] = self.examples
        header = {
            "sites": {name: site.importance.kind for name, site in self.sites.items()},
            "label": self.label,
            "target_digest": self.target_digest,
            "toy": {"kind": self.target.kind, "sizes": dict(self.target.sizes)} if self.target else None,
            "tied": self.tied,
            "settings": dict(self.settings),
            "fidelity": dict(self.fidelity),
            "truth": {name: list(classes) for name, classes in self.truth.items()},
        }
        kept = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}  # sites may share
        save_file(kept, path, metadata={HEADER: json.dumps(header, sort_keys=True)})

    @classmethod
    def load(cls, path: str | Path, key: str = "decomposition") -> Decomposition:
        """Read a file that :meth:`save` wrote. ``key``: for errors.

        Errors: no file, or another one; parts that are missing, do not fit each other, or are NaN; a target whose
        weights are not those that were decomposed.
        """
        arrays = read_arrays(key, str(path))
        try:
            header = _header(expanded(str(path)))
            grouped: dict[str, dict[str, Tensor]] = defaultdict(dict)
            for name, values in arrays.items():
                place, _, rest = name.partition("/")
                site, _, part = rest.partition("/") if place == "site" else ("", "", rest)
                grouped[f"{place}/{site}"][part] = torch.from_numpy(values.copy())
            sites = {name: _site(kind, grouped[f"site/{name}"]) for name, kind in header["sites"].items()}
            toy = _toy(header["toy"], grouped["target/"]) if header["toy"] else None
            found = cls(
                sites, str(header["label"]), str(header["target_digest"]), toy, bool(header["tied"]),
                header["settings"], header["fidelity"], header["truth"], grouped["examples/"].get(""),
            )  # fmt: skip
            if toy is not None:
                found.check(toy)
        except HarnessError as error:
            raise HarnessError(f"{key}={path}: {error.what}", "Give a file that `harness decompose` wrote.") from error
        except Exception as error:  # a file that others wrote can lack anything
            why = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise HarnessError(
                f"{key}={path}: it is not a decomposition ({why}).", "Give a file that `harness decompose` wrote."
            ) from error
        return found

    def _check_shapes(self, model: nn.Module) -> None:
        for name, site in self.sites.items():
            weight = weight_of(module_at(model, name), name)
            decomposed = [site.u.shape[1], site.v.shape[1]]
            if list(weight.shape) != decomposed:
                raise HarnessError(
                    f"'{name}' is decomposed as a matrix {decomposed}, and the model's is {list(weight.shape)}."
                )


def _header(file: Path) -> Any:
    from safetensors import safe_open

    with safe_open(file, framework="np") as opened:
        text = (opened.metadata() or {}).get(HEADER, "")
    if not text:
        raise HarnessError("its header does not say what it decomposes.")
    return parse_json(text.encode(), LARGEST_HEADER)


def _site(kind: str, tensors: Mapping[str, Tensor]) -> Subcomponents:
    own = {name.removeprefix("importance/"): value for name, value in tensors.items() if name.startswith("importance/")}
    importance = IMPORTANCES[kind].like(own)
    importance.load_state_dict(own)
    v, u = tensors["v"], tensors["u"]
    if v.ndim != 2 or u.ndim != 2 or len(v) != len(u):
        raise HarnessError(f"its V and U have the shapes {list(v.shape)} and {list(u.shape)}.")
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise HarnessError("it contains NaN or infinity.")
    return Subcomponents(v, u, importance.eval().requires_grad_(False))


def _toy(described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Toy:
    sizes = {str(name): int(value) for name, value in described["sizes"].items()}
    if max(sizes.values()) > sum(value.numel() for value in tensors.values()):
        raise HarnessError("its target's sizes do not fit its weights.")
    with torch.device("meta"):  # no memory is taken for sizes that the weights do not have
        toy = TOYS[described["kind"]](**sizes)
    toy.load_state_dict(dict(tensors), assign=True)
    return toy.eval().requires_grad_(False)
