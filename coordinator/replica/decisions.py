"""What a leader has decided in its term, for operators who ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from coordinator.core.commands import Choice, Command, Preempt, Recall
from coordinator.core.model import INDEX_BITS, INDEX_MASK, task_key
from coordinator.core.state import State
from coordinator.scheduling.decision_log import (
    Adapted,
    Assignments,
    DecisionLog,
    Logged,
    Moved,
    RoundMade,
    Sampling,
    What,
)
from coordinator.scheduling.plans.assignments import Assignment, Witness
from coordinator.scheduling.plans.planner import LATER
from coordinator.scheduling.scheduler import Decision
from coordinator.scheduling.settings import SchedulingSettings

_log = structlog.get_logger(__name__)

NEXT_ROUND: Final = "next_round"
"""The reason of tasks that a round did not come to: it was full, or no agent had any room."""

_KINDS: Final[dict[type[What], str]] = {RoundMade: "round", Adapted: "adaptation", Moved: "move"}


class Decisions:
    """The log of decisions, and how choices came about. Times are those of the leader's clock."""

    def __init__(self, state: Callable[[], State], settings: SchedulingSettings) -> None:
        self._state = state
        self._policy = settings.policy
        self._log = DecisionLog(settings.decisions_kept)
        self._sampling = Sampling(settings.explained_per_s)
        self._assignments = Assignments(settings.explained_kept)
        self._news: asyncio.Event | None = None

    def witness(self, now_s: float, unit: str) -> Witness:
        """Of a round that is about to be made."""
        return Witness(self._policy, now_s, self._sampling.left(now_s), unit)

    def decided(
        self, at_ms: int, decision: Decision, witness: Witness, duration_s: float, batch: int
    ) -> None:
        """A round has been made, and lasted so long."""
        if witness.taken:
            self._sampling.use(witness.taken)
            self._assignments.add(witness.taken)
        plan = decision.plan
        if plan.considered:
            kept = plan.unplaced.get(LATER, 0)
            unplaced = {reason: count for reason, count in plan.unplaced.items() if reason != LATER}
            if left := plan.considered - plan.placed - kept - sum(unplaced.values()):
                unplaced[NEXT_ROUND] = left
            made = RoundMade(
                waiting=plan.considered,
                placed=plan.placed,
                kept=kept,
                unplaced=unplaced,
                duration_us=round(duration_s * 1e6),
                batch=batch,
                policy=self._policy,
            )
            self._add(at_ms, made)
        for command in decision.before:
            self._moved(at_ms, command)
        if len(decision.choices) > plan.placed:
            for choice in decision.choices:
                if choice.rival:
                    self._add(at_ms, self._rival(choice))

    def adapted(self, at_ms: int, adapted: Adapted) -> None:
        """A parameter has changed."""
        self._add(at_ms, adapted)

    def assignment(self, key: int, attempt: int) -> Assignment | None:
        """How the choice of this attempt came about, if that was taken down and is still kept."""
        return self._assignments.get(key, attempt)

    def numbered(self, choices: list[Choice], number: int) -> None:
        """These choices were made before their DAG had this number."""
        for one in choices:
            self._assignments.rename(one.key, one.attempt, task_key(number, one.key & INDEX_MASK))

    @property
    def last(self) -> int:
        """The number of the newest entry; 0 before the first."""
        return self._log.last

    def after(self, number: int, most: int) -> list[Logged]:
        """Entries with a higher number, as many as are kept, the oldest first."""
        return self._log.after(number, most)

    async def news(self, number: int, within_s: float) -> None:
        """Wait for an entry with a higher number, for so long at most."""
        try:
            async with asyncio.timeout(within_s):
                while self._log.last <= number:
                    if self._news is None:
                        self._news = asyncio.Event()
                    await self._news.wait()
        except TimeoutError:
            return

    def _moved(self, at_ms: int, command: Command) -> None:
        if isinstance(command, Preempt):
            for key, attempt in command.attempts:
                self._add(
                    at_ms, self._move("preempt", key, attempt, self._holder(key, attempt), command.reason)
                )
        elif isinstance(command, Recall):
            for move in command.moves:
                choice = move.choice
                self._add(
                    at_ms, self._move("recall", choice.key, choice.attempt, choice.agent, command.reason)
                )

    def _rival(self, choice: Choice) -> Moved:
        return self._move("rival", choice.key, choice.attempt, choice.agent, "the DAG should end sooner")

    def _move(self, what: str, key: int, attempt: int, agent: str, because: str) -> Moved:
        dag, task = self._state().dags.get(key >> INDEX_BITS), self._state().task(key)
        dag_id = dag.record.header.dag_id if dag is not None else ""
        return Moved(what, dag_id, task.id if task is not None else "", attempt, agent, because)

    def _holder(self, key: int, attempt: int) -> str:
        task = self._state().task(key)
        live = task.live_attempt(attempt) if task is not None else None
        return live.agent if live is not None else ""

    def _add(self, at_ms: int, what: What) -> None:
        self._log.add(at_ms, what)
        _log.debug("decided", number=self._log.last, kind=_KINDS[type(what)], **msgspec.structs.asdict(what))
        if self._news is not None:
            self._news.set()
            self._news = None
