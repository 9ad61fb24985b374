"""Groups of agents from outside, on real processes (E4)."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner

from agent_sdk import AsyncClient, Client, Dag, Requires, Task
from coordinator.cli.agent_spec import AgentSpec
from coordinator.cli.client import main
from coordinator.cli.exits import Exit
from coordinator.cli.local_cluster import LocalCluster
from quorumflow_proto.v1 import operator_pb2 as pb
from tests.integration.conftest import WAIT_S, StartCluster, Wire, eventually_sync

AGENTS = [
    AgentSpec(id="a1", slots=2, zone="north", labels={"rack": "r1"}, speed=2.0),
    AgentSpec(id="a2", slots=1, zone="north", labels={"rack": "r2"}),
    AgentSpec(id="a3", slots=4, zone="south", busy_watts=50.0),
]


def shown(cluster: LocalCluster) -> dict[str, dict[str, Any]]:
    """What `coordctl groups` prints, by name."""
    command = ["--endpoints", ",".join(cluster.endpoints), "--output", "json", "groups"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == Exit.OK, done.stderr
    return {one["group"]: one for one in json.loads(done.stdout)["groups"]}


def test_zones_are_summed_up_as_agents_take_tasks_and_are_drained(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=1, agents=AGENTS)
    found = shown(cluster)
    assert {name: (one["agents"], one["slots"], one["speed"]) for name, one in found.items()} == {
        "north": (2, 3, 2.0),
        "south": (1, 4, 1.0),
    }
    assert (found["south"]["busy_watts"], found["south"]["free_slots"]) == (50.0, 4)
    with Client(cluster.endpoints) as client:
        client.submit(Dag().add(Task("long", "sleep", payload={"seconds": WAIT_S})))

        def held() -> bool:
            return sum(one.held for one in client.groups()) == 1

        eventually_sync(held, "the task is with an agent")
        client.drain_agent("a3")

        def drained() -> bool:
            south = next(one for one in client.groups() if one.name == "south")
            return south.accepting == 0 and south.wait_s is None and south.free_slots == 0

        eventually_sync(drained, "nobody accepts tasks in the south")


async def test_a_label_may_say_what_groups_agents(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=1, agents=AGENTS, settings={"scheduling.group_by": "rack"})
    async with AsyncClient(cluster.endpoints) as client:
        assert [one.name async for one in client.groups()] == ["r1", "r2", "south"]
        dag_id = await client.submit(Dag().add(Task("t", "work", requires=Requires(labels={"rack": "r9"}))))
        explanation = await client.explain(dag_id, "t")
    assert sorted(one.name for one in explanation.groups) == ["r1", "r2", "south"]
    wire = Wire(cluster.endpoints[0])
    async with wire.channel:
        first = await wire.operator.ListGroups(pb.ListGroupsRequest(page_size=2))
        rest = await wire.operator.ListGroups(pb.ListGroupsRequest(page_token=first.next_page_token))
    assert [[one.name for one in page.groups] for page in (first, rest)] == [["r1", "r2"], ["south"]]
    assert not rest.next_page_token
