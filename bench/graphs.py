"""The graphs of the workloads, for whoever is measured: ids in topological order, each with those before it.

Imports nothing but the standard library: the peers' programs run in environments of their own.
"""

from __future__ import annotations

import random
from typing import Final

WIDTH: Final = 100
"""Tasks of a layer."""
_SEED: Final = 42

Graph = dict[str, list[str]]


def independent(tasks: int) -> Graph:
    """None waits for another."""
    return {f"t{at}": [] for at in range(tasks)}


def layered(layers: int) -> Graph:
    """Layers of `WIDTH`, each task after two or three of the layer before; always the same ones."""
    chance = random.Random(_SEED)
    graph: Graph = {f"0-{at}": [] for at in range(WIDTH)}
    for layer in range(1, layers):
        for at in range(WIDTH):
            before = chance.sample(range(WIDTH), chance.choice((2, 3)))
            graph[f"{layer}-{at}"] = [f"{layer - 1}-{one}" for one in before]
    return graph


def chain(tasks: int) -> Graph:
    """One after the other."""
    return {f"t{at}": [f"t{at - 1}"] if at else [] for at in range(tasks)}


def last(graph: Graph) -> list[str]:
    """Those that none waits for."""
    waited_for = {one for before in graph.values() for one in before}
    return [task for task in graph if task not in waited_for]
