"""What an agent says of itself, within bounds, and anew while its session is open (D1, D8)."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.api import agent_specs
from coordinator.api.agent_service import AgentService
from coordinator.api.agent_specs import spec_from_hello
from coordinator.config import LimitsSection
from coordinator.core.commands import ChangeAgent
from coordinator.core.model import AgentSpec, AgentState
from coordinator.core.outcome import AgentChanged
from coordinator.errors import InvalidRequest, QueueFull, StaleFence
from coordinator.replica.pacing import Pace
from coordinator.replica.sessions import Session, Sessions
from quorumflow_proto.v1 import agent_pb2 as pb
from tests.replica.nodes import Nodes

LIMITS = LimitsSection()
LONG = "x" * (agent_specs.MAX_NAME_CHARS + 1)
MANY = [f"n{number}" for number in range(agent_specs.MAX_NAMES + 1)]


def hello(**fields: Any) -> pb.Hello:
    return pb.Hello(**{"agent_id": "a", "instance_id": "i", "slots": 1, "credit": 2, **fields})


def test_everything_that_is_said_is_kept_in_order() -> None:
    said = hello(
        tools=["torch", "drill"],
        speed=0.5,
        busy_watts=40.5,
        tool_limits={"torch": 2, "drill": 1},
        model_limits={"vision": 3},
        data=["site:north", "maps"],
        groups=["night", "day"],
    )
    spec = spec_from_hello(said, LIMITS)
    assert (spec.tools, spec.speed, spec.busy_watts) == (("drill", "torch"), 0.5, 40.5)
    assert (spec.tool_limits, spec.model_limits) == ((("drill", 1), ("torch", 2)), (("vision", 3),))
    assert (spec.data, spec.groups) == (("maps", "site:north"), ("day", "night"))


def test_an_agent_that_says_little_is_a_usual_one() -> None:
    """Also one of an SDK that does not know of these fields."""
    assert spec_from_hello(hello(), LIMITS) == AgentSpec("a", "i", 1, 2)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"agent_id": ""}, "agent_id"),
        ({"instance_id": LONG}, "instance_id"),
        ({"slots": 0}, "1 <= slots"),
        ({"slots": LIMITS.max_slots + 1}, "limits.max_slots"),
        ({"speed": 0.0}, "its speed is 0.0"),
        ({"speed": math.nan}, "its speed is nan"),
        ({"speed": math.inf}, "its speed is inf"),
        ({"speed": 1_000.1}, "at most 1000"),
        ({"busy_watts": -1.0}, "takes -1.0 W"),
        ({"busy_watts": math.nan}, "takes nan W"),
        ({"busy_watts": math.inf}, "takes inf W"),
        ({"tool_limits": {"torch": 0}}, "tool_limits of 'torch' is 0"),
        ({"model_limits": dict.fromkeys(MANY, 1)}, "1001 model_limits, at most 1000"),
        ({"model_limits": {LONG: 1}}, "model_limits has 257 characters"),
        ({"data": [f"d{number}" for number in range(agent_specs.MAX_DATA + 1)]}, "MAX_DATA"),
        ({"data": [LONG]}, "data has 257 characters"),
        ({"groups": MANY}, "1001 groups"),
        ({"labels": {"a": LONG}}, "labels has 257"),
        ({"capabilities": [{"name": LONG, "level": 1}]}, "capabilities has 257"),
        ({"task_types": MANY}, "1001 task_types"),
        ({"zone": LONG}, "zone has 257"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        spec_from_hello(hello(**fields), LIMITS)
    assert says in refusal.value.message


class Talk:
    """The stream of an agent that a test speaks for."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[object] = asyncio.Queue()
        self.hears: asyncio.Queue[pb.CoordinatorMessage] = asyncio.Queue()

    async def read(self) -> object:
        return await self.says.get()

    async def write(self, message: pb.CoordinatorMessage) -> None:
        self.hears.put_nowait(message)

    async def heard(self, kind: str) -> Any:
        """The next message of this kind."""
        async with asyncio.timeout(20):
            while (message := await self.hears.get()).WhichOneof("body") != kind:
                pass
        return getattr(message, kind)

    async def becomes(self, **fields: Any) -> pb.RespecReply:
        """The agent says what it is from now on."""
        self.says.put_nowait(pb.AgentMessage(respec=pb.Respec(hello=hello(**fields))))
        return await self.heard("respec_reply")


async def test_an_agent_is_what_it_says_in_its_session(tmp_path: Path) -> None:
    """D1: from the answer on, also for whoever places tasks; what is wrong changes nothing."""
    nodes, talk = Nodes(tmp_path, 1), Talk()
    await nodes.start()
    try:
        node = nodes.nodes[await nodes.led()]
        talk.says.put_nowait(pb.AgentMessage(hello=hello()))
        serving = asyncio.create_task(AgentService(node).Session(None, talk))
        epoch = (await talk.heard("welcome")).session_epoch
        assert not (await talk.becomes(credit=7, cached_models=["vision"])).HasField("error")
        record = node.applier.state.agents["a"].record
        assert (record.spec.credit, record.spec.cached_models, record.epoch) == (7, ("vision",), epoch)
        leader = node.leadership.leader
        assert leader is not None
        agents = leader.placement._snapshot.agents
        assert agents.specs[agents.rows["a"]] == record.spec
        for wrong, reason in (({"slots": 0}, "LIMIT_EXCEEDED"), ({"agent_id": "b"}, "INVALID_REQUEST")):
            assert (await talk.becomes(**wrong)).error.reason == reason
        assert not (await talk.becomes(credit=8)).HasField("error")
        assert node.applier.state.agents["a"].record.spec == AgentSpec("a", "i", 1, 8)
        talk.says.put_nowait(grpc.aio.EOF)
        await serving
    finally:
        await nodes.stop()


class Full:
    """A proposer whose queue is full at first; answers with what it is given."""

    def __init__(self, *answers: object) -> None:
        self.commands: list[object] = []
        self.waited = 0
        self._answers = deque(answers)

    async def call(self, command: object) -> object:
        self.commands.append(command)
        answer = self._answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def room(self) -> None:
        self.waited += 1


async def test_a_change_waits_for_room_in_a_full_queue() -> None:
    full = Full(QueueFull("full"), QueueFull("full"), AgentChanged(AgentState.CONNECTED))
    sessions = Sessions(dict, lambda _: None, full, max_agents=1, pace=Pace(1_000, 1_000))
    spec = AgentSpec("a", "i", 1, 2)
    await sessions.change(Session("a", 7, None), spec)
    assert (full.waited, full.commands) == (2, [ChangeAgent(spec, 7)] * 3)


async def test_a_change_in_a_session_that_is_over_ends_the_stream() -> None:
    """F3."""
    sessions = Sessions(dict, lambda _: None, Full(StaleFence("over")), max_agents=1, pace=Pace(1_000, 1_000))
    with pytest.raises(StaleFence):
        await sessions.change(Session("a", 7, None), AgentSpec("a", "i", 1, 2))
