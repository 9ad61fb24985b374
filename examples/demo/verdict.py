"""What must hold at the end of the demo, checked against three witnesses: the cluster's own record, the
events that it told, and what the agents wrote down as they did it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from agent_sdk import Client, DagStatus, TaskStatus
from examples.demo.recorder import Recorder

_AGREEMENT_S: Final = 5.0
_POLL_S: Final = 0.02


class Check(NamedTuple):
    """One promise: whether it held, and what was found."""

    promise: str
    held: bool
    found: str


Effects = dict[tuple[str, str], set[tuple[int, str]]]
"""By (DAG id, task id) the (attempt, agent) pairs that reached their end."""


def read_effects(files: Iterable[Path]) -> Effects:
    """The ends that agents wrote down."""
    effects: Effects = defaultdict(set)
    for file in files:
        for line in file.read_text().splitlines():
            effect = json.loads(line)
            if effect["event"] == "end":
                effects[effect["dag"], effect["task"]].add((effect["attempt"], effect["agent"]))
    return effects


def judge(client: Client, dag_ids: list[str], recorder: Recorder, effects: Effects) -> list[Check]:
    """Every promise of the demo."""
    dags = [client.get(dag_id) for dag_id in dag_ids]
    tasks = [(dag.dag_id, task) for dag in dags for task in client.tasks(dag.dag_id)]
    return [
        _all_completed(dags, len(tasks)),
        _effects_match(tasks, effects),
        _recorded_once(tasks, recorder),
        _replicas_agree(client),
    ]


def _all_completed(dags: list[DagStatus], total: int) -> Check:
    completed = sum(dag.tasks.get("COMPLETED", 0) for dag in dags)
    held = completed == total and all(dag.state == "COMPLETED" for dag in dags)
    return Check("every task is COMPLETED", held, f"{completed} of {total}")


def _effects_match(tasks: list[tuple[str, TaskStatus]], effects: Effects) -> Check:
    missing = [
        task.id
        for dag_id, task in tasks
        if not any(
            (attempt.attempt, attempt.agent) in effects[dag_id, task.id]
            for attempt in task.attempts
            if attempt.outcome == "COMPLETED"
        )
    ]
    repeated = sum(len(ends) > 1 for ends in effects.values())
    found = f"missing: {', '.join(missing[:5])}" if missing else f"all there, {repeated} done more than once"
    return Check("no task's effect is missing", not missing, found)


def _recorded_once(tasks: list[tuple[str, TaskStatus]], recorder: Recorder) -> Check:
    twice = [
        task.id
        for dag_id, task in tasks
        if recorder.endings[dag_id, task.id] != 1
        or sum(attempt.outcome == "COMPLETED" for attempt in task.attempts) != 1
    ]
    found = recorder.problem or (f"not once: {', '.join(twice[:5])}" if twice else f"{len(tasks)} results")
    return Check("every result is recorded exactly once", not twice and not recorder.problem, found)


def _replicas_agree(client: Client) -> Check:
    """Nodes apply at their own pace: look until they stand at the same entry."""
    deadline = time.monotonic() + _AGREEMENT_S
    while True:
        nodes = client.cluster_status().nodes
        if len({node.applied_index for node in nodes}) == 1 or time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    found = ", ".join(f"{node.id} at {node.applied_index}: {node.digest[:8] or node.role}" for node in nodes)
    return Check(
        "all nodes hold the same state", len({(one.applied_index, one.digest) for one in nodes}) == 1, found
    )
