"""What leaders and followers answer: watches across changes of leader, reads that are stale and say so,
redirects, health and reflection. Answers A5, B6, G1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from agent_sdk import AsyncClient, Dag, DagEvent, Event, Task
from coordinator.cli.local_cluster import LocalCluster
from quorumflow_proto.v1 import agent_pb2, client_pb2, common_pb2, operator_pb2
from tests.integration.conftest import WAIT_S, RunAgent, Wire, eventually, refusal_of
from tests.integration.gates import Gate


@pytest.fixture
async def change_leader(
    cluster: LocalCluster, client: AsyncClient
) -> AsyncIterator[Callable[[], asyncio.Task[str]]]:
    """Makes another node the leader; all may stand for election again afterwards."""
    drained: list[str] = []

    async def change() -> str:
        drained.append((await client.cluster_status()).leader)
        async with AsyncClient(cluster.nodes[drained[-1]].grpc) as direct:
            return await direct.drain_node(drained[-1])

    yield lambda: asyncio.create_task(change())
    for node_id in drained:
        async with AsyncClient(cluster.nodes[node_id].grpc) as direct:
            await direct.drain_node(node_id, undo=True)


async def follow(client: AsyncClient, revision: int, last: asyncio.Future[str]) -> list[Event]:
    """All events from a revision on, until the DAG that `last` names has ended."""
    seen: list[Event] = []
    async for event in client.watch(from_revision=revision):
        seen.append(event)
        ended = isinstance(event, DagEvent) and event.state == "COMPLETED"
        if ended and last.done() and event.dag_id == last.result():
            break
    return seen


async def test_a_watch_goes_on_under_another_leader_without_gap_or_repeat(
    client: AsyncClient, change_leader: Callable[[], asyncio.Task[str]]
) -> None:
    status = await client.cluster_status()
    last: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    watching = asyncio.create_task(follow(client, status.commit_index + 1, last))
    dags = [Dag(dag_id=f"watched-{number}").add(Task(id="t", type="noop")) for number in range(20)]
    for dag in dags[:10]:
        await client.submit(dag)
    moved = change_leader()
    for dag in dags[10:]:
        await client.submit(dag)
    assert await moved != status.leader
    for dag in dags:
        assert (await client.wait(dag.dag_id, WAIT_S)).state == "COMPLETED"
    # Its name is known before it is submitted, so that its end is not missed.
    last.set_result("the-last-one")
    await client.submit(Dag(dag_id="the-last-one").add(Task(id="t", type="noop")))
    seen = await asyncio.wait_for(watching, WAIT_S)
    assert (await client.cluster_status()).leader != status.leader
    again = await asyncio.wait_for(follow(client, status.commit_index + 1, last), WAIT_S)
    assert seen == again
    endings = [event.dag_id for event in seen if isinstance(event, DagEvent) and event.state == "COMPLETED"]
    assert set(endings) >= {dag.dag_id for dag in dags}
    assert len(endings) == len(set(endings))


async def known_to(node: Wire, dag_id: str) -> list[common_pb2.DagView]:
    """The DAG as this node lists it, if it does."""
    reply = await node.client.ListDags(client_pb2.ListDagsRequest(allow_stale=True))
    return [dag for dag in reply.dags if dag.dag_id == dag_id]


async def test_a_follower_answers_stale_reads_and_says_so(
    client: AsyncClient, leader: Wire, follower: Wire
) -> None:
    dag_id = await client.submit(Dag().add(Task(id="t", type="noop")))
    await client.wait(dag_id, WAIT_S)
    request = client_pb2.GetDagRequest(dag_id=dag_id, allow_stale=True)

    async def replicated() -> bool:
        return any(dag.finished_ms for dag in await known_to(follower, dag_id))

    await eventually(replicated, "the follower has applied it")
    reply = await follower.client.GetDag(request)
    assert reply.stale
    assert reply.revision > 0
    assert not (await leader.client.GetDag(request)).stale
    tasks = await follower.client.ListTasks(client_pb2.ListTasksRequest(dag_id=dag_id, allow_stale=True))
    assert [task.id for task in tasks.tasks] == ["t"]


async def test_a_read_may_wait_for_the_end(
    cluster: LocalCluster, client: AsyncClient, leader: Wire, follower: Wire, run_agent: RunAgent
) -> None:
    """At the leader, and at a follower that may be stale; and it may be over before."""
    gate = Gate(cluster.endpoints, slots=1)
    await run_agent(gate.agent)
    dag_id = await client.submit(gate.dag("default", 1))
    brief = client_pb2.GetDagRequest(dag_id=dag_id, wait_ms=1)
    assert (await leader.client.GetDag(brief)).dag.state == common_pb2.DAG_STATE_RUNNING
    await gate.has_begun(1)
    # The agent has begun before a follower need have heard of it.
    await eventually(lambda: known_to(follower, dag_id), "the follower has applied the submission")
    request = client_pb2.GetDagRequest(dag_id=dag_id, wait_ms=10_000)
    stale = client_pb2.GetDagRequest(dag_id=dag_id, wait_ms=10_000, allow_stale=True)
    calls = [leader.client.GetDag(request), follower.client.GetDag(stale)]
    gate.open.release()
    replies = [await call for call in calls]
    assert [reply.dag.state for reply in replies] == [common_pb2.DAG_STATE_COMPLETED] * 2
    assert [reply.stale for reply in replies] == [False, True]
    assert (await leader.client.GetDag(request)).dag.state == common_pb2.DAG_STATE_COMPLETED


async def test_who_waits_for_an_end_is_sent_on_when_another_leads(
    cluster: LocalCluster,
    client: AsyncClient,
    leader: Wire,
    change_leader: Callable[[], asyncio.Task[str]],
    run_agent: RunAgent,
) -> None:
    gate = Gate(cluster.endpoints, slots=1)
    await run_agent(gate.agent)
    dag_id = await client.submit(gate.dag("default", 1))
    await gate.has_begun(1)
    call = leader.client.GetDag(client_pb2.GetDagRequest(dag_id=dag_id, wait_ms=10_000))
    waiting = asyncio.create_task(client.wait(dag_id, WAIT_S))
    await change_leader()
    code, detail = await refusal_of(call)
    assert (code, detail.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_LEADER")
    gate.open.release()
    assert (await waiting).state == "COMPLETED"


HELLO = agent_pb2.AgentMessage(hello=agent_pb2.Hello(agent_id="lost", instance_id="i", slots=1))


@pytest.mark.parametrize(
    "ask",
    [
        lambda wire: wire.client.GetDag(client_pb2.GetDagRequest(dag_id="any")),
        lambda wire: wire.client.SubmitDag(client_pb2.SubmitDagRequest(request_id="r")),
        lambda wire: wire.client.SubmitDagStream(iter([client_pb2.SubmitDagPart(request_id="r")])),
        lambda wire: wire.client.CancelDag(client_pb2.CancelDagRequest(request_id="r", dag_id="any")),
        lambda wire: wire.client.ExplainTask(client_pb2.ExplainTaskRequest(dag_id="any", task_id="t")),
        lambda wire: wire.client.Watch(client_pb2.WatchRequest()).read(),
        lambda wire: wire.operator.ClusterStatus(operator_pb2.ClusterStatusRequest()),
        lambda wire: wire.operator.ListAgents(operator_pb2.ListAgentsRequest()),
        lambda wire: wire.operator.ListGroups(operator_pb2.ListGroupsRequest()),
        lambda wire: wire.operator.DrainAgent(operator_pb2.DrainAgentRequest(agent_id="a1")),
        lambda wire: wire.agent.Session(iter([HELLO])).read(),
    ],
    ids=[
        "get", "submit", "stream", "cancel", "explain", "watch", "status", "agents", "groups", "drain",
        "session",
    ],
)  # fmt: skip
async def test_a_follower_names_the_leader(
    ask: Callable[[Wire], object], leader: Wire, follower: Wire
) -> None:
    code, detail = await refusal_of(ask(follower))
    assert (code, detail.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_LEADER")
    assert detail.leader_address == leader.address
    assert leader.address in detail.message


async def test_every_node_answers_health_checks_and_reflection(
    cluster: LocalCluster, wire: Callable[[str], Wire]
) -> None:
    for node_id in cluster.nodes:
        channel = wire(node_id).channel
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = [one async for one in stub.ServerReflectionInfo(iter([asked]))]
        names = {service.name for service in answer.list_services_response.service}
        assert names > {f"coordinator.v1.{name}Service" for name in ("Client", "Kv", "Agent", "Operator")}


async def test_a_call_ends_at_its_deadline(leader: Wire) -> None:
    call = leader.client.Watch(client_pb2.WatchRequest(dag_id="no such"), timeout=0.2)
    code, _ = await refusal_of(call.read())
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
