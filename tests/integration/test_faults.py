"""Processes that die, freeze and come back, under real signals; followers that lag behind a compacted log or
have lost their disk. Answers A1, A2, A4, D7, F1, F3, F4, H1, I4."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import pytest

from agent_sdk import AgentEvent, Client, Dag, NodeStatus, Task, errors
from chaos.checking.promises import check_all
from chaos.effects import effects_of
from chaos.gathering import gather
from chaos.recorder import Recorder
from coordinator.cli.agent_spec import alike
from coordinator.cli.exits import Exit
from coordinator.cli.local_cluster import LocalCluster
from tests.integration.conftest import WAIT_S, eventually_sync

KEPT = {"raft.compact_after_entries": "100", "raft.keep_entries": "10"}
_names = count(1)


@pytest.fixture(scope="module")
def battered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes with short logs, three agents; whoever breaks it makes it whole again with `mended`."""
    folder = tmp_path_factory.mktemp("battered")
    with LocalCluster.start(folder, nodes=3, agents=alike(3, 2), effects=True, settings=KEPT) as running:
        yield running


@pytest.fixture
def mended(battered: LocalCluster) -> Iterator[LocalCluster]:
    """The cluster, whole again after the test."""
    yield battered
    for node_id in battered.nodes:
        if not battered.alive(node_id):
            battered.restart_node(node_id)
    for agent_id in battered.agents:
        if not battered.alive(agent_id):
            battered.restart_agent(agent_id)
        battered.signal(agent_id, signal.SIGCONT)
    battered.wait_until_ready()


@pytest.fixture
def caller(battered: LocalCluster) -> Iterator[Client]:
    """A client of it."""
    with Client(battered.endpoints) as client:
        yield client


@pytest.fixture
def recorder(battered: LocalCluster) -> Iterator[Recorder]:
    """Follows its events."""
    recorder = Recorder(battered.endpoints)
    recorder.start()
    yield recorder
    recorder.stop()


def sleeps(*seconds: float) -> Dag:
    """Independent tasks t0, t1, ... that last so long, and one that waits for all of them."""
    tasks = [
        Task(id=f"t{at}", type="sleep", payload={"seconds": one}, expected_s=one)
        for at, one in enumerate(seconds)
    ]
    last = Task(id="last", type="noop", depends_on=[task.id for task in tasks])
    return Dag(dag_id=f"dag-{next(_names)}").extend([*tasks, last])


def await_running(client: Client, dag_id: str, tasks: int) -> dict[str, str]:
    """The agent of each running task, once so many run."""

    def running() -> dict[str, str] | None:
        found = {task.id: task.attempts[-1].agent for task in client.tasks(dag_id, states=["RUNNING"])}
        return found if len(found) == tasks else None

    return eventually_sync(running, f"{tasks} tasks of {dag_id} run")


def verdicts(
    cluster: LocalCluster, client: Client, recorder: Recorder, **acknowledged: int
) -> dict[str, str]:
    """What the checkers find broken, by promise."""
    by_id = {dag_id.replace("_", "-"): tasks for dag_id, tasks in acknowledged.items()}
    return {
        one.promise: one.found
        for one in check_all(gather(client, by_id, recorder, effects_of(cluster)))
        if not one.held
    }


def test_the_work_of_a_killed_agent_is_done_by_others(
    mended: LocalCluster, caller: Client, recorder: Recorder
) -> None:
    dag_id = caller.submit(sleeps(*[1.0] * 4))
    runs_on = await_running(caller, dag_id, 4)
    victim = runs_on["t0"]
    mended.kill_agent(victim)
    assert caller.wait(dag_id, WAIT_S).state == "COMPLETED"
    for task_id, agent_id in runs_on.items():
        attempts = caller.task(dag_id, task_id).attempts
        outcomes = ["LOST", "COMPLETED"] if agent_id == victim else ["COMPLETED"]
        assert [one.outcome for one in attempts] == outcomes
        assert attempts[-1].agent != victim
    assert verdicts(mended, caller, recorder, **{dag_id: 5}) == {}
    assert recorder.lost_agents == {victim}
    states = {agent.agent_id: agent.state for agent in caller.agents()}
    assert states[victim] == "UNREACHABLE"


