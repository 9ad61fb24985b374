"""Whatever is sent over gRPC gets a clear error or works, and the node serves on. Answers B1, B4, C2, C7,
E8, E10, G1 and the bounds of principle 6."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from agent_sdk import Agent, AsyncClient, Dag, Task, TaskContext, errors
from agent_sdk.builtin import noop
from coordinator.cli.local_cluster import LocalCluster
from quorumflow_proto.v1 import agent_pb2, client_pb2, common_pb2, operator_pb2
from tests.integration.conftest import WAIT_S, RunAgent, StartCluster, Wire, eventually, refusal_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def spec(*tasks: common_pb2.TaskSpec, **header: Any) -> client_pb2.SubmitDagRequest:
    """A submission; its request id is the DAG's id."""
    header.setdefault("dag_id", "refused")
    dag = common_pb2.DagSpec(tasks=tasks, **header)
    return client_pb2.SubmitDagRequest(request_id=f"request of {dag.dag_id}", dag=dag)


def noop_task(task_id: str, **fields: Any) -> common_pb2.TaskSpec:
    return common_pb2.TaskSpec(id=task_id, type="noop", **fields)


RETRY = common_pb2.RetryPolicy


@pytest.mark.parametrize(
    ("request_", "code", "reason", "says"),
    [
        (spec(), INVALID, "INVALID_REQUEST", "no tasks"),
        (client_pb2.SubmitDagRequest(dag=spec(noop_task("t")).dag), INVALID, "INVALID_REQUEST", "request_id"),
        (spec(noop_task("t", payload=bytes(300_000))), EXHAUSTED, "LIMIT_EXCEEDED", "max_payload_bytes"),
        (spec(noop_task("a"), noop_task("a")), INVALID, "DUPLICATE_TASK_ID", "'a'"),
        (spec(noop_task("a", depends_on=["b"])), INVALID, "UNKNOWN_DEPENDENCY", "'b'"),
        (spec(noop_task("")), INVALID, "INVALID_REQUEST", "task id"),
        (spec(common_pb2.TaskSpec(id="t")), INVALID, "INVALID_REQUEST", "type"),
        (spec(noop_task("t"), failure_policy=99), INVALID, "INVALID_REQUEST", "99"),
        (spec(noop_task("t"), priority=98), INVALID, "INVALID_REQUEST", "98"),
        (spec(noop_task("t", family=97)), INVALID, "INVALID_REQUEST", "97"),
        (spec(noop_task("t", priority=96)), INVALID, "INVALID_REQUEST", "96"),
        (spec(noop_task("t", retry=RETRY(backoff=95))), INVALID, "INVALID_REQUEST", "95"),
        (spec(noop_task("t", deadline_ms=-1)), INVALID, "INVALID_REQUEST", "deadline"),
        (spec(noop_task("t", retry=RETRY(max_attempts=101))), EXHAUSTED, "LIMIT_EXCEEDED", "max_attempts"),
        (spec(noop_task("t"), dag_id="d" * 300), EXHAUSTED, "LIMIT_EXCEEDED", "limits.max_id_length"),
    ],
)  # fmt: skip
async def test_a_bad_submission_is_refused_with_its_reason(
    leader: Wire, request_: client_pb2.SubmitDagRequest, code: grpc.StatusCode, reason: str, says: str
) -> None:
    found, detail = await refusal_of(leader.client.SubmitDag(request_))
    assert (found, detail.reason) == (code, reason), detail.message
    assert says in detail.message
    part = client_pb2.SubmitDagPart(request_id=request_.request_id, header=request_.dag)
    part.header.ClearField("tasks")
    part.tasks.extend(request_.dag.tasks)
    streamed, again = await refusal_of(leader.client.SubmitDagStream(iter([part])))
    assert (streamed, again.reason, again.message) == (code, reason, detail.message)


async def test_a_cycle_is_named_in_order(client: AsyncClient) -> None:
    dag = Dag().add(Task(id="lead-in", type="noop"))
    dag.add(Task(id="a", type="noop", depends_on=["c", "lead-in"]))
    dag.add(Task(id="b", type="noop", depends_on=["a"])).add(Task(id="c", type="noop", depends_on=["b"]))
    with pytest.raises(errors.DagCycle) as refused:
        await client.submit(dag)
    assert "a -> b -> c -> a" in refused.value.message
    assert "lead-in" not in refused.value.message


