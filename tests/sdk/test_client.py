"""Clients follow the leader, repeat what may be repeated under one request id, and read typed records.

Answers A5, B6, C7 (streamed submission), G1.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from agent_sdk import AsyncClient, Client, Dag, DagEvent, DagStatus, SubmitSettings, Task, TaskEvent
from agent_sdk._channels import CLIENT_KEEPALIVE_MS
from agent_sdk._leader import INQUIRY_NS
from agent_sdk._surroundings import this_machine
from agent_sdk.errors import (
    DagCycle,
    DeadlineExceeded,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    QueueFull,
    RevisionCompacted,
    TaskFailed,
    Unavailable,
    WrongState,
)
from quorumflow_proto.v1 import client_pb2, common_pb2, operator_pb2
from tests.sdk.conftest import NewNode
from tests.sdk.scripted import STAY, UNAVAILABLE, Node, Refused, not_leader, refusal

DAG = Dag(name="one").add(Task("a", "noop"))
SUBMITTED = client_pb2.SubmitDagReply(dag_id="d1", revision=5, tasks=1)
RUNNING = client_pb2.GetDagReply(
    dag=common_pb2.DagView(dag_id="d1", state=common_pb2.DAG_STATE_RUNNING), revision=10
)
COMPLETED = client_pb2.GetDagReply(
    dag=common_pb2.DagView(
        dag_id="d1",
        name="one",
        namespace="default",
        state=common_pb2.DAG_STATE_COMPLETED,
        counts=common_pb2.TaskCounts(completed=3, failed=1),
        created_ms=1_000,
        finished_ms=3_500,
    ),
    revision=20,
)
COMPACTED = refusal(grpc.StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED")


def queue_full(retry_after_ms: int = 1) -> object:
    return refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", retry_after_ms=retry_after_ms)


def task_event(revision: int, task_id: str) -> client_pb2.Event:
    change = client_pb2.TaskChange(dag_id="d1", task_id=task_id, state=common_pb2.TASK_STATE_RUNNING)
    return client_pb2.Event(revision=revision, at_ms=1, task=change)


def dag_event(revision: int, state: common_pb2.DagState.ValueType) -> client_pb2.Event:
    return client_pb2.Event(revision=revision, dag=client_pb2.DagChange(dag_id="d1", state=state))


@pytest.fixture
async def client(node: Node) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(node.address, timeout_s=15.0) as open_client:
        yield open_client


# --- following the leader -----------------------------------------------------------------------------------


async def test_a_redirect_is_followed_and_remembered(new_node: NewNode) -> None:
    follower, leader = await new_node(), await new_node()
    follower.script.on("GetDag", not_leader(leader.address))
    leader.script.on("GetDag", RUNNING)
    async with AsyncClient([follower.address]) as client:
        assert (await client.get("d1")).state == "RUNNING"
        await client.get("d1")
    assert (len(follower.script.calls["GetDag"]), len(leader.script.calls["GetDag"])) == (1, 2)


async def test_a_node_that_is_down_is_passed_over(node: Node, unused_address: str) -> None:
    node.script.on("GetDag", RUNNING)
    async with AsyncClient(f"{unused_address},{node.address}") as client:
        assert (await client.get("d1")).state == "RUNNING"


async def test_a_redirect_to_a_dead_leader_does_not_end_the_search(node: Node, unused_address: str) -> None:
    node.script.on("GetDag", not_leader(unused_address), not_leader(unused_address), not_leader(), RUNNING)
    async with AsyncClient(node.address) as client:
        assert (await client.get("d1")).state == "RUNNING"


async def test_a_client_outlives_every_node_that_it_was_told_of(new_node: NewNode) -> None:
    first, later = await new_node(), await new_node()
    here = operator_pb2.MembersReply(members=[operator_pb2.MemberView(id="n4", grpc_address=later.address)])
    first.script.on("ListMembers", here)
    first.script.on("GetDag", RUNNING, RUNNING, UNAVAILABLE)
    later.script.on("GetDag", COMPLETED)
    now_ns = iter([0, INQUIRY_NS - 1, INQUIRY_NS, INQUIRY_NS])
    around = this_machine(CLIENT_KEEPALIVE_MS)._replace(now_ns=lambda: next(now_ns, INQUIRY_NS))
    async with AsyncClient([first.address], surroundings=around) as client:
        await client.get("d1")
        assert not first.script.calls["ListMembers"]
        await client.get("d1")
        assert (await client.get("d1")).state == "COMPLETED"
    assert len(first.script.calls["ListMembers"]) == 1


async def test_two_nodes_that_name_each_other_are_asked_until_one_leads(new_node: NewNode) -> None:
    one, other = await new_node(), await new_node()
    one.script.on("GetDag", not_leader(other.address))
    other.script.on("GetDag", *[not_leader(one.address)] * 3, RUNNING)
    async with AsyncClient(one.address) as client:
        assert (await client.get("d1")).state == "RUNNING"


@pytest.mark.parametrize(
    "first_answer",
    [
        UNAVAILABLE,
        Refused(grpc.StatusCode.INTERNAL),
        not_leader(),
        refusal(grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN"),
        refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_after_ms=1),
        queue_full(),
    ],
)
async def test_a_write_is_repeated_with_the_same_request_id(
    node: Node, client: AsyncClient, first_answer: object
) -> None:
    node.script.on("SubmitDag", first_answer, first_answer, SUBMITTED)
    assert await client.submit(DAG) == "d1"
    ids = [call.request_id for call in node.script.calls["SubmitDag"]]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert len(ids[0]) == 32
    await client.submit(DAG)
    await client.submit(DAG, request_id="mine")
    assert node.script.calls["SubmitDag"][3].request_id not in {"", ids[0]}
    assert node.script.calls["SubmitDag"][4].request_id == "mine"


async def test_every_write_carries_a_request_id(node: Node, client: AsyncClient) -> None:
    node.script.on("CancelDag", client_pb2.CancelDagReply(state=common_pb2.DAG_STATE_CANCELLED))
    node.script.on("CancelTask", client_pb2.CancelTaskReply(state=common_pb2.TASK_STATE_CANCELLED))
    node.script.on("RescheduleTask", client_pb2.RescheduleTaskReply(state=common_pb2.TASK_STATE_READY))
    node.script.on("DrainAgent", operator_pb2.DrainAgentReply(state="DRAINING"))
    assert await client.cancel("d1", "why") == "CANCELLED"
    assert await client.cancel_task("d1", "a", "why") == "CANCELLED"
    assert await client.reschedule("d1", "a") == "READY"
    assert await client.drain_agent("a1", undo=True) == "DRAINING"
    for method in ("CancelDag", "CancelTask", "RescheduleTask", "DrainAgent"):
        assert len(node.script.calls[method][0].request_id) == 32
    assert node.script.calls["CancelDag"][0].reason == "why"
    assert node.script.calls["DrainAgent"][0].undo


async def test_the_deadline_ends_the_search_and_tells_the_last_answer(node: Node) -> None:
    node.script.on("GetDag", not_leader())
    async with AsyncClient(node.address, timeout_s=0.1) as client:
        with pytest.raises(DeadlineExceeded, match=f"from {node.address}: said NOT_LEADER") as raised:
            await client.get("d1")
    assert raised.value.fields["last_reason"] == "NOT_LEADER"


async def test_a_queue_that_stays_full_beyond_the_deadline_is_told_as_such(node: Node) -> None:
    node.script.on("SubmitDag", queue_full(60_000))
    async with AsyncClient(node.address, timeout_s=1.0) as client:
        with pytest.raises(QueueFull) as raised:
            await client.submit(DAG)
    assert raised.value.retry_after_ms == 60_000
    assert len(node.script.calls["SubmitDag"]) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(grpc.StatusCode.INVALID_ARGUMENT, "DAG_CYCLE", fields={"cycle": "a -> b"}), DagCycle),
        (refusal(grpc.StatusCode.NOT_FOUND, "NOT_FOUND", fields={"cycle": "a -> b"}), NotFound),
        (refusal(grpc.StatusCode.INVALID_ARGUMENT, "OF_LATER", fields={"cycle": "a -> b"}), InvalidRequest),
    ],
)
async def test_a_refusal_is_raised_at_once_with_its_fields(
    node: Node, client: AsyncClient, answer: object, kind: type[InvalidRequest]
) -> None:
    node.script.on("SubmitDag", answer)
    with pytest.raises(kind) as raised:
        await client.submit(DAG)
    assert raised.value.fields == {"cycle": "a -> b"}
    assert raised.value.message == f"said {raised.value.reason}"
    assert len(node.script.calls["SubmitDag"]) == 1


async def test_a_message_that_is_too_large_for_the_server_is_no_full_queue(
    node: Node, client: AsyncClient
) -> None:
    with pytest.raises(LimitExceeded):
        await client.cancel("d1", "x" * (5 << 20))


@pytest.mark.parametrize("endpoints", ["", [], "localhost", "localhost:0", ":80", "h:70000", ["a:1", "b:x"]])
def test_malformed_endpoints_are_refused(endpoints: str | list[str]) -> None:
    with pytest.raises(InvalidRequest):
        AsyncClient(endpoints)


# --- submission ---------------------------------------------------------------------------------------------


async def test_a_large_dag_is_streamed_in_bounded_parts_and_repeated_whole(node: Node) -> None:
    node.script.on("SubmitDagStream", UNAVAILABLE, SUBMITTED)
    settings = SubmitSettings(tasks_per_message=10, bytes_per_message=10_000)
    dag = Dag(name="large", namespace="ns", labels={"k": "v"}, failure_policy="fail_fast")
    dag.extend(Task(f"t{n}", "noop", payload="x" * (3_000 if n >= 20 else 0)) for n in range(25))
    async with AsyncClient(node.address, submit_settings=settings) as client:
        assert await client.submit(dag) == "d1"
    first, second = node.script.calls["SubmitDagStream"]
    assert first == second
    assert [[task.id for task in part.tasks] for part in first] == [
        [f"t{n}" for n in range(10)],
        [f"t{n}" for n in range(10, 20)],
        ["t20", "t21", "t22"],
        ["t23", "t24"],
    ]
    header = first[0].header
    assert (header.name, header.namespace, dict(header.labels)) == ("large", "ns", {"k": "v"})
    assert header.failure_policy == common_pb2.FAILURE_POLICY_FAIL_FAST
    assert first[0].request_id
    assert not any(part.request_id or part.HasField("header") for part in first[1:])
    assert "SubmitDag" not in node.script.calls


# --- waiting and watching -----------------------------------------------------------------------------------


async def test_a_wait_is_one_call_where_the_node_waits(node: Node) -> None:
    node.script.on("GetDag", COMPLETED)
    async with AsyncClient(node.address, timeout_s=8) as client:
        assert (await client.wait("d1", timeout_s=15)).state == "COMPLETED"
    (call,) = node.script.calls["GetDag"]
    assert (call.dag_id, call.wait_ms, call.allow_stale) == ("d1", 4_000, False)


async def test_a_wait_watches_the_dag_from_where_it_was_read(node: Node, client: AsyncClient) -> None:
    node.script.on("GetDag", RUNNING, COMPLETED)
    done = client_pb2.WatchReply(events=[dag_event(12, common_pb2.DAG_STATE_COMPLETED)], revision=12)
    node.script.on("Watch", [client_pb2.WatchReply(revision=11), done, STAY])
    status = await client.wait("d1", timeout_s=15)
    assert (status.state, status.finished, status.makespan_s) == ("COMPLETED", True, 2.5)
    assert (status.tasks, status.revision) == ({"COMPLETED": 3, "FAILED": 1}, 20)
    (watch,) = node.script.calls["Watch"]
    assert (watch.dag_id, watch.from_revision, watch.dags_only) == ("d1", 11, True)


@pytest.mark.parametrize("broken", [COMPACTED, refusal(grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED")])
async def test_a_wait_polls_when_it_cannot_watch(node: Node, client: AsyncClient, broken: object) -> None:
    node.script.on("GetDag", RUNNING, RUNNING, COMPLETED)
    node.script.on("Watch", [broken])
    assert (await client.wait("d1", timeout_s=15)).state == "COMPLETED"
    assert len(node.script.calls["Watch"]) == 2


async def test_a_wait_goes_on_with_the_next_leader(new_node: NewNode) -> None:
    old, new = await new_node(), await new_node()
    old.script.on("GetDag", RUNNING)
    old.script.on("Watch", [STAY])
    new.script.on("Watch", [not_leader()], [dag_done()])
    new.script.on("GetDag", COMPLETED)
    async with AsyncClient([old.address, new.address]) as client:
        waiting = asyncio.create_task(client.wait("d1", timeout_s=15))
        await old.script.called("Watch")
        await old.stop()
        assert (await waiting).state == "COMPLETED"


def dag_done() -> client_pb2.WatchReply:
    return client_pb2.WatchReply(events=[dag_event(12, common_pb2.DAG_STATE_COMPLETED)], revision=12)


async def test_a_wait_ends_at_its_timeout(node: Node, client: AsyncClient) -> None:
    node.script.on("GetDag", RUNNING)
    node.script.on("Watch", [STAY])
    with pytest.raises(DeadlineExceeded, match=r"has not ended within 0\.05 s"):
        await client.wait("d1", timeout_s=0.05)


async def test_a_wait_for_an_unknown_dag_says_so(node: Node, client: AsyncClient) -> None:
    node.script.on("GetDag", refusal(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"))
    with pytest.raises(NotFound):
        await client.wait("d2")


async def test_a_watch_goes_on_after_a_break_without_gaps_or_repeats(node: Node, client: AsyncClient) -> None:
    unknown = client_pb2.Event(revision=8)
    node.script.on(
        "Watch",
        [
            client_pb2.WatchReply(events=[task_event(7, "a"), unknown], revision=8),
            client_pb2.WatchReply(events=[task_event(9, "b"), task_event(9, "c")], revision=8),
            UNAVAILABLE,
        ],
        [not_leader()],
        [
            client_pb2.WatchReply(events=[task_event(9, "b")], revision=8),
            client_pb2.WatchReply(events=[task_event(9, "c"), task_event(9, "d")], revision=9),
            client_pb2.WatchReply(events=[dag_event(10, common_pb2.DAG_STATE_FAILED)], revision=10),
            COMPACTED,
        ],
    )
    watch = client.watch("d1", from_revision=7)
    events = [await anext(watch) for _ in range(5)]
    with pytest.raises(RevisionCompacted):
        await anext(watch)
    assert [event.task_id for event in events if isinstance(event, TaskEvent)] == ["a", "b", "c", "d"]
    assert events[-1] == DagEvent(revision=10, at_ms=0, dag_id="d1", state="FAILED")
    assert [call.from_revision for call in node.script.calls["Watch"]] == [7, 9, 9]


async def test_a_watch_from_now_on_fixes_its_beginning_first(node: Node, client: AsyncClient) -> None:
    node.script.on("ListDags", client_pb2.ListDagsReply(revision=41))
    node.script.on(
        "Watch",
        [UNAVAILABLE],
        [client_pb2.WatchReply(events=[task_event(42, "a")], revision=42), STAY],
    )
    events = client.watch()
    assert (await anext(events)).revision == 42
    await events.aclose()
    assert [call.from_revision for call in node.script.calls["Watch"]] == [42, 42]


# --- records ------------------------------------------------------------------------------------------------


async def test_lists_are_read_page_by_page(node: Node, client: AsyncClient) -> None:
    view = common_pb2.DagView
    node.script.on(
        "ListDags",
        client_pb2.ListDagsReply(dags=[view(dag_id="d1"), view(dag_id="d2")], next_page_token="p2"),
        client_pb2.ListDagsReply(dags=[view(dag_id="d3")], revision=9),
    )
    listed = [dag async for dag in client.list(namespace="ns", states=["RUNNING", "FAILED"])]
    assert [dag.dag_id for dag in listed] == ["d1", "d2", "d3"]
    first, second = node.script.calls["ListDags"]
    assert (first.namespace, list(first.states)) == ("ns", [2, 4])
    assert (first.page_token, second.page_token) == ("", "p2")
    with pytest.raises(InvalidRequest, match="state is 'DONE'"):
        await anext(client.list(states=["DONE"]))


async def test_a_task_is_read_with_its_attempts(node: Node, client: AsyncClient) -> None:
    view = common_pb2.TaskView(
        dag_id="d1",
        id="a",
        index=3,
        type="work",
        state=common_pb2.TASK_STATE_RUNNING,
        depends_on=["b"],
        progress=0.5,
        attempts=[
            common_pb2.AttemptView(
                attempt=1, agent_id="a1", outcome=common_pb2.ATTEMPT_OUTCOME_LOST, ended_ms=9, reason="gone"
            ),
            common_pb2.AttemptView(attempt=2, agent_id="a2", assigned_ms=10, started_ms=11),
        ],
    )
    node.script.on("GetTask", client_pb2.GetTaskReply(task=view))
    node.script.on("ListTasks", client_pb2.ListTasksReply(tasks=[view]))
    status = await client.task("d1", "a")
    assert [one async for one in client.tasks("d1", states=["RUNNING"])] == [status]
    assert (status.id, status.index, status.state, status.depends_on) == ("a", 3, "RUNNING", ("b",))
    assert [(one.attempt, one.agent, one.outcome) for one in status.attempts] == [
        (1, "a1", "LOST"),
        (2, "a2", "LIVE"),
    ]


async def test_a_result_is_read_and_a_failure_can_be_raised(node: Node, client: AsyncClient) -> None:
    node.script.on(
        "GetResult",
        client_pb2.GetResultReply(state=common_pb2.TASK_STATE_COMPLETED, result=b'{"n":1}'),
        client_pb2.GetResultReply(state=common_pb2.TASK_STATE_FAILED, error="boom"),
    )
    result = await client.result("d1", "a")
    assert (result.raise_for_state().json(), result.text) == ({"n": 1}, '{"n":1}')
    with pytest.raises(TaskFailed, match="'a' of DAG 'd1' is FAILED: boom"):
        (await client.result("d1", "a")).raise_for_state()


async def test_the_cluster_is_read(node: Node, client: AsyncClient, unused_address: str) -> None:
    view = operator_pb2.NodeView(id="n1", role="leader", applied_index=7, digest="ab")
    node.script.on(
        "ClusterStatus",
        operator_pb2.ClusterStatusReply(leader_id="n1", term=3, commit_index=8, nodes=[view], agents=2),
    )
    node.script.on("NodeStatus", operator_pb2.NodeStatusReply(node=view, term=3, counters={"x": 1.5}))
    node.script.on("DrainNode", operator_pb2.DrainNodeReply(leader_id="n2"))
    node.script.on(
        "ListAgents",
        operator_pb2.ListAgentsReply(agents=[operator_pb2.AgentView(agent_id="a1", state="IDLE")]),
    )
    node.script.on(
        "ExplainTask",
        client_pb2.ExplainTaskReply(
            state=common_pb2.TASK_STATE_READY,
            refusals=[client_pb2.ExplainTaskReply.Refusal(reason="skill", agents=2, example_agent="a1")],
        ),
    )
    cluster = await client.cluster_status()
    assert (cluster.leader, cluster.term, cluster.commit_index, cluster.agents) == ("n1", 3, 8, 2)
    assert [(one.id, one.role, one.applied_index, one.digest) for one in cluster.nodes] == [
        ("n1", "leader", 7, "ab")
    ]
    itself = await client.node_status(node.address)
    assert (itself.term, itself.counters) == (3, {"x": 1.5})
    with pytest.raises(Unavailable):
        await client.node_status(unused_address)
    assert await client.drain_node("n1") == "n2"
    assert [(one.agent_id, one.state) async for one in client.agents()] == [("a1", "IDLE")]
    explanation = await client.explain("d1", "a")
    assert (explanation.state, explanation.refusals[0].example_agent) == ("READY", "a1")


# --- without an event loop ----------------------------------------------------------------------------------


async def test_the_client_without_a_loop_does_the_same(node: Node) -> None:
    node.script.on("SubmitDag", UNAVAILABLE, SUBMITTED)
    node.script.on("GetDag", RUNNING, COMPLETED)
    node.script.on("Watch", [dag_done(), STAY])
    node.script.on("ListDags", client_pb2.ListDagsReply(dags=[COMPLETED.dag], next_page_token="more"))

    def use() -> tuple[DagStatus, list[str], str]:
        with Client(node.address) as client:
            status = client.wait(client.submit(DAG), timeout_s=15)
            listed = client.list()
            names = [next(listed).name, next(listed).name]
            events = client.watch("d1", from_revision=3)
            event = next(events)
            assert isinstance(event, DagEvent)
        client.close()
        with pytest.raises(WrongState, match="has been closed"):
            client.get("d1")
        return status, names, event.state

    assert await asyncio.to_thread(use) == (
        await _status(node),
        ["one", "one"],
        "COMPLETED",
    )


async def _status(node: Node) -> DagStatus:
    async with AsyncClient(node.address) as client:
        return await client.get("d1")


def test_the_client_and_the_asynchronous_one_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)


async def test_a_node_is_drained_by_itself_wherever_that_was_asked_for(
    node: Node, client: AsyncClient, new_node: NewNode
) -> None:
    itself = await new_node()
    itself.script.on("DrainNode", operator_pb2.DrainNodeReply(leader_id="n3"))
    elsewhere = refusal(
        grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE", fields={"address": itself.address}
    )
    node.script.on("DrainNode", elsewhere, refusal(grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE"))
    assert await client.drain_node("n2") == "n3"
    with pytest.raises(WrongState):
        await client.drain_node("n1")
