"""Layers, critical path, slack, parallelism, ancestors and descendants (C3), by example and against
networkx."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.model import DagHeader
from coordinator.dag import analysis
from coordinator.dag.builder import BuiltDag, build
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.dag.limits import DagLimits


@st.composite
def dags(draw: st.DrawFn) -> BuiltDag:
    count = draw(st.integers(1, 10))
    tasks = [
        TaskDraft(
            id=str(at),
            type="noop",
            depends_on=tuple(str(before) for before in draw(st.sets(st.integers(0, at - 1), max_size=3)))
            if at
            else (),
            expected_ms=draw(st.integers(0, 9)),
        )
        for at in range(count)
    ]
    return build(DagDraft(DagHeader("d"), tasks), DagLimits())


def test_a_diamond(draft_of: Callable[..., DagDraft]) -> None:
    built = build(
        draft_of(
            {"a": [], "long": ["a"], "short": ["a"], "end": ["long", "short"]},
            expected_ms={"a": 2, "long": 5, "short": 1, "end": 3},
        ),
        DagLimits(),
    )
    assert analysis.layers(built) == [[0], [1, 2], [3]]
    assert analysis.critical_path(built) == analysis.CriticalPath([0, 1, 3], 10)
    assert analysis.slack(built) == [0, 0, 4, 0]
    assert analysis.parallelism(built) == [(0, 1), (2, 2), (3, 1), (10, 0)]
    assert analysis.ancestors(built, 3) == {0, 1, 2}
    assert analysis.descendants(built, 2) == {3}


@given(dags())
def test_layers_are_those_of_networkx(built: BuiltDag) -> None:
    assert analysis.layers(built) == [
        sorted(layer) for layer in nx.topological_generations(analysis.graph(built))
    ]


@given(dags())
def test_the_critical_path_is_a_path_without_slack_and_nothing_is_longer(built: BuiltDag) -> None:
    path = analysis.critical_path(built)
    durations = built.block.expected_ms
    assert sum(durations[task] for task in path.tasks) == path.length_ms
    assert all(
        before in built.block.depends[after]
        for before, after in zip(path.tasks, path.tasks[1:], strict=False)
    )
    slack = analysis.slack(built)
    assert all(slack[task] == 0 for task in path.tasks)
    weighted: nx.DiGraph[int | str] = nx.DiGraph()
    weighted.add_nodes_from([*range(len(durations)), "end"])
    for after, depends in enumerate(built.block.depends):
        weighted.add_edge(after, "end", weight=durations[after])
        weighted.add_weighted_edges_from((before, after, durations[before]) for before in depends)
    assert nx.dag_longest_path_length(weighted) == path.length_ms


@given(dags())
def test_parallelism_accounts_for_all_work(built: BuiltDag) -> None:
    profile = analysis.parallelism(built)
    work = sum(running * (until - since) for (since, running), (until, _) in itertools.pairwise(profile))
    assert work == sum(built.block.expected_ms)
    assert not profile or profile[-1] == (analysis.schedule(built).length_ms, 0)
