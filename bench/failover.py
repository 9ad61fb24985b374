"""W6: how long work stands still when a process is lost."""

from __future__ import annotations

import time
from typing import Final

from agent_sdk import AttemptStatus, Client, Dag, Task
from bench.fleet import Fleet
from coordinator.cli.local_cluster import LocalCluster

TASKS: Final = 400
_TASK_S: Final = 0.05
_HELD: Final = 4
_HELD_S: Final = 60.0
_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.01


def leader_lost(cluster: LocalCluster, tasks: int = TASKS) -> float:
    """Milliseconds from SIGKILL of the leader until its successor's first assignment, while tasks wait. The
    killed node is started again, and the cluster whole, on return. Raises RuntimeError if none was left to be
    assigned."""
    with Client(cluster.endpoints) as client:
        dag_id = client.submit(_sleepers(tasks, _TASK_S))
        while client.get(dag_id).tasks.get("COMPLETED", 0) < tasks // 10:
            time.sleep(_POLL_S)
        leader = cluster.leader()
        killed_ms = time.time_ns() / 1e6
        cluster.kill_node(leader)
        gone_ms = time.time_ns() / 1e6
        client.wait(dag_id, _TIMEOUT_S)
        assigned = [attempt.assigned_ms for task in client.tasks(dag_id) for attempt in task.attempts]
    cluster.restart_node(leader)
    cluster.wait_until_ready()
    # What it still gave in its last moment is not its successor's.
    if not (of_successor := [moment for moment in assigned if moment > gone_ms]):
        raise RuntimeError(f"all {tasks} tasks were with agents when the leader was killed: take more")
    return min(of_successor) - killed_ms


def agent_lost(client: Client, fleet: Fleet, patience_s: float = _TIMEOUT_S) -> float:
    """Milliseconds from SIGKILL of an agent, whose connection the system closes, until all that it ran has
    begun elsewhere. The agent is back on return. Raises TimeoutError if that takes more than `patience_s`."""
    dag_id = client.submit(_sleepers(_HELD, _HELD_S))
    running = _await_started(client, dag_id, {f"t{at}" for at in range(_HELD)}, _TIMEOUT_S)
    victim = running["t0"].agent
    lost = {task for task, attempt in running.items() if attempt.agent == victim}
    killed_ms = time.time_ns() / 1e6
    fleet.kill(victim)
    try:
        again = _await_started(client, dag_id, lost, patience_s, after_ms=killed_ms)
    finally:
        client.cancel(dag_id)
        fleet.restart(victim)
    return max(attempt.started_ms for attempt in again.values()) - killed_ms


def _await_started(
    client: Client, dag_id: str, wanted: set[str], timeout_s: float, after_ms: float = 0.0
) -> dict[str, AttemptStatus]:
    """The attempt of each of these tasks that has begun after a moment, as soon as all have one. Raises
    TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        started = {
            task.id: attempt
            for task in client.tasks(dag_id)
            for attempt in task.attempts
            if task.id in wanted and attempt.started_ms > after_ms
        }
        if len(started) == len(wanted):
            return started
        time.sleep(_POLL_S)
    raise TimeoutError(f"of the tasks of {dag_id} not all had begun after {timeout_s} s")


def _sleepers(tasks: int, seconds: float) -> Dag:
    return Dag(name="w6").extend(
        Task(id=f"t{at}", type="sleep", payload={"seconds": seconds}, expected_s=seconds)
        for at in range(tasks)
    )
