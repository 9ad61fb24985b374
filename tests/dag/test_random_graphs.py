"""Random graphs against networkx: the order is topological, no edge is lost or made up, a named cycle is one
of the input, and additions are what a build would make of them (C1, C2, B7)."""

from __future__ import annotations

import itertools

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.model import DagHeader, DataItem
from coordinator.dag.builder import build, build_additions
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.dag.limits import DagLimits
from coordinator.errors import DagCycle

LIMITS = DagLimits()


@st.composite
def graphs(draw: st.DrawFn, *, acyclic: bool) -> tuple[DagDraft, nx.DiGraph[str]]:
    """A draft in a random order of submission, each edge explicit, by data or both, and its graph."""
    count = draw(st.integers(1, 12))
    rank = st.integers(0, count - 1)
    pairs = draw(st.sets(st.tuples(rank, rank), max_size=30))
    edges = [(a, b) for a, b in pairs if a < b] if acyclic else list(pairs)
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(f"t{at}" for at in range(count))
    explicit: list[list[str]] = [[] for _ in range(count)]
    inputs: list[list[DataItem]] = [[] for _ in range(count)]
    for before, after in sorted(edges):
        graph.add_edge(f"t{before}", f"t{after}")
        how = draw(st.sampled_from(("id", "data", "both")))
        if how != "data":
            explicit[after].append(f"t{before}")
        if how != "id":
            inputs[after].append(DataItem(f"out{before}"))
    tasks = [
        TaskDraft(
            id=f"t{at}",
            type="noop",
            depends_on=tuple(explicit[at]),
            inputs=tuple(inputs[at]),
            outputs=(DataItem(f"out{at}"),),
        )
        for at in draw(st.permutations(range(count)))
    ]
    return DagDraft(DagHeader("d"), tasks), graph


@given(graphs(acyclic=True))
def test_built_dag_is_the_graph_in_the_first_order_by_submission(
    case: tuple[DagDraft, nx.DiGraph[str]],
) -> None:
    draft, graph = case
    block = build(draft, LIMITS).block
    built = {
        (block.ids[before], block.ids[at]) for at, depends in enumerate(block.depends) for before in depends
    }
    assert built == set(graph.edges)
    assert all(list(depends) == sorted(set(depends)) for depends in block.depends)
    assert all(before < at for at, depends in enumerate(block.depends) for before in depends)
    submitted = {task.id: at for at, task in enumerate(draft.tasks)}
    assert block.ids == list(nx.lexicographical_topological_sort(graph, key=submitted.__getitem__))


@given(graphs(acyclic=False))
def test_a_refused_graph_has_the_cycle_that_is_named(case: tuple[DagDraft, nx.DiGraph[str]]) -> None:
    draft, graph = case
    if nx.is_directed_acyclic_graph(graph):
        assert sorted(build(draft, LIMITS).block.ids) == sorted(graph.nodes)
        return
    with pytest.raises(DagCycle) as caught:
        build(draft, LIMITS)
    cycle = caught.value.fields["cycle"].split(" -> ")
    assert cycle[0] == cycle[-1]
    assert len(set(cycle)) == len(cycle) - 1
    assert all(graph.has_edge(before, after) for before, after in itertools.pairwise(cycle))


@given(graphs(acyclic=True))
def test_additions_have_the_order_and_edges_of_a_build(case: tuple[DagDraft, nx.DiGraph[str]]) -> None:
    draft, graph = case
    additions = build_additions(draft.tasks, draft.header, 0, LIMITS)
    assert [new.id for new in additions] == build(draft, LIMITS).block.ids
    assert {(before, new.id) for new in additions for before in new.depends_on} == set(graph.edges)
