"""Brings together what the checkers look at, once all work has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from agent_sdk import Client, NodeStatus
from chaos.checking.promises import Evidence
from chaos.effects import Effects
from chaos.recorder import Recorder

_AGREEMENT_S: Final = 10.0
_POLL_S: Final = 0.02


def gather(client: Client, acknowledged: Mapping[str, int], recorder: Recorder, effects: Effects) -> Evidence:
    """The evidence about the acknowledged DAGs (with their numbers of tasks), of which agents wrote down
    `effects`. Waits for nothing but the nodes' agreement and the last events."""
    dags = {dag.dag_id: dag for dag in client.list() if dag.dag_id in acknowledged}
    tasks = [task for dag_id in dags for task in client.tasks(dag_id)]
    _await_events(recorder, {(task.dag_id, task.id) for task in tasks if task.ended_ms})
    return Evidence(
        acknowledged=acknowledged,
        dags=dags,
        tasks=tasks,
        nodes=_nodes_at_rest(client),
        endings=recorder.endings,
        lost_agents=frozenset(recorder.lost_agents),
        watch_problem=recorder.problem,
        watch_gaps=recorder.gaps,
        effects=effects,
    )


def _await_events(recorder: Recorder, ended: set[tuple[str, str]]) -> None:
    """A watch may be a little behind a read."""
    deadline = time.monotonic() + _AGREEMENT_S
    while (
        not ended <= recorder.endings.keys()
        and not (recorder.problem or recorder.gaps)
        and time.monotonic() < deadline
    ):
        time.sleep(_POLL_S)


def _nodes_at_rest(client: Client) -> tuple[NodeStatus, ...]:
    """Nodes apply at their own pace: look until they stand at the same entry."""
    deadline = time.monotonic() + _AGREEMENT_S
    while True:
        nodes = client.cluster_status().nodes
        if len({node.applied_index for node in nodes}) == 1 or time.monotonic() > deadline:
            return nodes
        time.sleep(_POLL_S)
