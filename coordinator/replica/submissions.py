"""DAGs whose submission has been proposed and is not applied yet, as placement sees them.

Nobody knows the number that such a DAG will have. Here it has one of its own, below zero, and so have the
keys of its tasks. What is chosen for these travels behind the submission, by its request id (`AssignRoots`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final, NamedTuple

from coordinator.core.appliers.dags import append_tasks
from coordinator.core.commands import AssignRoots, Choice, SubmitDag
from coordinator.core.model import INDEX_BITS, INDEX_MASK, STATES, Dag, DagRecord, DagState, Task, TaskState
from coordinator.core.outcome import Reply, Submitted

MOST_TASKS: Final = 64
"""Of a DAG that is looked at before its submission is applied: for a larger one, that time is little."""

FIRST: Final = -(1 << 30)
"""Numbers ascend from here: of tasks that came at one time, the one with the lower key is placed first."""


class Submission(NamedTuple):
    """One of them; `roots` are its tasks that wait for nothing, `given` the choices that travel with it."""

    request_id: str
    dag: Dag
    roots: list[Task]
    given: list[Choice]

    @property
    def number(self) -> int:
        """Its number here."""
        return self.dag.record.number


class Submissions:
    """By their numbers here; of two with one request id only the first. `unsent` are the keys of tasks that
    wait for an agent while the submission has not left, `applied` those that are to be forgotten, with the
    number that the DAG has now: 0 if it was refused, or nobody knows."""

    def __init__(self) -> None:
        self.unsent: list[int] = []
        self.applied: list[tuple[Submission, int]] = []
        self._by_number: dict[int, Submission] = {}
        self._request_ids: set[str] = set()
        self._number = FIRST

    def add(self, command: SubmitDag, now_ms: int) -> Submission | None:
        """The DAG as it will be; None if it is not looked at before."""
        if len(command.block.ids) > MOST_TASKS or command.request_id in self._request_ids:
            return None
        self._number += 1
        record = DagRecord(self._number, command.header, command.profiles, DagState.RUNNING, now_ms)
        dag = Dag(record, [], [0] * STATES)
        roots = [task for task in append_tasks(dag, command.block) if task.state is TaskState.READY]
        made = self._by_number[self._number] = Submission(command.request_id, dag, roots, [])
        self._request_ids.add(command.request_id)
        return made

    def settled(self, submission: Submission, recorded: asyncio.Future[Reply]) -> None:
        """This is the machine's reply to it."""
        known = not recorded.cancelled() and recorded.exception() is None
        reply = recorded.result() if known else None
        self.applied.append((submission, reply.number if isinstance(reply, Submitted) else 0))

    def remove(self, submission: Submission) -> None:
        """It has been applied or refused."""
        del self._by_number[submission.number]
        self._request_ids.discard(submission.request_id)

    def holds(self, key: int) -> bool:
        """Whether the task is of one of these."""
        return key >> INDEX_BITS in self._by_number

    def commands(self, choices: Iterable[Choice]) -> Iterator[tuple[AssignRoots, Submission, list[Choice]]]:
        """What carries out choices for tasks of these: of which, and which of the choices."""
        for number, of_dag in groupby(sorted(choices, key=_number), _number):
            some, submission = list(of_dag), self._by_number[number]
            by_index = [Choice(one.key & INDEX_MASK, one.attempt, one.agent, one.epoch) for one in some]
            yield AssignRoots(submission.request_id, by_index), submission, some


def _number(choice: Choice) -> int:
    return choice.key >> INDEX_BITS
