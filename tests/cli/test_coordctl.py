"""`coordctl` against a scripted server over real gRPC: the shapes of its JSON, its exit codes, its errors,
and that it sends what it was asked for. Answers G4, and pins the names that scripts rely on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import Result

from coordinator import errors
from quorumflow_proto.v1 import client_pb2 as client
from quorumflow_proto.v1 import common_pb2 as common
from quorumflow_proto.v1 import operator_pb2 as operator

if TYPE_CHECKING:
    from tests.cli.conftest import Coordctl, Script

WORKFLOW = """
name: two steps
tasks:
  - {id: a, type: noop}
  - {id: b, type: noop, depends_on: [a]}
"""


@pytest.fixture
def workflow(tmp_path: Path) -> str:
    """The path of a small workflow file."""
    path = tmp_path / "two-steps.yaml"
    path.write_text(WORKFLOW)
    return str(path)


def dag_view(state: common.DagState.ValueType = common.DAG_STATE_COMPLETED, **counts: int) -> common.DagView:
    """A DAG d1 that took 2.5 s, if it has ended."""
    return common.DagView(
        dag_id="d1",
        name="two steps",
        namespace="default",
        state=state,
        counts=common.TaskCounts(**counts),
        created_ms=1_000,
        finished_ms=0 if state == common.DAG_STATE_RUNNING else 3_500,
    )


def dag_reply(
    state: common.DagState.ValueType = common.DAG_STATE_COMPLETED, **counts: int
) -> client.GetDagReply:
    """GetDag's answer, read at revision 7."""
    return client.GetDagReply(dag=dag_view(state, **counts), revision=7)


def task_view() -> common.TaskView:
    """A task that was lost once and runs again."""
    lost = common.AttemptView(
        attempt=1,
        agent_id="a1",
        outcome=common.ATTEMPT_OUTCOME_LOST,
        assigned_ms=9,
        started_ms=10,
        ended_ms=20,
    )
    live = common.AttemptView(attempt=2, agent_id="a2", assigned_ms=25, started_ms=30)
    return common.TaskView(
        dag_id="d1", id="a", type="noop", state=common.TASK_STATE_RUNNING, attempts=[lost, live], progress=0.5
    )


def printed(result: Result) -> Any:
    """The JSON that a successful command printed."""
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


# --- shapes ---


async def test_submit_prints_the_id(script: Script, coordctl: Coordctl, workflow: str) -> None:
    script.answers["SubmitDag"] = client.SubmitDagReply(dag_id="d1")
    assert printed(await coordctl("submit", workflow, "--output", "json")) == {"dag_id": "d1"}
    (request,) = script.requests("SubmitDag")
    assert [(task.id, list(task.depends_on)) for task in request.dag.tasks] == [("a", []), ("b", ["a"])]
    assert (request.dag.name, request.dag.dag_id) == ("two steps", "")


async def test_submit_takes_name_namespace_and_id_from_the_command_line(
    script: Script, coordctl: Coordctl, workflow: str
) -> None:
    script.answers["SubmitDag"] = client.SubmitDagReply(dag_id="mine")
    result = await coordctl("submit", workflow, "--name", "x", "--namespace", "y", "--dag-id", "mine")
    assert result.exit_code == 0
    (request,) = script.requests("SubmitDag")
    assert (request.dag.name, request.dag.namespace, request.dag.dag_id) == ("x", "y", "mine")


async def test_submit_reads_stdin(script: Script, coordctl: Coordctl) -> None:
    script.answers["SubmitDag"] = client.SubmitDagReply(dag_id="d1")
    assert (await coordctl("submit", "-", input=WORKFLOW)).exit_code == 0
    assert len(script.requests("SubmitDag")[0].dag.tasks) == 2


async def test_submit_and_wait_prints_the_end(script: Script, coordctl: Coordctl, workflow: str) -> None:
    script.answers["SubmitDag"] = client.SubmitDagReply(dag_id="d1")
    script.answers["GetDag"] = [dag_reply(common.DAG_STATE_RUNNING, running=2), dag_reply(completed=2)]
    end = client.DagChange(dag_id="d1", state=common.DAG_STATE_COMPLETED)
    script.answers["Watch"] = client.WatchReply(events=[client.Event(revision=9, dag=end)], revision=9)
    assert printed(await coordctl("submit", workflow, "--wait", "--output", "json")) == {
        "dag_id": "d1",
        "state": "COMPLETED",
        "tasks": {"COMPLETED": 2},
        "makespan_s": 2.5,
    }


