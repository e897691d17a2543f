"""The same examples at every checkpoint of a subject: what a method is given that looks at training time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from harness.data.recording import Recording


@dataclass(frozen=True)
class History:
    """The recordings of the same examples at every checkpoint of a subject, in the order of training.

    ``steps``: the training steps, rising. ``recordings``: one for each step; all have the same batch and the same
    units. Their readings are those that the cell's methods ask for, by stage, as in the cell's own recording
    (``history.recordings[0].readings["signal"]``).
    """

    steps: tuple[int, ...]
    recordings: tuple[Recording, ...]

    @property
    def final(self) -> Recording:
        """The recording at the last checkpoint."""
        return self.recordings[-1]

    def take(self, examples: Int[np.ndarray, " some"]) -> History:
        """The history of some examples."""
        return History(self.steps, tuple(recording.take(examples) for recording in self.recordings))
