"""Workflows for the tests of the placement benchmark: that of a paper, and random ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import strategies as st

from bench.placement.instances import Instance, instance_of
from bench.placement.schedules import Problem

PAPER_COSTS: Sequence[Sequence[float]] = [
    (14, 16, 9),
    (13, 19, 18),
    (11, 13, 19),
    (13, 8, 17),
    (12, 13, 10),
    (13, 16, 9),
    (7, 15, 11),
    (5, 11, 14),
    (18, 12, 20),
    (21, 7, 16),
]
"""Of the ten tasks of Topcuoglu, Hariri and Wu 2002 on three processors."""

PAPER_EDGES: Mapping[tuple[int, int], float] = {
    (0, 1): 18,
    (0, 2): 12,
    (0, 3): 9,
    (0, 4): 11,
    (0, 5): 14,
    (1, 7): 19,
    (1, 8): 16,
    (2, 6): 23,
    (3, 7): 27,
    (3, 8): 23,
    (4, 8): 13,
    (5, 7): 15,
    (6, 9): 17,
    (7, 9): 11,
    (8, 9): 13,
}


def problem_of(costs: Sequence[Sequence[float]], edges: Mapping[tuple[int, int], float]) -> Problem:
    """Costs by task and agent, seconds of transfer by (parent, child)."""
    depends = [tuple(sorted(parent for parent, child in edges if child == at)) for at in range(len(costs))]
    transfers = [tuple(edges[parent, at] for parent in before) for at, before in enumerate(depends)]
    return Problem.from_table(np.array(costs, np.float64), depends, transfers)


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    """Any graph of up to 12 tasks, any sizes and run times, 0 included."""
    count = draw(st.integers(1, 12))
    depends = [
        tuple(sorted(draw(st.sets(st.integers(0, at - 1), max_size=4)) if at else ())) for at in range(count)
    ]
    return instance_of(
        "random-1",
        work=draw(st.lists(st.floats(0, 1e5), min_size=count, max_size=count)),
        depends=depends,
        edge_bytes=[tuple(draw(st.integers(0, 10**12)) for _ in before) for before in depends],
    )


def wfformat(name: str, tasks: Mapping[str, tuple[float, Sequence[str]]], size_bytes: int = 1_000) -> str:
    """A WfFormat file: by id, what a task took and whom it waits for; each writes one file of this size."""
    children = {one: [other for other, (_, before) in tasks.items() if one in before] for one in tasks}
    specified = [
        {
            "id": one,
            "parents": list(before),
            "children": children[one],
            "inputFiles": [f"{parent}.out" for parent in before],
            "outputFiles": [f"{one}.out"],
        }
        for one, (_, before) in tasks.items()
    ]
    files = [{"id": f"{one}.out", "sizeInBytes": size_bytes} for one in tasks]
    took = [{"id": one, "runtimeInSeconds": seconds} for one, (seconds, _) in tasks.items()]
    return json.dumps(
        {
            "name": name,
            "schemaVersion": "1.5",
            "workflow": {
                "specification": {"tasks": specified, "files": files},
                "execution": {"makespanInSeconds": 1, "executedAt": "", "tasks": took},
            },
        }
    )