def test_what_a_frozen_agent_says_too_late_is_refused(
    mended: LocalCluster, caller: Client, recorder: Recorder
) -> None:
    before = caller.cluster_status().commit_index
    dag_id = caller.submit(sleeps(1.0))
    frozen = await_running(caller, dag_id, 1)["t0"]
    mended.signal(frozen, signal.SIGSTOP)
    assert caller.wait(dag_id, WAIT_S).state == "COMPLETED"
    recorded = caller.task(dag_id, "t0")
    mended.signal(frozen, signal.SIGCONT)
    back = (
        event
        for event in caller.watch(from_revision=before + 1)
        if isinstance(event, AgentEvent) and event.agent == frozen and event.state == "CONNECTED"
    )
    assert next(back).agent == frozen

    def rid_of_it() -> bool:
        return [agent.held for agent in caller.agents() if agent.agent_id == frozen] == [0]

    eventually_sync(rid_of_it, f"{frozen} has given up what was taken from it")
    assert replace(caller.task(dag_id, "t0"), revision=recorded.revision) == recorded
    assert [(one.agent == frozen, one.outcome) for one in recorded.attempts] == [
        (True, "LOST"),
        (False, "COMPLETED"),
    ]
    assert verdicts(mended, caller, recorder, **{dag_id: 2}) == {}
    # It is an agent like any other again.
    again = caller.submit(sleeps(*[0.05] * 12))
    assert caller.wait(again, WAIT_S).state == "COMPLETED"


def test_a_cluster_that_died_as_a_whole_goes_on(mended: LocalCluster, caller: Client) -> None:
    done = caller.submit(sleeps(0.01))
    assert caller.wait(done, WAIT_S).state == "COMPLETED"
    dag_ids = [caller.submit(sleeps(0.05, 1.0)) for _ in range(3)]
    runs_on = await_running(caller, dag_ids[0], 1)
    for node_id in mended.nodes:
        mended.kill_node(node_id)
    for node_id in mended.nodes:
        mended.restart_node(node_id)
    mended.wait_until_ready()
    assert [caller.wait(dag_id, WAIT_S).state for dag_id in dag_ids] == ["COMPLETED"] * 3
    assert caller.get(done).state == "COMPLETED"
    for task_id, agent_id in runs_on.items():
        attempts = caller.task(dag_ids[0], task_id).attempts
        assert [(one.agent, one.outcome) for one in attempts] == [(agent_id, "COMPLETED")], "it went on"
    assert len(digests(caller)) == 1


def digests(client: Client) -> set[tuple[int, str]]:
    """(applied index, digest) of the nodes, once they stand at the same entry."""

    def at_rest() -> set[tuple[int, str]] | None:
        nodes = client.cluster_status().nodes
        found = {(node.applied_index, node.digest) for node in nodes}
        return found if len({index for index, _ in found}) == 1 else None

    return eventually_sync(at_rest, "all nodes stand at the same entry")


def test_a_follower_that_missed_what_was_compacted_gets_a_snapshot(
    mended: LocalCluster, caller: Client
) -> None:
    late = stop_a_follower(mended, caller)
    compact(caller)
    mended.restart_node(late)
    assert await_own(mended, caller, late).counters["snapshots_installed"] >= 1
    assert len(digests(caller)) == 1


def test_a_follower_that_lost_its_disk_is_filled_again_once_it_is_replaced(
    mended: LocalCluster, caller: Client
) -> None:
    """What it promised is gone with the disk: under its old id it is refused, until its operator says so."""
    wiped = stop_a_follower(mended, caller)
    compact(caller)
    shutil.rmtree(mended.nodes[wiped].data_dir)
    mended.restart_node(wiped)
    eventually_sync(lambda: not mended.alive(wiped), "it is refused and stops")
    assert mended.exit_code(wiped) == Exit.REFUSED
    assert f"coordctl member replace {wiped} {wiped}" in mended.log(wiped).read_text()
    entry = mended.nodes[wiped]
    caller.members.replace(wiped, wiped, entry.raft, entry.grpc)
    mended.restart_node(wiped)
    eventually_sync(lambda: kinds(caller)[wiped] == "voter", "it votes again")
    assert await_own(mended, caller, wiped).counters["snapshots_installed"] >= 1
    assert len(digests(caller)) == 1


def kinds(client: Client) -> dict[str, str]:
    """What each member is."""
    return {member.id: member.kind for member in client.members.list()}


def stop_a_follower(cluster: LocalCluster, client: Client) -> str:
    """Kill one; returns its id."""
    status = client.cluster_status()
    follower = next(node.id for node in status.nodes if node.id != status.leader)
    cluster.kill_node(follower)
    return follower


def compact(client: Client) -> None:
    """Write until the log no longer holds what is there now."""
    before = client.cluster_status()
    compactions = client.node_status(before.leader_address).counters.get("compactions", 0)

    def compacted() -> bool:
        client.wait(client.submit(sleeps(*[0.0] * 10)), WAIT_S)
        return client.node_status(before.leader_address).counters.get("compactions", 0) >= compactions + 2

    eventually_sync(compacted, "the log is compacted")


def await_own(cluster: LocalCluster, client: Client, node_id: str) -> NodeStatus:
    """What a node says of itself, once it has caught up with what the leader had committed."""
    target = client.cluster_status().commit_index

    def caught_up() -> NodeStatus | None:
        try:
            status = client.node_status(cluster.nodes[node_id].grpc)
        except errors.Unavailable:
            return None
        return status if status.applied_index >= target else None

    return eventually_sync(caught_up, f"{node_id} has caught up")
