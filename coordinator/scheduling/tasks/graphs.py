"""The DAGs that waiting tasks belong to: ranks, data on their edges, and what will be ready next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from coordinator.core.model import INDEX_BITS, INDEX_MASK, AttemptOutcome, Dag, Task, TaskState
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.tasks.ranks import upward_ranks
from coordinator.scheduling.tasks.transfers import BANDWIDTH, Transfers
from coordinator.scheduling.tasks.waiting import Owner


class Expected(NamedTuple):
    """Where a task is expected to end, and in how many seconds from now."""

    row: int
    seconds: float


class Arrivals(NamedTuple):
    """When the inputs of a task can be on an agent, in seconds from now, and the seconds of transfers that
    this takes: on any agent, and by row on those that hold some of them already."""

    anywhere: float
    moved: float
    nearer: dict[int, tuple[float, float]]

    def at(self, row: int) -> float:
        """When they can be on one agent."""
        near = self.nearer.get(row)
        return self.anywhere if near is None else near[0]


AT_ONCE: Final = Arrivals(0.0, 0.0, {})
"""Of a task without inputs to move."""


class Graph:
    """One DAG. `ranks` are by index, `ranked` the epoch of the estimates that they were made with."""

    def __init__(self, dag: Dag) -> None:
        self.dag = dag
        self.owner = Owner(dag.record.header.namespace, dag.record.header.policy)
        self.ranks: list[float] = []
        self.ranked = -1
        self.transfers: Transfers | None = None
        self._arrived: dict[int, tuple[int, Arrivals]] = {}
        """Of tasks that wait for nothing but an agent: they stay as they are while agents do."""
        self.linked = False
        """Whether any of its tasks waits for others."""
        self.moves = False
        """Whether any of its tasks waits for data or for others."""
        self.size = 0
        """Tasks that were looked at: a running one may add others."""
        self.grow()

    def grow(self) -> list[Task]:
        """Look at the tasks that have come; returns them."""
        came = self.dag.tasks[self.size :]
        self.size = len(self.dag.tasks)
        self.ranked = -1
        if self.transfers is None and self.dag.extras:
            self.transfers = Transfers(self.dag)
        self.linked = self.linked or any(task.depends for task in came)
        self.moves = self.linked or self.transfers is not None
        return came

    def rank_steps(self, duration_s: Callable[[Task], float], epoch: int) -> Iterator[None]:
        """Bring the ranks up to date, with pauses; until they are complete those before them count."""
        ranks = self.ranks
        for made in upward_ranks(self.dag.tasks, duration_s, self._transfer_s):
            ranks = made
            yield
        self.ranks, self.ranked = ranks, epoch if len(ranks) == self.size else -1

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
        if (known := self._arrived.get(task.index)) is not None and known[0] == agents.latest_version:
            return known[1]
        edges = self.transfers.edges(task.index) if self.transfers is not None else {}
        ends: list[tuple[int, float, float]] = []
        for before in task.depends:
            seconds = edges.get(before, 0) / BANDWIDTH
            soon = expected.get(self.dag.tasks[before].key)
            if soon is not None:
                ends.append((soon.row, soon.seconds, seconds))
            elif seconds:
                ends.append((self._holder(self.dag.tasks[before], agents), 0.0, seconds))
        found = _arrivals(ends) if ends else self._outside(task, agents)
        if not task.waiting:
            self._arrived[task.index] = agents.latest_version, found
        return found

    def placed(self, index: int) -> None:
        """The task is with an agent."""
        self._arrived.pop(index, None)

    def _outside(self, task: Task, agents: AgentTable) -> Arrivals:
        if self.transfers is None or not (items := self.transfers.outside(task.index)):
            return AT_ONCE
        size = agents.size
        move = np.zeros(size)
        for size_bytes, names in items:
            holds = np.logical_or.reduce([agents.flags("data", name)[:size] for name in names])
            move += np.where(holds, 0.0, size_bytes / BANDWIDTH)
        most = float(move.max(initial=0.0))
        nearer = {int(row): (move.item(row), move.item(row)) for row in np.flatnonzero(move < most)}
        return Arrivals(most, most, nearer)

    def _holder(self, task: Task, agents: AgentTable) -> int:
        for attempt in reversed(task.attempts):
            # Its end may have been told and not be applied yet.
            if attempt.outcome in (AttemptOutcome.COMPLETED, AttemptOutcome.LIVE):
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
    nearer = {
        row: (max(end, second if row == leader else first), moved - there)
        for row, (end, _, there) in own.items()
        if row >= 0
    }
    return Arrivals(first, moved, nearer)


class Graphs:
    """Of all DAGs that have waiting or running tasks here, by number."""

    def __init__(self) -> None:
        self._graphs: dict[int, Graph] = {}
        self._line: OrderedDict[int, Graph] = OrderedDict()
        """Those whose tasks have ranks, the one first that was longest not ranked."""
        self.moved: set[int] = set()
        """Numbers of DAGs between whose tasks, or from outside, data moves."""

    def add(self, dag: Dag) -> Graph:
        """The graph of this DAG."""
        number = dag.record.number
        found = self._graphs.get(number)
        if found is None:
            found = self._graphs[number] = Graph(dag)
        elif found.size < len(dag.tasks):
            found.grow()
        else:
            return found
        if found.transfers is not None and found.transfers.any():
            self.moved.add(number)
        if found.linked:
            self._line[number] = found
            self._line.move_to_end(number, last=False)
        return found

    def __len__(self) -> int:
        return len(self._graphs)

    def __contains__(self, graph: Graph) -> bool:
        return self._graphs.get(graph.dag.record.number) is graph

    def of(self, key: int) -> Graph | None:
        """The graph of a task's DAG, if it is known."""
        return self._graphs.get(key >> INDEX_BITS)

    def linked(self, key: int) -> bool:
        """Whether tasks depend on others in this task's DAG."""
        graph = self._graphs.get(key >> INDEX_BITS)
        return graph is not None and graph.linked

    def arrivals(self, key: int, agents: AgentTable, expected: Mapping[int, Expected]) -> Arrivals:
        """Of a task by its key, as `Graph.arrivals`; at once if it waits for no data."""
        graph = self._graphs.get(key >> INDEX_BITS)
        if graph is None or not graph.moves:
            return AT_ONCE
        return graph.arrivals(graph.task(key), agents, expected)

    def remove(self, number: int) -> None:
        """The DAG has ended."""
        self._graphs.pop(number, None)
        self._line.pop(number, None)
        self.moved.discard(number)

    def behind(self, epoch: int) -> Graph | None:
        """The graph whose ranks are to be renewed next, None if all are of this epoch of the estimates."""
        first = next(iter(self._line.values()), None)
        return first if first is not None and first.ranked < epoch else None

    def ranked(self, graph: Graph) -> None:
        """Its ranks are as new as any."""
        if graph.ranked >= 0:
            self._line.move_to_end(graph.dag.record.number)


