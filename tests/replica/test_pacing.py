"""How often agents report their load: less often the more there are, never more in all than the bound (D2).
And what they report that cannot be is counted, and not kept."""

from __future__ import annotations

import asyncio
import math

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.commands import Command
from coordinator.core.model import AgentLoad, AgentSpec
from coordinator.core.outcome import Reply, SessionOpened
from coordinator.core.state import State
from coordinator.replica.pacing import SHIFT, Pace
from coordinator.replica.sessions import Session, Sessions


@given(
    st.integers(1, 5_000), st.integers(1, 2_000), st.lists(st.integers(0, 20_000), min_size=1, max_size=30)
)
def test_all_agents_together_stay_below_the_bound(least_ms: int, most_per_s: int, counts: list[int]) -> None:
    pace = Pace(least_ms, most_per_s)
    for agents in counts:
        before = pace.interval_ms
        told = pace.count(agents)
        assert agents * 1000 / pace.interval_ms <= most_per_s
        assert pace.interval_ms >= least_ms
        assert told is (pace.interval_ms != before)
        assert not told or abs(pace.interval_ms - before) > SHIFT * before


def test_few_agents_have_the_shortest_interval_and_are_not_told_of_every_change() -> None:
    pace = Pace(1_000, 1_000)
    assert [pace.count(agents) for agents in (1, 800, 1_000)] == [False, False, False]
    assert (pace.count(1_001), pace.interval_ms) == (True, 1_252)
    assert (pace.count(1_100), pace.interval_ms) == (False, 1_252)
    assert (pace.count(10_000), pace.interval_ms) == (True, 12_500)
    assert (pace.count(1), pace.interval_ms) == (True, 1_000)


class Link:
    """Notes what the agent is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __getattr__(self, name: str) -> object:
        return lambda *_: self.said.append(name)


class Log:
    """Records every session as soon as it is asked to."""

    def submit(self, command: Command) -> asyncio.Future[Reply]:
        del command
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        reply.set_result(SessionOpened(1, [], False))
        return reply


async def test_every_agent_is_told_when_the_interval_changes() -> None:
    pace = Pace(100, 20)
    sessions = Sessions(State, lambda _: None, Log(), max_agents=10, pace=pace)  # type: ignore[arg-type]
    links = [Link() for _ in range(4)]
    opened = [await sessions.open(AgentSpec(f"a{at}", "i", 1, 1), [], link) for at, link in enumerate(links)]
    assert pace.interval_ms == 250
    assert [link.said.count("pace") for link in links] == [2, 2, 2, 1]
    assert {link.said[0] for link in links} == {"welcome"}
    for session in opened[1:]:
        await sessions.close(session, goodbye=False)
    assert (pace.interval_ms, links[0].said.count("pace")) == (125, 3)


async def test_a_load_that_cannot_be_is_replaced_and_counted() -> None:
    sessions = Sessions(State, lambda _: None, Log(), max_agents=10, pace=Pace(1, 1))  # type: ignore[arg-type]
    session = Session("a", 1, Link())
    sessions.load(session, AgentLoad(cpu=0.5))
    assert (sessions.take_loads(), sessions.suspicious) == ({"a": AgentLoad(cpu=0.5)}, 0)
    sessions.load(session, AgentLoad(cpu=math.nan, memory=math.inf, latency_ms=-1.0))
    assert (sessions.take_loads(), sessions.suspicious) == ({"a": AgentLoad(cpu=1.0, memory=1.0)}, 3)
    sessions.load(session, AgentLoad(gpu=2.0))
    assert (sessions.take_loads(), sessions.suspicious) == ({"a": AgentLoad(gpu=1.0)}, 4)