async def test_an_empty_stream_is_refused(leader: Wire) -> None:
    code, detail = await refusal_of(leader.client.SubmitDagStream(iter([])))
    assert (code, detail.reason) == (INVALID, "INVALID_REQUEST")
    assert "header" in detail.message


async def test_a_message_above_the_limit_is_refused_and_the_connection_stays(leader: Wire) -> None:
    tasks = [noop_task(f"t{number}", payload=bytes(250_000)) for number in range(20)]
    code, detail = await refusal_of(leader.client.SubmitDag(spec(*tasks)))
    assert code is EXHAUSTED
    assert "larger than max" in detail.message
    await leader.operator.ClusterStatus(operator_pb2.ClusterStatusRequest())


@pytest.mark.parametrize(
    "method",
    [
        "ClientService/SubmitDag",
        "ClientService/GetDag",
        "ClientService/Watch",
        "OperatorService/DrainAgent",
        "KvService/Put",
        "KvService/Watch",
    ],
)
async def test_bytes_that_are_no_message_are_refused(leader: Wire, method: str) -> None:
    call = leader.channel.unary_unary(f"/coordinator.v1.{method}")
    code, detail = await refusal_of(call(b"\xff\xff\xff\xff garbage"))
    assert (code, detail.reason) == (INVALID, "INVALID_REQUEST")
    assert f"what was sent to /coordinator.v1.{method} is not a message of its type" in detail.message
    await leader.operator.ClusterStatus(operator_pb2.ClusterStatusRequest())


@pytest.mark.parametrize("method", ["ClientService/SubmitDagStream", "AgentService/Session"])
async def test_a_stream_of_bytes_that_are_no_message_is_refused(leader: Wire, method: str) -> None:
    call = leader.channel.stream_stream(f"/coordinator.v1.{method}")(iter([b"\xff\xff\xff garbage"]))
    code, detail = await refusal_of(call.read())
    assert (code, detail.reason) == (INVALID, "INVALID_REQUEST")
    assert "is not a message of its type" in detail.message


async def test_a_method_that_does_not_exist_is_refused(leader: Wire) -> None:
    code, _ = await refusal_of(leader.channel.unary_unary("/coordinator.v1.ClientService/Guess")(b""))
    assert code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("hello", "code", "says"),
    [
        ({"agent_id": "", "slots": 1}, INVALID, "agent_id"),
        ({"agent_id": "x" * 300, "slots": 1}, INVALID, "agent_id"),
        ({"agent_id": "x", "instance_id": "", "slots": 1}, INVALID, "instance_id"),
        ({"agent_id": "x", "slots": 0}, EXHAUSTED, "limits.max_slots"),
        ({"agent_id": "x", "slots": 20_000}, EXHAUSTED, "limits.max_slots"),
        ({"agent_id": "x", "slots": 1, "speed": math.nan}, EXHAUSTED, "its speed is nan"),
        ({"agent_id": "x", "slots": 1, "speed": math.inf}, EXHAUSTED, "its speed is inf"),
        ({"agent_id": "x", "slots": 1, "busy_watts": -math.inf}, EXHAUSTED, "takes -inf W"),
    ],
)
async def test_a_bad_hello_is_refused(
    leader: Wire, hello: dict[str, Any], code: grpc.StatusCode, says: str
) -> None:
    message = agent_pb2.Hello(**{"instance_id": "i", **hello})
    call = leader.agent.Session(iter([agent_pb2.AgentMessage(hello=message)]))
    found, detail = await refusal_of(call.read())
    assert found is code
    assert says in detail.message


async def test_a_stream_that_does_not_begin_with_hello_is_refused(leader: Wire) -> None:
    call = leader.agent.Session(iter([agent_pb2.AgentMessage(credit=agent_pb2.Credit(credit=1))]))
    code, detail = await refusal_of(call.read())
    assert code is INVALID
    assert "Hello" in detail.message


async def session(wire: Wire, agent_id: str, task_type: str) -> Any:
    """A session spoken by hand: the stream, past its welcome."""
    stream = wire.agent.Session()
    hello = agent_pb2.Hello(agent_id=agent_id, instance_id="i", slots=1, credit=1, task_types=[task_type])
    await stream.write(agent_pb2.AgentMessage(hello=hello))
    assert (await stream.read()).HasField("welcome")
    return stream


