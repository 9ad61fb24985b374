"""What agents did and what clients were told, written down as it happened; and what of it must not be.

The witness outlives every process. It is what the cluster's own record is held against.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from agent_sdk import Dag, DagStatus
from chaos.checking.history import Event, History, operations
from chaos.checking.models import QueueModel, RegisterModel
from chaos.checking.promises import linearizable, versions_grow
from chaos.checking.workloads import QUEUE, REGISTERS

Attempt = tuple[str, str, int]
"""DAG id, task id, number of the attempt."""


class Witness:
    """`violations` holds a sentence for each promise that was seen broken. With `keeps_all` no DAG is ever
    forgotten that was recorded."""

    def __init__(self, now: Callable[[], float], *, keeps_all: bool = True) -> None:
        self.violations: list[str] = []
        self.operations: list[Event] = []
        """What the clients of the key-value space asked, and heard."""
        self.history = History(now, self.operations.append)
        self.acknowledged: dict[str, int] = {}
        """Number of tasks by the id of each DAG that a client was told to be recorded."""
        self.begun: dict[Attempt, str] = {}
        """The agent that began each attempt."""
        self.done: defaultdict[tuple[str, str], set[tuple[int, str]]] = defaultdict(set)
        """(attempt, agent) that came to a good end, by DAG id and task id."""
        self.endings: dict[str, str] = {}
        """The final state of DAGs, as clients were told."""
        self.ended: set[str] = set()
        """DAGs that have ended, by the cluster's own record."""
        self._keeps_all = keeps_all
        self._depends: dict[tuple[str, str], Sequence[str]] = {}
        self._by_request: dict[str, str] = {}

    def break_promise(self, what: str) -> None:
        """Write down that something happened which must not."""
        self.violations.append(what)

    def submits(self, dag: Dag) -> None:
        """A client is about to submit a DAG."""
        for task in dag.tasks:
            self._depends[dag.dag_id, task.id] = task.depends_on

    def told_recorded(self, request_id: str, dag: Dag, dag_id: str) -> None:
        """A client was told that its submission is recorded."""
        if self._by_request.setdefault(request_id, dag_id) != dag_id or dag_id != dag.dag_id:
            self.break_promise(f"request {request_id} of {dag.dag_id} was answered with {dag_id}")
        self.acknowledged[dag_id] = len(dag.tasks)

    def told_status(self, status: DagStatus) -> None:
        """A client has read a DAG's status."""
        known = self.endings.get(status.dag_id)
        if known is not None and known != status.state:
            self.break_promise(f"{status.dag_id} was read as {known}, then as {status.state}")
        if status.finished:
            self.endings[status.dag_id] = status.state

    def may_be_forgotten(self, dag_id: str) -> bool:
        """Whether the retention of the DAG may be over."""
        return dag_id in self.ended and not self._keeps_all

    def begins(self, agent: str, attempt: Attempt) -> None:
        """An agent begins an attempt."""
        dag_id, task_id, number = attempt
        name = f"{dag_id}/{task_id} attempt {number}"
        if attempt in self.begun:
            self.break_promise(f"{name} began on {agent}, after it had begun on {self.begun[attempt]}")
        self.begun[attempt] = agent
        for before in self._depends.get((dag_id, task_id), ()):
            if not self.done.get((dag_id, before)):
                self.break_promise(f"{name} began on {agent} before {before}, which it depends on, was done")

    def ends(self, agent: str, attempt: Attempt) -> None:
        """An agent brings an attempt to a good end."""
        dag_id, task_id, number = attempt
        self.done[dag_id, task_id].add((number, agent))

    def completed(self, dag_id: str, task_id: str, number: int, agent: str) -> None:
        """The cluster holds this attempt for the one that completed the task."""
        if (number, agent) not in self.done.get((dag_id, task_id), ()):
            self.break_promise(f"{dag_id}/{task_id}: attempt {number} on {agent} completed, but was not done")

    def judge_history(self) -> None:
        """Some order of all that clients did to the key-value space must explain what they saw."""
        history = operations(self.operations)
        registers = [operation for operation in history if operation.key in REGISTERS]
        queue = [operation for operation in history if operation.key == QUEUE]
        checks = (
            linearizable("registers", registers, RegisterModel()),
            linearizable("queues", queue, QueueModel()),
            versions_grow(registers),
        )
        for check in checks:
            if not check.held:
                self.break_promise(f"{check.promise}: {check.found}")


def states_of(counts: Mapping[str, int]) -> str:
    """Counts of tasks by state, in words."""
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
