"""What a leader does with what it is told, without the network: entries go through `machine.apply`, their
effects through `Mirror`, and what `Scheduler` decides is the next entry. Nothing of it is copied here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from coordinator.core import machine
from coordinator.core.commands import FORMAT, Assign, Command, Entry
from coordinator.core.outcome import Effects, Reply
from coordinator.core.state import State
from coordinator.scheduling.agents.lookahead import LookAhead
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.mirror import Mirror
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.scheduler import Scheduler
from coordinator.scheduling.snapshot import Snapshot

_MOST_DECISIONS: Final = 10_000
"""At one moment: a scheduler that wants more goes round in circles."""


class Stalled(Exception):
    """The workload does not end: nothing happens any more, decisions change nothing, or attempts are begun
    and given up for ever."""


class Leader:
    """State, snapshot and scheduler. `carry_out` does in the world what an applied entry asks for; the
    snapshot shows it by then. Time is what the caller says."""

    def __init__(self, policy: Policy | Simple, carry_out: Callable[[Effects], None]) -> None:
        self.state = State()
        self.snapshot = Snapshot(LookAhead())
        self.mirror = Mirror(lambda: self.state, self.snapshot)
        self.decisions = 0
        self._scheduler = Scheduler(self.snapshot, policy, PlanLimits())
        self._carry_out = carry_out
        self._index = 0

    @property
    def looks_at_what_runs(self) -> bool:
        """Whether there may be something to decide although nothing waits."""
        return self._scheduler.looks_at_what_runs

    def apply(self, commands: Sequence[Command], now_s: float) -> list[Reply]:
        """One entry."""
        self._index += 1
        entry = Entry(FORMAT, round(now_s * 1_000), list(commands))
        outcome = machine.apply(self.state, self._index, entry)
        self.mirror.note(outcome.effects, now_s)
        self.mirror.ready(outcome.effects.ready)
        self._carry_out(outcome.effects)
        return outcome.replies

    def decide(self, now_s: float) -> None:
        """Rounds of placement until nothing more can be placed. Raises Stalled."""
        waiting = self.snapshot.waiting
        for _ in range(_MOST_DECISIONS):
            decision = self._scheduler.decide(now_s)
            self.decisions += 1
            self.snapshot.turn = decision.plan.turn
            if not decision.choices and not decision.before:
                return
            waiting.discard([choice.key for choice in decision.choices if not choice.rival])
            assign = [Assign(decision.choices)] if decision.choices else []
            self.apply([*decision.before, *assign], now_s)
        raise Stalled(f"{_MOST_DECISIONS:,} decisions at one moment, and no end")
