# my_subject.py
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness import HookedSubject, Site, SubjectMethod, Width, hookimpl, method


class Channels(Site):
    """Units are the channels of a convolution, side by side in the flattened output [rows, channels * length]."""

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The output by channel: [rows, units, width]."""
        return output.unflatten(1, (len(self.labels), -1))

    def add(self, output: Tensor, change: Tensor, units: Tensor) -> Tensor:
        """The output with ``change`` [rows, changed, width] added to the channels ``units`` [changed]."""
        return self.values((), output).index_add(1, units, change).flatten(1)


@dataclass(frozen=True)
class Convolution(SubjectMethod):
    """The channels of a small convolutional classifier, trained on the batch `vectors` when it is loaded."""

    name: ClassVar[str] = "convolution"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {
        "batch": "vectors",
        "labels": "none",
        "signal": "activation",
    }
    channels: int = field(default=16, metadata={"help": "channels of the convolution"})

    def __call__(self) -> HookedSubject:
        width = Width(inputs=12, outputs=4)
        with torch.random.fork_rng(devices=[]):  # leaves the global generator unchanged
            torch.manual_seed(0)
            convolution = nn.Conv1d(1, self.channels, kernel_size=3, stride=3)
            flat, last = nn.Flatten(), nn.Linear(4 * self.channels, 4)
        model = nn.Sequential(nn.Unflatten(1, (1, 12)), convolution, flat, nn.ReLU(), last)
        batch = method("batch", "vectors", n=4096, seed=1)(width)
        inputs, target = torch.from_numpy(batch.inputs), torch.from_numpy(batch.target)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(200):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(model(inputs), target))
            optimizer.step()
        labels = [f"conv:{channel}" for channel in range(self.channels)]
        return HookedSubject(model, [Channels("conv", 0, labels, flat, family="channel")], width, "convolution")


@hookimpl
def harness_subjects() -> list[type[Convolution]]:
    return [Convolution]
