"""What is told of a seed that failed: the promise, a small schedule that breaks one, and the last events."""

from __future__ import annotations

import time
from typing import Final

from rich.console import Console

from chaos.sim.plan import Plan
from chaos.sim.reduction import reduce
from chaos.sim.run import Result

_LAST_EVENTS: Final = 40
_VIOLATIONS: Final = 10


class Failures:
    """Prints failures, and has `shrink_s` seconds of real time for cutting down their schedules."""

    def __init__(self, console: Console, shrink_s: float) -> None:
        self._console = console
        self._left_s = shrink_s

    def tell(self, result: Result) -> None:
        """All about one failure."""
        seed, whole = result.plan.seed, len(result.plan.faults)
        self._console.print(f"seed {seed} FAILED", style="red")
        self._show_violations(result)
        began_s = time.monotonic()
        numbers, smallest = reduce(result, self._left_s)
        self._left_s = max(0.0, self._left_s - (time.monotonic() - began_s))
        if len(numbers) < whole:
            self._console.print(f"  {len(numbers)} of its {whole} faults suffice:")
            self._show_violations(smallest)
        show_plan(self._console, smallest.plan)
        self._console.print(f"  the last {_LAST_EVENTS} events:")
        for line in smallest.last_events[-_LAST_EVENTS:]:
            self._console.print(f"  {line}", markup=False)
        self._console.print(f"  again: python -m chaos.sim --seed {seed}", markup=False)
        if len(numbers) < whole:
            chosen = ",".join(map(str, numbers))
            self._console.print(f"  or: python -m chaos.sim --seed {seed} --faults '{chosen}'", markup=False)

    def _show_violations(self, result: Result) -> None:
        for violation in result.violations[:_VIOLATIONS]:
            self._console.print(f"  {violation}", markup=False)


def show_plan(console: Console, plan: Plan) -> None:
    """The cluster, its settings, the schedule of faults."""
    console.print(
        f"  {plan.nodes} nodes, {plan.agents} agents, {plan.clients} clients; {plan.raft}", markup=False
    )
    for fault in plan.faults:
        console.print(f"  {fault}", markup=False)
