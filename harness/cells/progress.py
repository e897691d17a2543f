"""Progress of a cell, on stderr: a bar on a terminal; elsewhere a line per step, and one when a step becomes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.data.contracts import Tick
from harness.util.waiting import said_if_slow


@dataclass
class Progress:
    """Times the steps of a cell and shows them. With ``quiet`` nothing is shown; times and costs are still counted.

    ``seconds``: time by step. ``cost``: conditions, forwards, FLOPs, memory, as in a record.
    """

    quiet: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    cost: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, what: str = "", total: int | None = None) -> Iterator[Tick]:
        """Run one step. It yields the function that moves the bar; its time is added to ``seconds[name]``."""
        start = time.perf_counter()
        with self._bar(f"{name}: {what}" if what else name, total) as tick:
            yield tick
        elapsed = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + elapsed
        self.say(f"  {name:<12} {what:<44} {elapsed:6.1f} s")

    def spend(self, **amounts: int | None) -> None:
        """Add to the cost of the cell. None: the amount is unknown."""
        for what, amount in amounts.items():
            if amount is not None:
                self.cost[what] = self.cost.get(what, 0) + amount

    def say(self, text: str) -> None:
        """Show a line."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Show a warning."""
        self.say(f"  warning: {text}")

    @contextmanager
    def _bar(self, what: str, total: int | None) -> Iterator[Tick]:
        if self.quiet:
            yield lambda _: None
            return
        if total is None or not sys.stderr.isatty():
            with said_if_slow(what, self.say):
                yield lambda _: None
            return
        from rich.console import Console
        from rich.progress import Progress as Bars

        with Bars(console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(f"  {what}", total=total)
            yield lambda done: bars.advance(task, done)
