"""Graphs of DAGs: what is foreseen, and when inputs arrive, against looking at everything anew."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import commands as c
from coordinator.core.model import AttemptOutcome, DataItem, Task, TaskExtras, TaskProfile, TaskState
from coordinator.scheduling.tasks.graphs import AT_ONCE, Arrivals, Expected
from coordinator.scheduling.tasks.transfers import BANDWIDTH
from tests.scheduling.clusters import Cluster, foreseen

AGENTS = ("a", "b", "e")
FEW = settings(max_examples=max(25, settings().max_examples // 2))
MEGABYTE = 125_000_000
"""A second of transfer."""


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, list[str]]:
    """A graph of up to eight tasks."""
    names: list[str] = []
    graph = {}
    for at in range(draw(st.integers(2, 8))):
        before = draw(st.sets(st.sampled_from(names), max_size=3)) if names else set()
        graph[f"t{at}"] = sorted(before)
        names.append(f"t{at}")
    return graph


steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "give",
                "give",
                "give",
                "rival",
                "complete",
                "complete",
                "fail",
                "begin",
                "cancel",
                "lose",
                "reschedule",
            ]
        ),
        st.integers(0, 7),
        st.sampled_from(AGENTS),
    ),
    max_size=40,
)


def live_on(task: Task, agent_id: str) -> int:
    return next((one.number for one in task.live if one.agent == agent_id), 0)


def happen(cluster: Cluster, event: str, task: Task, agent_id: str) -> None:
    if event == "give":
        cluster.apply(c.Assign([cluster.choice(agent_id, task)]))
    elif event == "rival":
        cluster.apply(c.Assign([cluster.choice(agent_id, task, rival=True)]))
    elif event == "lose":
        epoch = cluster.state.agents[agent_id].record.epoch
        cluster.apply(c.LoseAgents([(agent_id, epoch)], "silent"))
        cluster.apply(c.OpenSession(cluster.state.agents[agent_id].record.spec, []))
    elif event == "cancel":
        cluster.apply(c.CancelTask("", "d", task.id))
    elif event == "reschedule":
        cluster.apply(c.RescheduleTask("", "d", task.id))
    else:
        stopping = [
            number for key, number in cluster.state.agents[agent_id].record.stopping if key == task.key
        ]
        number = live_on(task, agent_id) or next(iter(stopping), 0)
        kind = c.ReportKind.STARTED if event == "begin" else c.ReportKind.ENDED
        outcome = AttemptOutcome.COMPLETED if event == "complete" else AttemptOutcome.FAILED
        if number:
            cluster.report(agent_id, task, number, kind=kind, outcome=outcome)


@FEW
@given(shapes(), steps)
def test_what_is_foreseen_is_what_waits_for_nothing_but_what_agents_have(
    graph: dict[str, list[str]], sequence: list[tuple[str, int, str]]
) -> None:
    cluster = Cluster()
    for agent_id in AGENTS:
        cluster.join(agent_id, slots=2)
    dag = cluster.submit(graph)
    for event, at, agent_id in sequence:
        if cluster.state.dag("d") is None:
            break
        happen(cluster, event, dag.tasks[at % len(dag.tasks)], agent_id)
        if cluster.state.dag("d") is None:
            break
        mine = cluster.snapshot.foreseen
        assert {task.key for task in mine.tasks()} == foreseen(cluster.snapshot, cluster.state)
        for task in dag.tasks:
            before = [dag.tasks[index] for index in task.depends]
            with_agents = sum(
                cluster.snapshot.running.holds(one.key) and one.state is not TaskState.COMPLETED
                for one in before
            )
            assert mine.live(task.key) == with_agents


def test_tasks_that_a_running_one_adds_are_seen() -> None:
    cluster = Cluster()
    cluster.join("a", slots=4)
    dag = cluster.submit({"x": []})
    cluster.begin("a", "x")
    graph = cluster.snapshot.graphs.of(dag.tasks[0].key)
    assert graph is not None
    assert not graph.linked
    epoch = cluster.state.agents["a"].record.epoch
    extras = TaskExtras(inputs=(DataItem("far", MEGABYTE, ("zone",)),))
    added = [
        c.NewTask("y", TaskProfile("t")),
        c.NewTask("z", TaskProfile("t"), ("y",)),
        c.NewTask("w", TaskProfile("t"), extras=extras),
    ]
    cluster.apply(c.SpawnTasks("", "a", epoch, dag.tasks[0].key, 1, added))
    assert cluster.task("y").state is TaskState.READY
    graph = cluster.snapshot.graphs.of(cluster.task("y").key)
    assert graph is not None
    assert graph.linked
    assert graph.moves
    assert graph.dag.record.number in cluster.snapshot.graphs.moved
    found = graph.arrivals(cluster.task("w"), cluster.snapshot.agents, {})
    assert found.anywhere == pytest.approx(1.0)
    cluster.give("a", "y")
    assert [task.id for task in cluster.snapshot.foreseen.tasks()] == ["z"]


# --- arrivals -----------------------------------------------------------------------------------------------


@st.composite
def inputs(draw: st.DrawFn) -> tuple[list[tuple[int, float, int]], list[str]]:
    """Of one task: per predecessor, the row where it is (-1: where nobody is, -2: completed there), its end
    and the megabytes that it leaves; and where it has an item from outside."""
    before = draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.5, 3.0, 7.0]), st.integers(0, 4)), max_size=5
        )
    )
    return before, draw(st.lists(st.sampled_from(["a0", "a1", "zone", "nowhere"]), max_size=2))


@FEW
@given(inputs())
def test_inputs_arrive_as_a_look_at_every_agent_says(
    drawn: tuple[list[tuple[int, float, int]], list[str]],
) -> None:
    before, _ = drawn
    cluster = Cluster()
    for row in range(4):
        cluster.join(f"a{row}", slots=9)
    names = [f"p{at}" for at in range(len(before))]
    extras = {name: TaskExtras(outputs=(DataItem(f"{name}>"),)) for name in names} | {
        "z": TaskExtras(
            inputs=tuple(
                DataItem(f"{name}>", megabytes * MEGABYTE)
                for name, (_, _, megabytes) in zip(names, before, strict=True)
            )
        )
    }
    graph = {name: [] for name in names} | {"z": names}
    dag = cluster.submit(graph, extras=extras)
    expected = {}
    for name, (row, seconds, _) in zip(names, before, strict=True):
        task = cluster.task(name)
        cluster.give(f"a{row}", name)
        if seconds:
            expected[task.key] = Expected(row, seconds)
        else:
            cluster.report(f"a{row}", task)
    known = cluster.snapshot.graphs.of(dag.tasks[0].key)
    assert known is not None
    found = known.arrivals(cluster.task("z"), cluster.snapshot.agents, expected)
    remote = [seconds + megabytes for _, seconds, megabytes in before]
    assert found.anywhere == pytest.approx(max(remote, default=0.0))
    assert found.moved == pytest.approx(sum(megabytes for _, _, megabytes in before))
    for row in range(4):
        here = [seconds if row == of else seconds + megabytes for of, seconds, megabytes in before]
        moved = sum(megabytes for of, _, megabytes in before if of != row)
        assert found.at(row) == pytest.approx(max(here, default=0.0))
        if row in found.nearer:
            assert found.nearer[row][1] == pytest.approx(moved)
        else:
            assert moved == pytest.approx(found.moved)


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.sets(st.sampled_from(["a0", "a1", "zone-b", "item-c", "nowhere"]))),
        max_size=4,
    )
)
def test_what_comes_from_outside_is_where_agents_say_that_they_have_it(
    items: list[tuple[int, set[str]]],
) -> None:
    cluster = Cluster()
    cluster.join("a0")
    cluster.join("a1", zone="zone-b")
    cluster.join("a2", data=("item-c", "i1"))
    has = [{"a0"}, {"a1", "zone-b"}, {"a2", "item-c", "i1"}]
    wanted = tuple(
        DataItem(f"i{at}", megabytes * MEGABYTE, tuple(sorted(places)))
        for at, (megabytes, places) in enumerate(items)
    )
    dag = cluster.submit({"z": []}, extras={"z": TaskExtras(inputs=wanted)})
    graph = cluster.snapshot.graphs.of(dag.tasks[0].key)
    assert graph is not None
    found = graph.arrivals(dag.tasks[0], cluster.snapshot.agents, {})
    for row in range(3):
        seconds = sum(
            megabytes
            for at, (megabytes, places) in enumerate(items)
            if places and not (places | {f"i{at}"}) & has[row]
        )
        assert found.at(row) == pytest.approx(seconds)


def test_data_that_nobody_has_any_more_moves_from_nowhere() -> None:
    cluster = Cluster()
    cluster.join("a", slots=2)
    cluster.join("b", slots=2)
    extras = {
        "x": TaskExtras(outputs=(DataItem("o"),)),
        "z": TaskExtras(inputs=(DataItem("o", 3 * MEGABYTE),)),
    }
    cluster.submit({"x": [], "z": ["x"]}, extras=extras)
    cluster.complete("a", "x")
    task = cluster.task("z")
    graph = cluster.snapshot.graphs.of(task.key)
    assert graph is not None
    agents = cluster.snapshot.agents
    found = graph.arrivals(task, agents, {})
    assert (found.at(0), found.at(1)) == (0.0, pytest.approx(3.0))
    cluster.apply(c.CloseSession("a", cluster.state.agents["a"].record.epoch, True))
    cluster.apply(c.ForgetAgents([("a", cluster.state.agents["a"].record.epoch)]))
    cluster.join("n")
    assert agents.rows["n"] == 0
    found = graph.arrivals(task, agents, {})
    assert (found.at(0), found.at(1)) == (pytest.approx(3.0), pytest.approx(3.0))


def test_a_task_without_inputs_waits_for_none() -> None:
    cluster = Cluster()
    cluster.join("a")
    dag = cluster.submit({"x": []})
    graph = cluster.snapshot.graphs.of(dag.tasks[0].key)
    assert graph is not None
    assert graph.arrivals(dag.tasks[0], cluster.snapshot.agents, {}) is AT_ONCE
    assert Arrivals(2.0, 1.0, {1: (0.5, 0.0)}).at(1) == 0.5
    assert BANDWIDTH == MEGABYTE


def test_tasks_that_a_running_one_adds_behind_itself_are_foreseen() -> None:
    cluster = Cluster()
    cluster.join("a", slots=4)
    dag = cluster.submit({"x": [], "y": []})
    cluster.begin("a", "x", "y")
    added = [c.NewTask("z", TaskProfile("t"), ("y",))]
    cluster.apply(c.SpawnTasks("", "a", cluster.epoch("a"), dag.tasks[0].key, 1, added))
    assert [task.id for task in cluster.snapshot.foreseen.tasks()] == ["z"]
