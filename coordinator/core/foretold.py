"""Which tasks will be READY by what is proposed already: completions whose entry is under way.

The leader may so assign a task in the very entry that carries the end of its last predecessor. What is
foretold binds nobody: `apply` judges the assignment after the end, and refuses it if that was refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from coordinator.core.commands import AttemptReport, ReportKind
from coordinator.core.model import INDEX_BITS, INDEX_MASK, AttemptOutcome, DagState, TaskState
from coordinator.core.state import State


class Completion(NamedTuple):
    """This attempt of the task with this key will have completed it; `unlocks` are the keys of those that
    depend on it."""

    key: int
    attempt: int
    unlocks: list[int]


class Foretold:
    """Completions that are proposed and not settled yet, by the tasks that wait for them."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state
        self._ending: dict[int, set[int]] = {}
        """By key of a task, the keys of its predecessors that are about to complete."""

    def completions(self, agent: str, reports: Iterable[AttemptReport]) -> list[Completion]:
        """What these reports of an agent would complete, as the state is now. Where attempts race, nothing is
        foretold: which of them wins is for the log to say."""
        state, found = self._state(), []
        for one in reports:
            if one.kind is not ReportKind.ENDED or one.outcome is not AttemptOutcome.COMPLETED:
                continue
            task = state.task(one.key)
            live = () if task is None else task.live
            if task is not None and [(each.number, each.agent) for each in live] == [(one.attempt, agent)]:
                first = one.key & ~INDEX_MASK
                unlocks = [first | index for index in task.successors]
                found.append(Completion(one.key, one.attempt, unlocks))
        return found

    def add(self, completions: Iterable[Completion]) -> list[int]:
        """These are proposed: the keys of the tasks that will be READY by them."""
        ready = []
        for key, _, unlocks in completions:
            for successor in unlocks:
                self._ending.setdefault(successor, set()).add(key)
                if self.holds(successor):
                    ready.append(successor)
        return ready

    def holds(self, key: int) -> bool:
        """Whether the task still waits, and for nothing but completions that are under way."""
        ending = self._ending.get(key)
        dag = self._state().dags.get(key >> INDEX_BITS)
        if not ending or dag is None:
            return False
        tasks = dag.tasks
        task = tasks[key & INDEX_MASK]
        if task.state is not TaskState.PENDING or len(ending) < task.waiting:
            return False
        if dag.record.state is not DagState.RUNNING or dag.record.ending is not None:
            return False
        # Some of them may have been applied, and are not settled yet.
        left = sum([tasks[one & INDEX_MASK].state is not TaskState.COMPLETED for one in ending])
        return task.waiting == left > 0

    def settled(self, completions: Iterable[Completion]) -> None:
        """These have been applied or refused."""
        for key, _, unlocks in completions:
            for successor in unlocks:
                ending = self._ending.get(successor)
                if ending is not None:
                    ending.discard(key)
                    if not ending:
                        del self._ending[successor]