async def test_status_has_the_counts(script: Script, coordctl: Coordctl) -> None:
    script.answers["GetDag"] = dag_reply(common.DAG_STATE_RUNNING, running=1, pending=1)
    view = printed(await coordctl("status", "d1", "--output", "json"))
    assert view["state"] == "RUNNING"
    assert view["tasks"] == {"RUNNING": 1, "PENDING": 1}
    assert view["makespan_s"] is None


async def test_status_with_tasks_has_every_attempt(script: Script, coordctl: Coordctl) -> None:
    script.answers["GetDag"] = dag_reply(common.DAG_STATE_RUNNING, running=1)
    script.answers["ListTasks"] = [
        client.ListTasksReply(tasks=[task_view()], next_page_token="2"),
        client.ListTasksReply(tasks=[common.TaskView(id="b", state=common.TASK_STATE_PENDING)]),
    ]
    view = printed(await coordctl("status", "d1", "--tasks", "--output", "json"))
    assert view["counts"] == {"RUNNING": 1}
    assert [(task["id"], task["state"]) for task in view["tasks"]] == [("a", "RUNNING"), ("b", "PENDING")]
    names = ("attempt", "agent", "outcome", "started_ms", "ended_ms")
    attempts = [tuple(attempt[name] for name in names) for attempt in view["tasks"][0]["attempts"]]
    assert attempts == [(1, "a1", "LOST", 10, 20), (2, "a2", "LIVE", 30, 0)]


async def test_cluster_status_names_the_leader_and_every_node(script: Script, coordctl: Coordctl) -> None:
    script.answers["ClusterStatus"] = operator.ClusterStatusReply(
        leader_id="n1",
        term=4,
        commit_index=99,
        nodes=[
            operator.NodeView(id="n1", role="leader", applied_index=99, digest="ab"),
            operator.NodeView(id="n2", role="follower", applied_index=98, digest="cd"),
        ],
    )
    view = printed(await coordctl("cluster", "status", "--output", "json"))
    assert (view["leader"], view["term"], view["commit_index"]) == ("n1", 4, 99)
    names = ("id", "role", "applied_index", "digest")
    nodes = [tuple(node[name] for name in names) for node in view["nodes"]]
    assert nodes == [("n1", "leader", 99, "ab"), ("n2", "follower", 98, "cd")]


async def test_agents_and_lists(script: Script, coordctl: Coordctl) -> None:
    skill = common.Capability(name="weld", level=3)
    script.answers["ListAgents"] = operator.ListAgentsReply(
        agents=[
            operator.AgentView(
                agent_id="a1",
                state="IDLE",
                slots=2,
                capabilities=[skill],
                speed=2.5,
                busy_watts=40,
                tool_limits={"torch": 1},
                model_limits={"vision": 2},
                data=["maps"],
                groups=["night"],
                load_score=0.97531,
                overloaded=True,
                network=0.25,
                gpu=0.5,
            )
        ]
    )
    (agent,) = printed(await coordctl("agents", "--output", "json"))["agents"]
    assert (agent["id"], agent["state"], agent["capabilities"]) == ("a1", "IDLE", {"weld": 3})
    assert (agent["speed"], agent["busy_watts"], agent["tool_limits"]) == (2.5, 40, {"torch": 1})
    assert (agent["model_limits"], agent["data"], agent["groups"]) == ({"vision": 2}, ["maps"], ["night"])
    assert [agent[name] for name in ("load", "overloaded", "network", "gpu")] == [0.975, True, 0.25, 0.5]
    script.answers["ListDags"] = client.ListDagsReply(dags=[dag_view(completed=2)])
    (dag,) = printed(await coordctl("list", "--state", "completed", "--output", "json"))["dags"]
    assert (dag["dag_id"], dag["tasks"]) == ("d1", {"COMPLETED": 2})
    assert list(script.requests("ListDags")[0].states) == [common.DAG_STATE_COMPLETED]


