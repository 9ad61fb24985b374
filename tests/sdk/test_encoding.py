"""What `Dag` and `Task` say arrives on the wire, and what cannot be said there is refused by name (B1, B4,
C1)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent_sdk import (
    CommunicationNeeds,
    ComputeNeeds,
    Dag,
    Data,
    IoNeeds,
    ModelNeeds,
    Requires,
    Resources,
    Retry,
    Task,
    ToolNeeds,
)
from agent_sdk import _encode as encode
from agent_sdk.errors import InvalidRequest
from quorumflow_proto.v1 import common_pb2

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_a_plain_task_is_small() -> None:
    assert encode.task_spec(Task("a", "noop")) == common_pb2.TaskSpec(id="a", type="noop")


def test_everything_about_a_task_arrives() -> None:
    task = Task(
        id="a",
        type="weld",
        payload={"n": 1},
        depends_on=["b"],
        inputs=["plate", Data("bolt", 10, ["zone-1"])],
        outputs=["frame"],
        priority="urgent",
        timeout_s=1.5,
        retry=Retry(max_attempts=3, backoff="exponential", delay_s=0.1, max_delay_s=2),
        requires=Requires(resources=Resources(cores=1.5), capabilities={"weld": 3}, labels={"line": "7"}),
        expected_s=0.0001,
        deadline=NOON,
        labels={"l": "1"},
        metadata={"m": "2"},
        family="tool",
        parent_id="p",
        preemptible=True,
    )
    assert encode.task_spec(task) == common_pb2.TaskSpec(
        id="a",
        type="weld",
        family=common_pb2.TASK_FAMILY_TOOL,
        payload=b'{"n":1}',
        depends_on=["b"],
        inputs=[
            common_pb2.DataItem(name="plate"),
            common_pb2.DataItem(name="bolt", size_bytes=10, locations=["zone-1"]),
        ],
        outputs=[common_pb2.DataItem(name="frame")],
        requirements=common_pb2.Requirements(
            resources=common_pb2.Resources(milli_cores=1_500),
            capabilities=[common_pb2.Capability(name="weld", level=3)],
            labels={"line": "7"},
        ),
        priority=common_pb2.PRIORITY_URGENT,
        deadline_ms=1_767_355_200_000,
        timeout_ms=1_500,
        retry=common_pb2.RetryPolicy(
            max_attempts=3, backoff=common_pb2.BACKOFF_EXPONENTIAL, delay_ms=100, max_delay_ms=2_000
        ),
        expected_ms=1,
        labels={"l": "1"},
        metadata={"m": "2"},
        parent_id="p",
        preemptible=True,
    )


@pytest.mark.parametrize("family", ["weld-cell", "Model", "unspecified", ""])
def test_a_family_that_only_the_server_may_know_is_left_to_it(family: str) -> None:
    spec = encode.task_spec(Task("a", "x", family=family, requires=Requires(tool=ToolNeeds(tool="t"))))
    assert (spec.family, spec.family_name) == (common_pb2.TASK_FAMILY_UNSPECIFIED, family)


def test_one_attempt_and_no_word_of_it_are_told_apart() -> None:
    """B4: the family decides where the task does not."""
    assert not encode.task_spec(Task("a", "x")).HasField("retry")
    assert encode.task_spec(Task("a", "x", retry=Retry())).retry.max_attempts == 1


@pytest.mark.parametrize(
    ("requires", "family"),
    [
        (Requires(model=ModelNeeds(model="m", version="2")), common_pb2.TASK_FAMILY_MODEL),
        (Requires(tool=ToolNeeds(tool="t", permissions=["p"])), common_pb2.TASK_FAMILY_TOOL),
        (Requires(compute=ComputeNeeds(cores=2)), common_pb2.TASK_FAMILY_COMPUTE),
        (Requires(io=IoNeeds(data_location="z")), common_pb2.TASK_FAMILY_IO),
        (Requires(communication=CommunicationNeeds(protocol="mqtt")), common_pb2.TASK_FAMILY_COMMUNICATION),
        (
            Requires(compute=ComputeNeeds(cores=2), tool=ToolNeeds(tool="t")),
            common_pb2.TASK_FAMILY_HYBRID,
        ),
        (Requires(labels={"a": "b"}), common_pb2.TASK_FAMILY_UNSPECIFIED),
    ],
)
def test_the_family_follows_the_needs(requires: Requires, family: common_pb2.TaskFamily.ValueType) -> None:
    spec = encode.task_spec(Task("a", "x", requires=requires))
    assert spec.family == family
    for name in ("model", "tool", "compute", "io", "communication"):
        assert spec.requirements.HasField(name) == (getattr(requires, name) is not None)


def test_needs_arrive_with_their_values() -> None:
    requires = Requires(
        anti_affinity=["g"],
        model=ModelNeeds(model="m", version="2", gpu_memory_bytes=3, batchable=True),
        tool=ToolNeeds(tool="t", permissions=["p"], environment="e"),
        compute=ComputeNeeds(cores=0.25, memory_bytes=4),
        io=IoNeeds(bandwidth_bps=5, storage_bytes=6, data_location="z"),
        communication=CommunicationNeeds(max_latency_ms=7, bandwidth_bps=8, protocol="mqtt"),
    )
    assert encode.task_spec(Task("a", "x", requires=requires)).requirements == common_pb2.Requirements(
        anti_affinity=["g"],
        model=common_pb2.ModelNeeds(model="m", version="2", gpu_memory_bytes=3, batchable=True),
        tool=common_pb2.ToolNeeds(tool="t", permissions=["p"], environment="e"),
        compute=common_pb2.ComputeNeeds(milli_cores=250, memory_bytes=4),
        io=common_pb2.IoNeeds(bandwidth_bps=5, storage_bytes=6, data_location="z"),
        communication=common_pb2.CommunicationNeeds(max_latency_ms=7, bandwidth_bps=8, protocol="mqtt"),
    )


def test_a_dag_arrives_with_its_tasks_in_order() -> None:
    dag = Dag(
        name="n",
        dag_id="d",
        priority="low",
        deadline=NOON,
        labels={"l": "1"},
        failure_policy="fail_fast",
        policy="green",
    )
    dag.add(Task("b", "x")).add(Task("a", "x", depends_on=["b"])).extend([Task("c", "x")])
    spec = encode.dag_spec(dag)
    assert [task.id for task in spec.tasks] == ["b", "a", "c"]
    assert (spec.dag_id, spec.name, spec.namespace, dict(spec.labels)) == ("d", "n", "default", {"l": "1"})
    assert spec.priority == common_pb2.PRIORITY_LOW
    assert spec.policy == "green"
    assert spec.failure_policy == common_pb2.FAILURE_POLICY_FAIL_FAST
    assert spec.deadline_ms == 1_767_355_200_000


@pytest.mark.parametrize(
    ("payload", "encoded"),
    [(None, b""), (b"\x00", b"\x00"), (bytearray(b"x"), b"x"), ("ä", "ä".encode()), ([1, "a"], b'[1,"a"]')],
)
def test_a_payload_may_be_bytes_text_or_json(payload: Any, encoded: bytes) -> None:
    assert encode.task_spec(Task("a", "x", payload=payload)).payload == encoded


BAD: Any = "bad"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task("a", "x", payload={1, 2}), "the payload is a set"),
        (Task("a", "x", priority=BAD), "priority is 'bad'; it must be one of low, medium, high, urgent"),
        (Task("a", "x", retry=Retry(backoff=BAD)), "backoff is 'bad'; it must be one of fixed, linear"),
        (Task("a", "x", timeout_s=-1), "timeout_s is -1; it must be from 0"),
        (Task("a", "x", expected_s=float("nan")), "expected_s is nan"),
        (Task("a", "x", deadline=NOON.replace(tzinfo=None)), "no time zone"),
        (Task("a", "x", labels={BAD: 1}), "task 'a': "),  # type: ignore[dict-item]
        (Task("a", "x", requires=Requires(capabilities={"weld": -1})), "task 'a': "),
    ],
)
def test_what_cannot_be_said_is_refused_with_the_task_named(task: Task, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as raised:
        encode.dag_spec(Dag().add(task))
    assert raised.value.fields["task_id"] == "a"
