"""A leader's loops on a real state machine, whose proposals a test looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from coordinator.config import AgentsSection, RetentionSection
from coordinator.core.commands import Command
from coordinator.core.model import AgentLoad
from coordinator.core.outcome import Reply
from coordinator.defects import Defects
from coordinator.forecast.settings import ForecastSettings
from coordinator.replica.leader import Leader
from coordinator.replica.pacing import Pace
from coordinator.replica.placement import Placement
from coordinator.replica.sessions import Session, Sessions
from tests.replica.nodes import PATIENCE_S

QUICK = AgentsSection(load_interval_ms=100)
LOAD = AgentLoad(cpu=0.5, memory=0.5)


class StillClock:
    """It is always the same time."""

    def now_ms(self) -> int:
        return 1_000


class Proposals:
    """Takes proposals, and leaves them without an answer."""

    def __init__(self) -> None:
        self.made: list[Command] = []
        self.news = asyncio.Event()
        self.before_entry: Callable[[], None]
        self.ends_are_due: Callable[[], bool]

    def submit(self, command: Command) -> asyncio.Future[Reply]:
        self.made.append(command)
        self.news.set()
        return asyncio.get_running_loop().create_future()

    def ask(self) -> None:
        """Let the leader add to an entry."""
        asyncio.get_running_loop().call_soon(self.before_entry)


class Term:
    """A leader of the agent r1 and the DAG "one", its proposals and its defects."""

    def __init__(self, log, applier) -> None:
        applier.apply([log.agent("r1"), log.chain("one", 1)])
        self.applier = applier
        self.lost = 0
        self.node_defects = Defects()
        self.defects = self.node_defects.within(self.lose)
        self.proposals = Proposals()
        self.sessions = Sessions(
            lambda: applier.state, lambda _: None, self.proposals, max_agents=9, pace=Pace(1_000, 1_000)
        )
        self.placement = Placement(
            lambda: applier.state,
            self.proposals.submit,
            lambda: 1_000,
            look_ahead_ms=20,
            opened_after=0,
            defects=self.defects,
        )
        self.leader = Leader(
            applier,
            self.proposals,
            self.sessions,
            self.placement,
            StillClock(),
            self.defects,
            agents=QUICK,
            retention=RetentionSection(),
            forecast=ForecastSettings(),
            slow_models=None,
        )

    def lose(self) -> None:
        self.lost += 1

    def reports_load(self) -> None:
        self.sessions.load(Session("r1", 1, None), LOAD)

    async def until(self, holds: Callable[[], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while not holds():
            assert asyncio.get_running_loop().time() < deadline, f"waited {PATIENCE_S} s in vain"
            await asyncio.sleep(0.001)