async def test_groups_are_shown_with_what_is_free(script: Script, coordctl: Coordctl) -> None:
    first = operator.GroupSummary(
        agents=2, accepting=1, slots=4, held=3, held_s=7.5, load_score=0.97531, free_slots=1, wait_s=0.0,
        speed=2.5, busy_watts=40, free=common.Resources(milli_cores=1_500, memory_bytes=64),
    )  # fmt: skip
    replies = [
        operator.ListGroupsReply(groups=[first], next_page_token="/"),
        operator.ListGroupsReply(groups=[operator.GroupSummary(name="north", agents=1)]),
    ]
    script.answers["ListGroups"] = list(replies)
    free = {
        "milli_cores": 1_500,
        "memory_bytes": 64,
        "gpu_memory_bytes": 0,
        "disk_bytes": 0,
        "bandwidth_bps": 0,
    }
    found = printed(await coordctl("groups", "--output", "json"))["groups"]
    assert found[0] == {
        "group": "", "agents": 2, "accepting": 1, "slots": 4, "free_slots": 1, "held": 3, "held_s": 7.5,
        "load": 0.975, "wait_s": 0.0, "speed": 2.5, "busy_watts": 40.0, "free": free,
    }  # fmt: skip
    assert (found[1]["group"], found[1]["wait_s"]) == ("north", None)
    assert [request.page_token for request in script.requests("ListGroups")] == ["", "/"]
    script.answers["ListGroups"] = list(replies)
    table = [line.split() for line in (await coordctl("groups")).stdout.splitlines()]
    assert table[1][:4] == ["(none)", "2", "1", "4"]
    assert table[1][-2:] == ["1.5", "64"]
    assert table[2][0] == "north"


async def test_forecasts_are_shown_with_their_outcomes_and_errors(script: Script, coordctl: Coordctl) -> None:
    outcomes = [operator.ForecastOutcome(target_ms=9_000, forecast=0.5, naive=0.25, actual=0.75)]
    first = operator.ForecastView(
        agent_id="a1", series="cpu", horizon="short", ahead_s=60, target_ms=70_000, model="ar", now=0.5,
        value=0.625, low=0.5, high=0.75, scored=9, error=0.125, naive_error=0.25, outcomes=outcomes,
    )  # fmt: skip
    second = operator.ForecastView(series="waiting", horizon="long", ahead_s=3_600, model="naive")
    replies = [
        operator.GetForecastsReply(forecasts=[first], next_page_token="a1/cpu"),
        operator.GetForecastsReply(forecasts=[second]),
    ]
    script.answers["GetForecasts"] = list(replies)
    found = printed(await coordctl("forecast", "--output", "json"))["forecasts"]
    assert found[0] == {
        "agent": "a1", "series": "cpu", "horizon": "short", "ahead_s": 60, "target_ms": 70_000, "model": "ar",
        "now": 0.5, "forecast": 0.625, "low": 0.5, "high": 0.75, "scored": 9, "error": 0.125,
        "naive_error": 0.25, "relative_error": 0.5,
        "outcomes": [{"target_ms": 9_000, "forecast": 0.5, "naive": 0.25, "actual": 0.75}],
    }  # fmt: skip
    assert (found[1]["agent"], found[1]["error"], found[1]["relative_error"]) == ("", None, None)
    assert [request.page_token for request in script.requests("GetForecasts")] == ["", "a1/cpu"]
    script.answers["GetForecasts"] = list(replies)
    table = (await coordctl("forecast")).stdout.splitlines()
    assert table[1].split()[:5] == ["a1", "cpu", "short", "60", "ar"]
    assert table[2].split()[0] == "(cluster)"


@pytest.mark.parametrize(
    ("arguments", "named", "asked"),
    [
        ([], False, ("", "", "")),
        (["--agent", ""], True, ("", "", "")),
        (["--agent", "a1", "--series", "load", "--horizon", "medium"], True, ("a1", "load", "medium")),
    ],
)
async def test_forecasts_are_asked_for_by_agent_series_and_horizon(
    script: Script, coordctl: Coordctl, arguments: list[str], named: bool, asked: tuple[str, str, str]
) -> None:
    script.answers["GetForecasts"] = operator.GetForecastsReply()
    assert (await coordctl("forecast", *arguments)).exit_code == 0
    (request,) = script.requests("GetForecasts")
    assert request.HasField("agent_id") == named
    assert (request.agent_id, request.series, request.horizon) == asked


async def test_watch_of_a_dag_prints_lines_until_it_has_ended(script: Script, coordctl: Coordctl) -> None:
    script.answers["GetDag"] = dag_reply(common.DAG_STATE_RUNNING, running=1)
    task = client.TaskChange(dag_id="d1", task_id="a", state=common.TASK_STATE_COMPLETED, agent_id="a1")
    end = client.DagChange(dag_id="d1", state=common.DAG_STATE_COMPLETED)
    events = [client.Event(revision=8, task=task), client.Event(revision=8, dag=end)]
    script.answers["Watch"] = client.WatchReply(events=events, revision=8)
    result = await coordctl("watch", "d1", "--output", "json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["kind"], line["revision"], line["state"]) for line in lines] == [
        ("task", 8, "COMPLETED"),
        ("dag", 8, "COMPLETED"),
    ]
    assert script.requests("Watch")[0].from_revision == 8


