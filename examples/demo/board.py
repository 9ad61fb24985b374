"""The live picture in the terminal."""

from __future__ import annotations

import time
from collections import Counter, deque

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agent_sdk import AgentStatus, ClusterStatus, DagStatus

_STATES = ("PENDING", "READY", "ASSIGNED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
_RATE_WINDOW_S = 3.0


class Board:
    """Holds what was last seen, and draws it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._counts: Counter[str] = Counter()
        self._cluster: ClusterStatus | None = None
        self._agents: list[AgentStatus] = []
        self._done: deque[tuple[float, int]] = deque()
        self._began = time.monotonic()
        self._news: list[str] = []

    @property
    def completed(self) -> int:
        """Tasks COMPLETED."""
        return self._counts["COMPLETED"]

    def update(self, dags: list[DagStatus], cluster: ClusterStatus, agents: list[AgentStatus]) -> None:
        """Take over what the cluster says of itself."""
        self._counts = Counter()
        for dag in dags:
            self._counts.update(dag.tasks)
        self._cluster = cluster
        self._agents = agents
        now = time.monotonic()
        self._done.append((now, self.completed))
        while self._done[0][0] < now - _RATE_WINDOW_S:
            self._done.popleft()

    def leaderless(self) -> None:
        """No node answers as the leader at the moment."""
        self._cluster = None

    def tell(self, news: str) -> str:
        """Add a line to what has happened, and return it."""
        self._news.append(f"{time.monotonic() - self._began:6.2f} s  {news}")
        return self._news[-1]

    def __rich__(self) -> RenderableType:
        return Panel(
            Group(
                self._heading(),
                self._progress(),
                self._state_table(),
                self._agent_table(),
                *map(Text, self._news),
            ),
            title="Quorumflow demo",
        )

    def _heading(self) -> Text:
        if self._cluster is None:
            return Text("no leader: agents go on with what they hold", style="bold red")
        nodes = "  ".join(f"{node.id} {node.role}" for node in self._cluster.nodes)
        leader = f"leader {self._cluster.leader}, term {self._cluster.term}"
        return Text(f"{leader}    {nodes}    {self._rate():.1f} tasks/s")

    def _rate(self) -> float:
        (first_s, first), (last_s, last) = self._done[0], self._done[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def _progress(self) -> Table:
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(total=self._total, completed=self.completed, width=60),
            f"{self.completed} of {self._total}",
        )
        return line

    def _state_table(self) -> Table:
        table = Table(*(state.lower() for state in _STATES), box=None)
        table.add_row(*(str(self._counts[state]) for state in _STATES))
        return table

    def _agent_table(self) -> Table:
        table = Table("agent", "state", "skills", "running", "queued", "completed", box=None)
        for agent in self._agents:
            skills = ", ".join(f"{name} {level}" for name, level in agent.capabilities.items())
            queued = agent.held - agent.running
            table.add_row(
                agent.agent_id, agent.state, skills, str(agent.running), str(queued), str(agent.completed)
            )
        return table
