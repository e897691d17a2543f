"""The classifier's module: an example of the file that ``subject.module`` names."""

from collections import OrderedDict

from torch import nn


def build() -> nn.Module:
    """Twelve inputs, two hidden layers of ReLU neurons, four classes. The weights are in a file beside."""
    return nn.Sequential(
        OrderedDict(
            layer1=nn.Linear(12, 32),
            hidden1=nn.ReLU(),
            layer2=nn.Linear(32, 16),
            hidden2=nn.ReLU(),
            output=nn.Linear(16, 4),
        )
    )