async def test_watch_of_a_finished_dag_says_how_it_ended(script: Script, coordctl: Coordctl) -> None:
    script.answers["GetDag"] = dag_reply(completed=2)
    assert printed(await coordctl("watch", "d1", "--output", "json"))["state"] == "COMPLETED"


CHANGES = [
    (["cancel", "d1"], "CancelDag", client.CancelDagReply(state=common.DAG_STATE_CANCELLED)),
    (
        ["cancel", "d1", "--task", "a"],
        "CancelTask",
        client.CancelTaskReply(state=common.TASK_STATE_CANCELLED),
    ),
    (["reschedule", "d1", "a"], "RescheduleTask", client.RescheduleTaskReply(state=common.TASK_STATE_READY)),
    (["drain", "agent", "a1"], "DrainAgent", operator.DrainAgentReply(state="DRAINING")),
    (["drain", "node", "n1"], "DrainNode", operator.DrainNodeReply(leader_id="n2")),
]


@pytest.mark.parametrize(("command", "method", "answer"), CHANGES)
async def test_a_change_prints_what_came_of_it(
    script: Script, coordctl: Coordctl, command: list[str], method: str, answer: Any
) -> None:
    script.answers[method] = answer
    script.answers["ClusterStatus"] = operator.ClusterStatusReply(
        leader_id="n2", nodes=[operator.NodeView(id="n1", role="follower", grpc_address=script.address)]
    )
    view = printed(await coordctl(*command, "--output", "json"))
    assert view.get("state", view.get("leader")) in ("CANCELLED", "READY", "DRAINING", "n2")
    assert len(script.requests(method)) == 1


async def test_explain_gives_the_facts(script: Script, coordctl: Coordctl) -> None:
    script.answers["ExplainTask"] = client.ExplainTaskReply(
        state=common.TASK_STATE_READY,
        summary="no agent can weld",
        refusals=[
            client.ExplainTaskReply.Refusal(reason="CAPABILITY", agents=2, example_agent="a1", detail="weld")
        ],
        agents_total=2,
    )
    view = printed(await coordctl("explain", "d1", "a", "--output", "json"))
    assert (view["summary"], view["agents_total"], view["agents_feasible"]) == ("no agent can weld", 2, 0)
    assert view["refusals"] == [
        {"reason": "CAPABILITY", "agents": 2, "example_agent": "a1", "detail": "weld"}
    ]


async def test_a_result_is_printed_byte_for_byte_or_as_json(script: Script, coordctl: Coordctl) -> None:
    script.answers["GetResult"] = client.GetResultReply(state=common.TASK_STATE_COMPLETED, result=b"\xff\x00")
    assert (await coordctl("result", "d1", "a")).stdout_bytes == b"\xff\x00"
    assert printed(await coordctl("result", "d1", "a", "--output", "json"))["result_base64"] == "/wA="
    script.answers["GetResult"] = client.GetResultReply(state=common.TASK_STATE_COMPLETED, result=b"text")
    assert printed(await coordctl("result", "d1", "a", "--output", "json"))["result"] == "text"


async def test_tables_are_plain_and_uncut_where_stdout_is_no_terminal(
    script: Script, coordctl: Coordctl
) -> None:
    digest = "0123456789abcdef" * 8
    script.answers["ClusterStatus"] = operator.ClusterStatusReply(
        leader_id="n1", nodes=[operator.NodeView(id="n1", role="leader", digest=digest)]
    )
    result = await coordctl("cluster", "status")
    assert result.exit_code == 0
    assert digest in result.stdout
    assert result.stdout.isascii()


# --- exit codes ---

BAD_ENDS = [common.DAG_STATE_FAILED, common.DAG_STATE_CANCELLED]


@pytest.mark.parametrize("state", BAD_ENDS)
async def test_a_dag_that_did_not_complete_exits_with_1(
    script: Script, coordctl: Coordctl, workflow: str, state: common.DagState.ValueType
) -> None:
    script.answers["SubmitDag"] = client.SubmitDagReply(dag_id="d1")
    script.answers["GetDag"] = dag_reply(state, failed=1)
    waited = await coordctl("submit", workflow, "--wait", "--output", "json")
    assert waited.exit_code == 1
    assert json.loads(waited.stdout)["tasks"] == {"FAILED": 1}
    assert (await coordctl("status", "d1", "--check")).exit_code == 1
    assert (await coordctl("status", "d1")).exit_code == 0


