"""What moving data costs: bytes along the edges of a DAG, and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from coordinator.core.model import Dag, TaskExtras

BANDWIDTH: Final = 125e6
"""Bytes per second between two agents where nobody says better: 1 Gbit/s."""


class Transfers:
    """Of one DAG: the bytes on its edges, and those that come from outside."""

    def __init__(self, dag: Dag) -> None:
        self._dag = dag
        self._edges: dict[int, dict[int, int]] = {}
        self._outside: dict[int, list[tuple[int, tuple[str, ...]]]] = {}
        self._read_to = 0
        self._produced: dict[str, int] = {}

    def any(self) -> bool:
        """Whether anything has to be moved."""
        self._catch_up()
        return bool(self._edges or self._outside)

    def edges(self, index: int) -> Mapping[int, int]:
        """Bytes by the index of the predecessor that writes them; those that write nothing are left out."""
        self._catch_up()
        return self._edges.get(index, _NOTHING)

    def outside(self, index: int) -> list[tuple[int, tuple[str, ...]]]:
        """What the task reads that no task writes: (bytes, names of the item and of where it is)."""
        self._catch_up()
        return self._outside.get(index, [])

    def _catch_up(self) -> None:
        """A DAG may grow; its extras are looked at once."""
        dag = self._dag
        if self._read_to == len(dag.tasks):
            return
        new = [
            (index, extras)
            for index in range(self._read_to, len(dag.tasks))
            if (extras := dag.extras.get(index)) is not None
        ]
        for index, extras in new:
            for item in extras.outputs:
                self._produced[item.name] = index
        for index, extras in new:
            self._read_inputs(index, extras)
        self._read_to = len(dag.tasks)

    def _read_inputs(self, index: int, extras: TaskExtras) -> None:
        depends = self._dag.tasks[index].depends
        for item in extras.inputs:
            producer = self._produced.get(item.name)
            if item.size_bytes <= 0:
                continue
            if producer is None:
                if item.locations:
                    self._outside.setdefault(index, []).append(
                        (item.size_bytes, (item.name, *item.locations))
                    )
            elif producer in depends:
                edges = self._edges.setdefault(index, {})
                edges[producer] = edges.get(producer, 0) + item.size_bytes


_NOTHING: Final[Mapping[int, int]] = {}