async def assigned(stream: Any) -> agent_pb2.Fence:
    """The fence of the first attempt that comes."""
    while True:
        message = await asyncio.wait_for(stream.read(), WAIT_S)
        if message.HasField("assignments"):
            return message.assignments.tasks[0].fence  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        (agent_pb2.Ended(outcome=1, result=bytes(300_000)), "limits.max_result_bytes"),
        (agent_pb2.Ended(outcome=77), "77"),
    ],
    ids=["result", "outcome"],
)
async def test_an_end_that_makes_no_sense_fails_the_attempt(
    leader: Wire, client: AsyncClient, ended: agent_pb2.Ended, says: str
) -> None:
    stream = await session(leader, f"rough-{says}", f"rough-{says}")
    dag_id = await client.submit(Dag().add(Task(id="t", type=f"rough-{says}")))
    report = agent_pb2.TaskReport(fence=await assigned(stream), ended=ended)
    await stream.write(agent_pb2.AgentMessage(reports=agent_pb2.Reports(reports=[report])))
    assert (await client.wait(dag_id, WAIT_S)).state == "FAILED"
    assert says in (await client.task(dag_id, "t")).reason
    stream.cancel()


async def test_reports_on_what_never_was_change_nothing(leader: Wire, client: AsyncClient) -> None:
    stream = await session(leader, "liar", "liar")
    fence = agent_pb2.Fence(key=2**63, attempt=2**31)
    reports = [
        agent_pb2.TaskReport(fence=fence, started=agent_pb2.Started()),
        agent_pb2.TaskReport(fence=fence, progress=agent_pb2.Progress(fraction=float("nan"))),
        agent_pb2.TaskReport(fence=fence, checkpoint=agent_pb2.Checkpoint(state=b"x")),
        agent_pb2.TaskReport(fence=fence),
        agent_pb2.TaskReport(fence=fence, ended=agent_pb2.Ended(outcome=1)),
    ]
    await stream.write(agent_pb2.AgentMessage(reports=agent_pb2.Reports(reports=reports)))
    message = await asyncio.wait_for(stream.read(), WAIT_S)
    assert [one.key for one in message.acks.fences] == [fence.key]
    stream.cancel()


async def test_a_result_above_the_limit_fails_the_task(
    client: AsyncClient, cluster: LocalCluster, run_agent: RunAgent
) -> None:
    agent = Agent(cluster.endpoints, "prolific")

    @agent.handler("prolific")
    async def too_much(context: TaskContext) -> bytes:
        return bytes(300_000)

    await run_agent(agent)
    dag_id = await client.submit(Dag().add(Task(id="t", type="prolific")))
    assert (await client.wait(dag_id, WAIT_S)).state == "FAILED"
    assert "300000" in (await client.task(dag_id, "t")).reason.replace(",", "")


async def test_a_task_of_a_type_that_nobody_handles_waits_and_says_why(client: AsyncClient) -> None:
    dag_id = await client.submit(Dag().add(Task(id="t", type="teleport")))

    async def placed() -> bool:
        return (await client.explain(dag_id, "t")).agents_total > 0

    await eventually(placed, "the scheduler has looked")
    explanation = await client.explain(dag_id, "t")
    assert (explanation.state, explanation.agents_feasible) == ("READY", 0)
    assert "impossible" in explanation.summary
    assert "teleport" in explanation.summary
    await client.cancel(dag_id)


async def test_a_dag_id_is_taken_once(client: AsyncClient) -> None:
    await client.submit(Dag(dag_id="once").add(Task(id="t", type="noop")))
    with pytest.raises(errors.AlreadyExists, match="'once' exists already"):
        await client.submit(Dag(dag_id="once").add(Task(id="t", type="noop")))
    await client.wait("once", WAIT_S)
    with pytest.raises(errors.AlreadyExists, match="'once' exists already"):
        await client.submit(Dag(dag_id="once").add(Task(id="t", type="noop")))


@pytest.mark.parametrize("tasks", [1, 6_000], ids=["small", "staged"])
async def test_the_same_request_twice_at_once_makes_one_dag(client: AsyncClient, tasks: int) -> None:
    dag = Dag().extend(Task(id=f"t{number}", type="noop") for number in range(tasks))
    request_id = f"twice-{tasks}"
    ids = await asyncio.gather(*(client.submit(dag, request_id=request_id) for _ in range(4)))
    assert len(set(ids)) == 1
    ended = await client.wait(ids[0], WAIT_S)
    assert (ended.state, ended.tasks) == ("COMPLETED", {"COMPLETED": tasks})


