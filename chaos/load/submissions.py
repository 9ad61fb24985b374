"""A steady stream of submissions that does not slow down when the cluster does.

A new submission begins at each tick, however many still wait for their answer: what clients suffer during a
fault is measured rather than skipped (the "coordinated omission" of closed loops).
"""

from __future__ import annotations

import asyncio
import threading
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from agent_sdk import AsyncClient, Dag, QuorumflowError, Requires, Task

_LONG_EVERY: Final = 5
"""One DAG of so many is a long one."""

_LONG_S: Final = 1.5
_STOP_S: Final = 60.0


class Acknowledged(NamedTuple):
    """A DAG of so many tasks that the cluster has accepted; moments in Unix ms."""

    dag_id: str
    tasks: int
    began_ms: int
    at_ms: int


class SteadyLoad:
    """Submits DAGs in a thread of its own until `stop`, one every `pause_s`. Their ids begin with `name`;
    their tasks require `capabilities`. `acknowledged` and `problems` may be read meanwhile; they only
    grow."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        pause_s: float,
        name: str = "",
        capabilities: Mapping[str, int] | None = None,
    ) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.problems: list[str] = []
        """Submissions whose outcome stayed unknown, or which were refused."""
        self._endpoints = endpoints
        self._pause_s = pause_s
        self._name = name
        self._capabilities = dict(capabilities or {})
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

    def start(self) -> None:
        """Begin to submit."""
        self._thread.start()

    def stop(self) -> None:
        """Submit nothing more; returns when every submission has its answer."""
        self._stopping.set()
        self._thread.join(_STOP_S)

    def acknowledged_after(self, at_ms: int) -> int | None:
        """When the first of the submissions that began after this moment was acknowledged, in Unix ms."""
        later = (self.acknowledged[at] for at in range(self._until(at_ms), len(self.acknowledged)))
        return next((one.at_ms for one in later if one.began_ms > at_ms), None)

    def longest_pause(self, from_ms: int, until_ms: int) -> int:
        """The longest time without an acknowledgement between two moments, in ms."""
        within = self.acknowledged[self._until(from_ms) : self._until(until_ms)]
        edges = [from_ms, *(one.at_ms for one in within), until_ms]
        return max(later - earlier for earlier, later in pairwise(edges))

    def _until(self, at_ms: int) -> int:
        """How many were acknowledged up to this moment: they are in that order."""
        return bisect_right(self.acknowledged, at_ms, key=lambda one: one.at_ms)

    async def _run(self) -> None:
        async with AsyncClient(self._endpoints) as client, asyncio.TaskGroup() as submissions:
            number = 0
            while not self._stopping.is_set():
                number += 1
                submissions.create_task(self._submit(client, self._dag(number)))
                await asyncio.sleep(self._pause_s)

    async def _submit(self, client: AsyncClient, dag: Dag) -> None:
        began_ms = _now_ms()
        try:
            dag_id = await client.submit(dag)
        except QuorumflowError as error:
            self.problems.append(f"{dag.dag_id}: {error}")
        else:
            self.acknowledged.append(Acknowledged(dag_id, len(dag.tasks), began_ms, _now_ms()))

    def _dag(self, number: int) -> Dag:
        return self._long(number) if number % _LONG_EVERY == 0 else self._short(number)

    def _short(self, number: int) -> Dag:
        """A diamond of five tasks, over in a tenth of a second."""
        middle = [f"m{index}" for index in range(3)]
        dag = Dag(dag_id=f"{self._name}short-{number}").add(self._sleep("first", 0.02))
        dag.extend(self._sleep(name, 0.03, "first") for name in middle)
        return dag.add(self._sleep("last", 0.02, *middle))

    def _long(self, number: int) -> Dag:
        """Two tasks long enough to run from before a fault until after it, and one that waits for both."""
        dag = Dag(dag_id=f"{self._name}long-{number}")
        dag.extend(self._sleep(name, _LONG_S) for name in ("left", "right"))
        return dag.add(self._sleep("last", 0.02, "left", "right"))

    def _sleep(self, task_id: str, seconds: float, *depends_on: str) -> Task:
        return Task(
            id=task_id,
            type="sleep",
            payload={"seconds": seconds},
            depends_on=depends_on,
            expected_s=seconds,
            requires=Requires(capabilities=self._capabilities),
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