async def test_a_task_that_failed_exits_with_1_and_one_that_runs_with_5(
    script: Script, coordctl: Coordctl
) -> None:
    script.answers["GetResult"] = client.GetResultReply(state=common.TASK_STATE_FAILED, error="broken")
    failed = await coordctl("result", "d1", "a")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "broken" in failed.stderr
    script.answers["GetResult"] = client.GetResultReply(state=common.TASK_STATE_RUNNING)
    assert (await coordctl("result", "d1", "a")).exit_code == 5


REFUSALS = [
    (errors.InvalidRequest("no"), 2),
    (errors.DagCycle("a -> b -> a", cycle="a,b"), 2),
    (errors.NotFound("no such DAG", dag_id="d1"), 3),
    (errors.OutcomeUnknown("who knows"), 4),
    (errors.NotLeader(), 4),
    (errors.LimitExceeded("too many", limit=5, setting="limits.max_dag_tasks"), 5),
    (errors.AlreadyExists("taken"), 5),
    (errors.WrongState("it has ended"), 5),
    (errors.QueueFull("full", retry_after_ms=60_000), 5),
    (errors.CoordinatorError("a bug"), 6),
]


@pytest.mark.parametrize(
    ("refusal", "code"), REFUSALS, ids=[type(refusal).__name__ for refusal, _ in REFUSALS]
)
async def test_a_refusal_has_its_exit_code_and_its_facts(
    script: Script, coordctl: Coordctl, refusal: errors.CoordinatorError, code: int
) -> None:
    script.answers["CancelDag"] = refusal
    result = await coordctl("cancel", "d1", "--output", "json", "--timeout", "0.2")
    assert (result.exit_code, result.stdout) == (code, "")
    detail = json.loads(result.stderr)["error"]
    if code == 4:
        assert detail["fields"]["last_reason"] == refusal.reason
    else:
        assert (detail["reason"], detail["message"]) == (refusal.reason, refusal.message)
        assert detail["fields"] == refusal.fields


async def test_no_cluster_exits_with_4(coordctl: Coordctl) -> None:
    result = await coordctl("--endpoints", "127.0.0.1:1", "--timeout", "0.2", "cluster", "status")
    assert result.exit_code == 4
    assert "127.0.0.1:1" in result.stderr


async def test_a_wait_is_bounded_by_the_timeout(script: Script, coordctl: Coordctl, workflow: str) -> None:
    script.answers["SubmitDag"] = client.SubmitDagReply(dag_id="d1")
    script.answers["GetDag"] = dag_reply(common.DAG_STATE_RUNNING, running=1)
    script.answers["Watch"] = client.WatchReply(revision=8)
    result = await coordctl("submit", workflow, "--wait", "--timeout", "0.5", "--output", "json")
    assert result.exit_code == 4
    assert json.loads(result.stderr)["error"]["reason"] == "DEADLINE_EXCEEDED"


WRONG_INPUT = [
    ["submit", "no-such-file.yaml"],
    ["submit"],
    ["list", "--state", "NONSENSE"],
    ["cluster", "nonsense"],
    ["--timeout", "-1", "agents"],
    ["--endpoints", "no-port", "agents"],
]


@pytest.mark.parametrize("command", WRONG_INPUT, ids=" ".join)
async def test_wrong_usage_exits_with_2(coordctl: Coordctl, command: list[str]) -> None:
    assert (await coordctl(*command)).exit_code == 2
    result = await coordctl("--output", "json", *command)
    assert result.exit_code == 2
    if command[0] != "--timeout":
        assert json.loads(result.stderr)["error"]["reason"] == "INVALID_REQUEST"


@pytest.mark.parametrize("text", ["nonsense: 1", "tasks: [", "\x00"])
async def test_a_file_that_is_no_workflow_exits_with_2_and_is_named(
    script: Script, coordctl: Coordctl, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    result = await coordctl("submit", str(path), "--output", "json")
    assert result.exit_code == 2
    detail = json.loads(result.stderr)["error"]
    assert detail["reason"] == "UNREADABLE_WORKFLOW"
    assert "odd" in detail["message"]
    assert script.asked == []


async def test_options_may_stand_before_or_after_the_command(script: Script, coordctl: Coordctl) -> None:
    script.answers["GetDag"] = dag_reply(completed=2)
    before = await coordctl("--output", "json", "status", "d1")
    after = await coordctl("status", "d1", "--output", "json")
    assert before.stdout == after.stdout
    assert (await coordctl("status", "d1", "--endpoints", "127.0.0.1:1", "--timeout", "0.2")).exit_code == 4