@pytest.mark.parametrize("token", ["x", "u", "ux", "f-1", "-1", "9" * 40, "\u0664", "u\u0664", "1.5"])
async def test_a_page_token_of_no_listing_is_refused(leader: Wire, token: str) -> None:
    await leader.client.SubmitDag(spec(noop_task("t"), dag_id="paged"))
    listings = [
        leader.client.ListDags(client_pb2.ListDagsRequest(page_token=token)),
        leader.client.ListTasks(client_pb2.ListTasksRequest(dag_id="paged", page_token=token)),
    ]
    for listing in listings:
        code, detail = await refusal_of(listing)
        assert (code, detail.reason) == (INVALID, "INVALID_REQUEST")
        assert "page token" in detail.message


async def test_pages_beyond_the_end_are_empty(leader: Wire) -> None:
    await leader.client.SubmitDag(spec(noop_task("t"), dag_id="paged"))
    tasks = await leader.client.ListTasks(client_pb2.ListTasksRequest(dag_id="paged", page_token="7"))
    assert (list(tasks.tasks), tasks.next_page_token) == ([], "")
    agents = await leader.operator.ListAgents(operator_pb2.ListAgentsRequest(page_token="\u10ffff"))
    assert (list(agents.agents), agents.next_page_token) == ([], "")


@pytest.mark.parametrize(
    "ask",
    [
        lambda wire: wire.client.ListDags(client_pb2.ListDagsRequest(states=[94])),
        lambda wire: wire.client.ListTasks(client_pb2.ListTasksRequest(dag_id="paged", states=[94])),
    ],
    ids=["dags", "tasks"],
)
async def test_a_state_that_does_not_exist_is_refused(leader: Wire, ask: Callable[[Wire], Any]) -> None:
    await leader.client.SubmitDag(spec(noop_task("t"), dag_id="paged"))
    code, detail = await refusal_of(ask(leader))
    assert (code, detail.reason) == (INVALID, "INVALID_REQUEST")
    assert "94" in detail.message


async def test_a_full_queue_says_when_to_come_again(start_cluster: StartCluster) -> None:
    own = start_cluster(nodes=1, settings={"limits.max_queued_commands": "2"})
    (address,) = own.endpoints
    wire = Wire(address)
    calls = [wire.client.SubmitDag(spec(noop_task("t"), dag_id=f"crowd-{number}")) for number in range(100)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [one for one in answers if isinstance(one, grpc.aio.AioRpcError)]
    assert 0 < len(refused) < 100
    for error in refused:
        code, detail = await refusal_of(_raise(error))
        assert (code, detail.reason) == (EXHAUSTED, "QUEUE_FULL")
        assert detail.retry_after_ms > 0
        assert detail.fields["setting"] == "limits.max_queued_commands"
    await wire.channel.close()
    async with AsyncClient(address) as client:
        # Refused means not accepted, and the SDK sits it out.
        assert len([dag async for dag in client.list()]) == 100 - len(refused)
        ids = [f"patient-{number}" for number in range(50)]
        dags = [Dag(dag_id=dag_id).add(Task(id="t", type="noop")) for dag_id in ids]
        assert sorted(await asyncio.gather(*map(client.submit, dags))) == sorted(ids)


async def _raise(error: Exception) -> None:
    raise error


@pytest.mark.timeout(300)
async def test_a_dag_of_100_000_tasks_runs(
    client: AsyncClient, cluster: LocalCluster, run_agent: RunAgent
) -> None:
    for agent_id in ("big-1", "big-2"):
        agent = Agent(cluster.endpoints, agent_id, slots=500)
        agent.handler("big")(noop)
        await run_agent(agent)
    dag = Dag(dag_id="big").extend(Task(id=f"t{number}", type="big") for number in range(99_999))
    dag.add(Task(id="last", type="big", depends_on=[f"t{number}" for number in range(0, 99_999, 1_000)]))
    assert await client.submit(dag) == "big"
    ended = await client.wait("big", 270)
    assert (ended.state, ended.tasks) == ("COMPLETED", {"COMPLETED": 100_000})