class _Near:
    """Of one DAG, the keys of tasks that are with agents and have not completed; by key, how many of a
    task's predecessors are among them (`live`), and the tasks that wait for none but these."""

    __slots__ = ("live", "tasks", "with_agents")

    def __init__(self) -> None:
        self.with_agents: set[int] = set()
        self.live: dict[int, int] = {}
        self.tasks: dict[int, Task] = {}

    def judge(self, task: Task) -> None:
        """Look at a task anew."""
        if 0 < task.waiting == self.live.get(task.key, 0):
            self.tasks[task.key] = task
        else:
            self.tasks.pop(task.key, None)


class Foreseen:
    """Tasks that can begin as soon as what is with agents has ended, kept current as attempts come and go."""

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self._dags: dict[int, _Near] = {}

    def held(self, key: int) -> None:
        """The task is with an agent now, and was not before."""
        successors = self.successors(key)
        if not successors or self._completed(key):
            return
        near = self._dags.setdefault(key >> INDEX_BITS, _Near())
        if key not in near.with_agents:
            near.with_agents.add(key)
            for task in successors:
                near.live[task.key] = near.live.get(task.key, 0) + 1
                near.judge(task)

    def added(self, task: Task, live: Sequence[int]) -> None:
        """The task has come to its DAG, and waits for others, of which `live` are with agents."""
        near = self._dags.setdefault(task.key >> INDEX_BITS, _Near()) if live else None
        if near is not None and task.key not in near.live:
            near.with_agents.update(live)
            near.live[task.key] = len(live)
            near.judge(task)

    def released(self, key: int) -> None:
        """It has completed, which the state has counted already, or no agent has it any more."""
        near = self._dags.get(key >> INDEX_BITS)
        if near is None:
            return
        counted = key in near.with_agents
        near.with_agents.discard(key)
        for task in self.successors(key):
            live = near.live.get(task.key, 0) - counted
            if live > 0:
                near.live[task.key] = live
            else:
                near.live.pop(task.key, None)
            near.judge(task)

    def forget_dag(self, number: int) -> None:
        """The DAG has ended."""
        self._dags.pop(number, None)

    def tasks(self) -> list[Task]:
        """All of them."""
        return [
            task
            for near in self._dags.values()
            for task in near.tasks.values()
            if task.state is TaskState.PENDING
        ]

    def live(self, key: int) -> int:
        """Predecessors of a task that are with an agent."""
        near = self._dags.get(key >> INDEX_BITS)
        return 0 if near is None else near.live.get(key, 0)

    def successors(self, key: int, most: int | None = None) -> list[Task]:
        """What depends on a task, or the first of them."""
        graph = self._graphs.of(key)
        if graph is None or not graph.linked:
            return []
        tasks = graph.dag.tasks
        return [tasks[index] for index in tasks[key & INDEX_MASK].successors[:most]]

    def _completed(self, key: int) -> bool:
        graph = self._graphs.of(key)
        return graph is not None and graph.task(key).state is TaskState.COMPLETED
