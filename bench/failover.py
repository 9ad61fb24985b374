"""W6: how long the cluster cannot assign when its leader is killed."""

from __future__ import annotations

import time
from typing import Final

from agent_sdk import Client, Dag, Task
from coordinator.cli.local_cluster import LocalCluster

_TASKS: Final = 400
_TASK_S: Final = 0.05
_TIMEOUT_S: Final = 60.0


def leader_lost(cluster: LocalCluster) -> float:
    """Milliseconds from SIGKILL of the leader until its successor's first assignment, while tasks wait. The
    killed node is started again, and the cluster whole, on return."""
    with Client(cluster.endpoints) as client:
        dag = Dag(name="w6").extend(
            Task(id=f"t{at}", type="sleep", payload={"seconds": _TASK_S}) for at in range(_TASKS)
        )
        dag_id = client.submit(dag)
        while client.get(dag_id).tasks.get("COMPLETED", 0) < _TASKS // 10:
            time.sleep(0.01)
        leader = cluster.leader()
        killed_ms = time.time_ns() / 1e6
        cluster.kill_node(leader)
        client.wait(dag_id, _TIMEOUT_S)
        assigned = [attempt.assigned_ms for task in client.tasks(dag_id) for attempt in task.attempts]
    cluster.restart_node(leader)
    cluster.wait_until_ready()
    return min(moment for moment in assigned if moment > killed_ms) - killed_ms
