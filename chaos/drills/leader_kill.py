"""The leader is killed with SIGKILL, again and again, while work runs and more is submitted.

Each round measures from the kill to the first assignment by the new leader and to the beginning of an
attempt so assigned (by the time stamps of the events, which leaders take from the same clock), and to the
acknowledgement of the first submission that began after the kill. Then the killed node starts again and must
catch up before the next round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from agent_sdk import Client, NodeStatus, errors
from chaos.checking.promises import Check, check_all, diverged, in_time
from chaos.gathering import gather
from chaos.load import SteadyLoad
from chaos.recorder import Recorder
from coordinator.cli.agent_spec import alike
from coordinator.cli.local_cluster import LocalCluster
from coordinator.errors import CoordinatorError, Unavailable

_NODES: Final = 3
_AGENTS: Final = 4
_SLOTS: Final = 6
_PAUSE_S: Final = 0.05
_RUNNING_AT_KILL: Final = 3
"""A round begins when at least so many tasks run."""

_WAIT_S: Final = 30.0
_POLL_S: Final = 0.01

_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True)
class Round:
    """One kill. Durations in ms from the kill; `caught_up_ms` from the restart of the killed node."""

    killed: str
    successor: str
    running: int
    assigned_ms: int
    begun_ms: int
    acknowledged_ms: int
    caught_up_ms: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the drill found; `problems` are submissions that stayed without an answer."""

    rounds: list[Round]
    checks: list[Check]
    dags: int
    tasks: int
    problems: list[str]

    @property
    def held(self) -> bool:
        """Whether every promise held."""
        return not self.problems and all(check.held for check in self.checks)


def run(directory: Path, *, rounds: int, limit_ms: int, on_round: Callable[[Round], None]) -> Report:
    """Carry out the drill in a folder. The new leader must assign within `limit_ms`; `on_round` is told of
    each round as it ends.

    Raises:
        StartFailed, WrongState: the cluster could not be started in this folder.
        Unavailable: a step did not come about in time; nothing can be said of the promises then.
    """
    with LocalCluster.start(directory, nodes=_NODES, agents=alike(_AGENTS, _SLOTS), effects=True) as cluster:
        return _Drill(cluster).run(rounds, limit_ms, on_round)


class _Drill:
    """One run on a running cluster."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._client = Client(cluster.endpoints)
        self._recorder = Recorder(cluster.endpoints)
        self._load = SteadyLoad(cluster.endpoints, pause_s=_PAUSE_S)

    def run(self, rounds: int, limit_ms: int, on_round: Callable[[Round], None]) -> Report:
        self._recorder.start()
        self._load.start()
        done: list[Round] = []
        try:
            for _ in range(rounds):
                done.append(self._round())
                on_round(done[-1])
        finally:
            self._load.stop()
        try:
            return self._report(done, limit_ms)
        finally:
            self._recorder.stop()
            self._client.close()

    def _round(self) -> Round:
        running = _await("enough tasks run", self._running)
        killed = self._cluster.leader()
        killed_ms = _now_ms()
        self._cluster.kill_node(killed)
        gone_ms = _now_ms()
        assigned = _await("a new leader assigns", lambda: self._recorder.first_assignment_after(gone_ms))
        begun = _await("an agent begins", lambda: self._recorder.first_beginning_after(gone_ms))
        acknowledged = _await(
            "a submission is acknowledged", lambda: self._load.first_acknowledged_after(gone_ms)
        )
        successor = self._cluster.leader(_WAIT_S)
        restarted_ms = _now_ms()
        self._cluster.restart_node(killed)
        self._await_catching_up(killed)
        return Round(
            killed=killed,
            successor=successor,
            running=running,
            assigned_ms=assigned - killed_ms,
            begun_ms=begun - killed_ms,
            acknowledged_ms=acknowledged - killed_ms,
            caught_up_ms=_now_ms() - restarted_ms,
        )

    def _running(self) -> int | None:
        running = self._client.cluster_status().tasks.get("RUNNING", 0)
        return running if running >= _RUNNING_AT_KILL else None

    def _await_catching_up(self, node_id: str) -> None:
        """Until the node is seen at an entry of its new life at which another one was seen, with the same
        digest. They never rest while work goes on: each look adds to what was seen."""
        target = self._client.cluster_status().commit_index
        seen: list[NodeStatus] = []

        def caught_up() -> bool | None:
            seen.extend(self._look())
            if (index := diverged(seen)) is not None:
                raise CoordinatorError(f"two nodes differ in their state at entry {index}", index=index)
            mine = {one.applied_index for one in seen if one.id == node_id and one.applied_index >= target}
            theirs = {one.applied_index for one in seen if one.id != node_id}
            return True if mine & theirs else None

        _await(f"{node_id} catches up with entry {target}", caught_up)

    def _look(self) -> list[NodeStatus]:
        nodes = []
        for endpoint in self._cluster.endpoints:
            try:
                nodes.append(self._client.node_status(endpoint))
            except errors.Unavailable:
                # It is still starting.
                continue
        return nodes

    def _report(self, rounds: list[Round], limit_ms: int) -> Report:
        acknowledged = {one.dag_id: one.tasks for one in self._load.acknowledged}
        deadline = time.monotonic() + _WAIT_S
        for dag_id in acknowledged:
            try:
                self._client.wait(dag_id, max(deadline - time.monotonic(), _POLL_S))
            except (errors.NotFound, errors.DeadlineExceeded):
                # The checkers name it.
                continue
        evidence = gather(self._cluster, self._client, acknowledged, self._recorder)
        gap = in_time("the new leader assigns", [one.assigned_ms for one in rounds], limit_ms)
        return Report(
            rounds=rounds,
            checks=[*check_all(evidence), gap],
            dags=len(acknowledged),
            tasks=sum(acknowledged.values()),
            problems=self._load.problems,
        )


def _await(what: str, look: Callable[[], _Found | None]) -> _Found:
    """What `look` finds, as soon as it finds something. Raises Unavailable if it is not there in time."""
    deadline = time.monotonic() + _WAIT_S
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise Unavailable(f"waited {_WAIT_S} s in vain until {what}")
        time.sleep(_POLL_S)
    return found


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
