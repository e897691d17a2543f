"""Verify the compiled programs on every sequence of brackets.

``python -m harness_plugins.subjects.compiled.verify`` writes ``verified.json`` beside the weights: for each program,
the share of all sequences that the model answers as the program does, and the largest change of a logit on 4096 of them
if all units of the other programs are ablated. The exit code is 1 if any answer is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TypedDict

import numpy as np

from harness import method, rng_for

from .programs import ANSWERS, NAMES, SYMBOLS, Name

FILE = "verified.json"
PASS = 512  # sequences in one pass


class Verified(TypedDict):
    """``answers_right``: of ``sequences``. ``changed_by_others``: in logits, 0 where only the circuit matters."""

    sequences: int
    answers_right: float
    changed_by_others: float


def recorded(program: Name) -> Mapping[str, int | float]:
    """What was verified of a program that is shipped; empty before it was."""
    from .model import WEIGHTS

    path = WEIGHTS / FILE
    found: dict[str, dict[str, int | float]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found.get(program, {})


def answers_right(program: Name, every: int = 1) -> tuple[int, float]:
    """How many sequences there are, and on which share of each ``every``-th the model gives the program's answer."""
    import torch

    from .model import Programs
    from .task import sequences

    known, model = sequences(program), Programs(program)
    some = np.arange(0, len(known.answer), every)
    ids = torch.from_numpy(np.pad(1 + known.tokens[some], ((0, 0), (1, 0))))
    words = np.array([SYMBOLS.index(word) for word in ANSWERS[program]])
    with torch.no_grad():
        given = torch.cat([model(part).argmax(-1) for part in torch.split(ids, PASS)]).numpy()
    right = given[np.arange(len(some)), known.length[some]] == words[known.answer[some]]
    return len(some), float(right.mean())


def changed_by_others(program: Name, n: int = 4096) -> float:
    """The largest change of the answer's logit if all units outside the circuit are ablated by zero."""
    from .task import examples

    subject = method("subject", "compiled", program=program)()
    others = tuple(place for place, name in enumerate(subject.truth.classes) if name is None)
    batch = examples(program, n, rng_for(0, "compiled verified"))
    logit = subject.evaluate(batch, [(), others], method("intervention", "zero"), [method("metric", "target_logit")])
    return float(np.abs(logit[0, 1] - logit[0, 0]).max())


def verified(program: Name) -> Verified:
    """What is written of a program."""
    sequences, right = answers_right(program)
    return {"sequences": sequences, "answers_right": right, "changed_by_others": changed_by_others(program)}


def main() -> int:
    """Verify all programs, and write what was found."""
    from .model import WEIGHTS

    found = {name: verified(name) for name in NAMES}
    (WEIGHTS / FILE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, of in found.items():
        print(name, of)
    return int(any(of["answers_right"] < 1 for of in found.values()))


if __name__ == "__main__":
    sys.exit(main())
