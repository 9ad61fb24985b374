"""The DAGs that waiting tasks belong to: ranks, data on their edges, and what will be ready next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import INDEX_BITS, INDEX_MASK, AttemptOutcome, Dag, Task, TaskState
from coordinator.scheduling.agents import AgentTable, FloatRow
from coordinator.scheduling.ranks import upward_ranks
from coordinator.scheduling.transfers import BANDWIDTH, Transfers

class Expected(NamedTuple):
    """Where a task is expected to end, and in how many seconds from now."""

    row: int
    seconds: float


class Arrivals(NamedTuple):
    """When the inputs of a task can be on an agent, in seconds from now, and the seconds of transfers that
    this takes: on any agent, and on those `rows` that hold some of them already."""

    anywhere: float
    moved: float
    rows: NDArray[np.intp]
    arrive: FloatRow
    move: FloatRow

    def at(self, row: int) -> float:
        """When they can be on one agent."""
        found = np.flatnonzero(self.rows == row) if len(self.rows) else ()
        return self.arrive.item(int(found[0])) if len(found) else self.anywhere

    def spread(self, size: int) -> tuple[FloatRow, FloatRow]:
        """Both over `size` rows."""
        arrive, move = np.full(size, self.anywhere), np.full(size, self.moved)
        arrive[self.rows] = self.arrive
        move[self.rows] = self.move
        return arrive, move


AT_ONCE: Final = Arrivals(0.0, 0.0, np.zeros(0, np.intp), np.zeros(0), np.zeros(0))
"""Of a task without inputs to move."""


class Graph:
    """One DAG. `ranks` are by index, `ranked` the version of the estimates that they were made with."""

    def __init__(self, dag: Dag) -> None:
        self.dag = dag
        self.ranks: list[float] = []
        self.ranked = -1
        self.transfers = Transfers(dag) if dag.extras else None
        self.linked = any(task.depends for task in dag.tasks)

    def rank_steps(self, duration_s: Callable[[Task], float], version: int) -> Iterator[None]:
        """Bring the ranks up to date, with pauses."""
        for ranks in upward_ranks(self.dag.tasks, duration_s, self._transfer_s):
            self.ranks = ranks if len(ranks) >= len(self.ranks) else self.ranks
            yield
        self.ranked = version

    def rank(self, index: int) -> float:
        """In seconds; 0 for a task that has come since ranks were made."""
        return self.ranks[index] if index < len(self.ranks) else 0.0

    def task(self, key: int) -> Task:
        """The task with this key."""
        return self.dag.tasks[key & INDEX_MASK]

    def arrivals(self, task: Task, agents: AgentTable, expected: Mapping[int, Expected]) -> Arrivals:
        """When the task's inputs can be where, given when those predecessors end that have not."""
        if not task.depends:
            return self._outside(task, agents)
        edges = self.transfers.edges(task.index) if self.transfers is not None else {}
        ends: list[tuple[int, float, float]] = []
        for before in task.depends:
            seconds = edges.get(before, 0) / BANDWIDTH
            soon = expected.get(self.dag.tasks[before].key)
            if soon is not None:
                ends.append((soon.row, soon.seconds, seconds))
            elif seconds:
                ends.append((self._holder(self.dag.tasks[before], agents), 0.0, seconds))
        if not ends:
            return self._outside(task, agents)
        return _arrivals(ends)

    def _outside(self, task: Task, agents: AgentTable) -> Arrivals:
        if self.transfers is None or not (items := self.transfers.outside(task.index)):
            return AT_ONCE
        size = agents.size
        move = np.zeros(size)
        for size_bytes, names in items:
            holds = np.logical_or.reduce([agents.flags("data", name)[:size] for name in names])
            move += np.where(holds, 0.0, size_bytes / BANDWIDTH)
        rows = np.flatnonzero(move < move.max(initial=0.0))
        most = float(move.max(initial=0.0))
        return Arrivals(most, most, rows, move[rows], move[rows])

    def _holder(self, task: Task, agents: AgentTable) -> int:
        for attempt in reversed(task.attempts):
            if attempt.outcome is AttemptOutcome.COMPLETED:
                return agents.rows.get(attempt.agent, -1)
        return -1

    def _transfer_s(self, before: int, after: int) -> float:
        return 0.0 if self.transfers is None else self.transfers.edges(after).get(before, 0) / BANDWIDTH


def _arrivals(ends: Sequence[tuple[int, float, float]]) -> Arrivals:
    """From the (row, end, seconds of transfer) of every predecessor. An agent needs what its own predecessors
    leave as soon as they end, and what the others leave once it is transferred."""
    own: dict[int, list[float]] = {}
    moved = first = second = 0.0
    leader = -1
    for row, end, seconds in ends:
        there = own.setdefault(row, [0.0, 0.0, 0.0])
        there[0] = max(there[0], end)
        there[1] = max(there[1], end + seconds)
        there[2] += seconds
        moved += seconds
    for row, (_, remote, _) in own.items():
        if remote > first:
            first, second, leader = remote, first, row
        elif remote > second:
            second = remote
    rows = [row for row in own if row >= 0]
    arrive = [max(own[row][0], second if row == leader else first) for row in rows]
    move = [moved - own[row][2] for row in rows]
    return Arrivals(first, moved, np.array(rows, np.intp), np.array(arrive), np.array(move))


class Graphs:
    """Of all DAGs that have waiting or running tasks here, by number."""

    def __init__(self) -> None:
        self._graphs: dict[int, Graph] = {}

    def add(self, dag: Dag) -> Graph:
        """The graph of this DAG."""
        number = dag.record.number
        found = self._graphs.get(number)
        if found is None:
            found = self._graphs[number] = Graph(dag)
        return found

    def of(self, key: int) -> Graph | None:
        """The graph of a task's DAG, if it is known."""
        return self._graphs.get(key >> INDEX_BITS)

    def remove(self, number: int) -> None:
        """The DAG has ended."""
        self._graphs.pop(number, None)

    def __iter__(self) -> Iterator[Graph]:
        return iter(self._graphs.values())


class Foreseen:
    """Tasks that can begin as soon as what is with agents has ended, kept current as attempts come and go."""

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self._live: dict[int, int] = {}
        """By key: predecessors that are with an agent."""
        self._tasks: dict[int, Task] = {}

    def held(self, key: int) -> None:
        """The task is with an agent now, and was not before."""
        for task in self.successors(key):
            live = self._live[task.key] = self._live.get(task.key, 0) + 1
            if live == task.waiting and task.state is TaskState.PENDING:
                self._tasks[task.key] = task

    def released(self, key: int, *, completed: bool) -> None:
        """No agent has it any more. If it has completed, the state has counted it already."""
        for task in self.successors(key):
            live = self._live.get(task.key, 0) - 1
            if live > 0:
                self._live[task.key] = live
            else:
                self._live.pop(task.key, None)
            if not completed or live <= 0:
                self._tasks.pop(task.key, None)

    def tasks(self) -> list[Task]:
        """All of them."""
        return [task for task in self._tasks.values() if task.state is TaskState.PENDING]

    def live(self, key: int) -> int:
        """Predecessors of a task that are with an agent."""
        return self._live.get(key, 0)

    def successors(self, key: int) -> list[Task]:
        """What depends on a task."""
        graph = self._graphs.of(key)
        if graph is None or not graph.linked:
            return []
        tasks = graph.dag.tasks
        return [tasks[index] for index in tasks[key & INDEX_MASK].successors]
