"""What reports will unlock is foretold exactly, in whichever order ends are told, applied and settled (E1,
principle 3)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import machine
from coordinator.core.commands import (
    FORMAT,
    Assign,
    AttemptReport,
    CancelDag,
    Choice,
    Command,
    Entry,
    OpenSession,
    Report,
    ReportKind,
    SubmitDag,
)
from coordinator.core.foretold import Completion, Foretold
from coordinator.core.model import (
    AgentSpec,
    AttemptOutcome,
    DagHeader,
    DagState,
    TaskBlock,
    TaskProfile,
    TaskState,
    task_key,
)
from coordinator.core.state import State

AGENT = "a"


class World:
    """One DAG whose tasks depend on the earlier ones that `depends` names, and an agent that takes all."""

    def __init__(self, depends: list[tuple[int, ...]]) -> None:
        self.state = State()
        self.index = 0
        self.foretold = Foretold(lambda: self.state)
        size = len(depends)
        names = [f"t{at}" for at in range(size)]
        block = TaskBlock(0, names, [0] * size, depends, [b""] * size, [0] * size)
        self.apply(OpenSession(AgentSpec(AGENT, "i", 100, 100), []))
        self.apply(SubmitDag("r", DagHeader("d"), [TaskProfile("noop")], block))
        (self.number,) = self.state.dags
        self.size = size

    def apply(self, *commands: Command) -> None:
        self.index += 1
        machine.apply(self.state, self.index, Entry(FORMAT, 1_000, list(commands)))

    def key(self, index: int) -> int:
        return task_key(self.number, index)

    def assign(self, index: int, attempt: int = 1, *, rival: bool = False) -> None:
        epoch = self.state.agents[AGENT].record.epoch
        self.apply(Assign([Choice(self.key(index), attempt, AGENT, epoch, rival)]))

    def end(self, index: int, outcome: AttemptOutcome = AttemptOutcome.COMPLETED) -> AttemptReport:
        return AttemptReport(self.key(index), 1, ReportKind.ENDED, outcome)

    def tell(self, index: int) -> tuple[list[Completion], list[int]]:
        """What the end of this task completes, and the positions of what will be READY by it."""
        completions = self.foretold.completions(AGENT, [self.end(index)])
        return completions, [key - self.key(0) for key in self.foretold.add(completions)]

    def record(self, index: int) -> None:
        self.apply(Report(AGENT, self.state.agents[AGENT].record.epoch, [self.end(index)]))

    def held(self) -> set[int]:
        return {index for index in range(self.size) if self.foretold.holds(self.key(index))}


JOIN = [(), (), (), (0, 1, 2)]


def test_a_task_is_foretold_with_the_last_of_its_predecessors() -> None:
    world = World(JOIN)
    for index in range(3):
        world.assign(index)
    first, ready = world.tell(0)
    assert (ready, world.held()) == ([], set())
    world.record(0)
    # It is applied and not settled: it must count once.
    second, ready = world.tell(1)
    assert (ready, world.held()) == ([], set())
    world.foretold.settled(first)
    assert world.held() == set()
    third, ready = world.tell(2)
    assert (ready, world.held()) == ([3], {3})
    world.record(1)
    world.record(2)
    assert world.held() == set(), "it is READY indeed"
    assert world.state.dags[world.number].tasks[3].state is TaskState.READY
    world.foretold.settled(second)
    world.foretold.settled(third)
    assert world.foretold._ending == {}


def test_what_is_told_twice_counts_once() -> None:
    world = World([(), (), (0, 1)])
    world.assign(0)
    world.assign(1)
    world.tell(0)
    assert world.tell(0)[1] == []
    assert world.held() == set()


def test_nothing_is_foretold_of_what_may_be_refused() -> None:
    world = World([(), (0,)])
    assert world.tell(0)[0] == [], "no agent has it"
    world.assign(0)
    assert world.foretold.completions("b", [world.end(0)]) == [], "another agent has it"
    stale = AttemptReport(world.key(0), 2, ReportKind.ENDED, AttemptOutcome.COMPLETED)
    failed, begun = world.end(0, AttemptOutcome.FAILED), AttemptReport(world.key(0), 1, ReportKind.STARTED)
    unknown = AttemptReport(world.key(7), 1, ReportKind.ENDED, AttemptOutcome.COMPLETED)
    assert world.foretold.completions(AGENT, [stale, failed, begun, unknown]) == []
    world.apply(OpenSession(AgentSpec("b", "i", 1, 1), []))
    epoch = world.state.agents["b"].record.epoch
    world.apply(Assign([Choice(world.key(0), 2, "b", epoch, True)]))
    assert len(world.state.dags[world.number].tasks[0].live) == 2
    assert world.tell(0)[0] == [], "which of two attempts wins is for the log to say"


def test_a_dag_that_ends_unlocks_nothing_and_leaves_nothing_behind() -> None:
    world = World([(), (0,)])
    world.assign(0)
    completions, ready = world.tell(0)
    assert ready == [1]
    world.apply(CancelDag("c", "d", "no more"))
    assert world.held() == set()
    world.record(0)
    assert not world.state.dags
    world.foretold.settled(completions)
    assert world.foretold._ending == {}


def test_what_is_not_swept_yet_of_a_dag_that_is_being_ended_is_not_foretold() -> None:
    world = World([(), (0,)])
    world.assign(0)
    world.tell(0)
    assert world.held() == {1}
    world.state.dags[world.number].record.ending = DagState.FAILED
    assert world.held() == set()


@st.composite
def dags(draw: st.DrawFn) -> list[tuple[int, ...]]:
    """Up to nine tasks, each depending on some of those before it."""
    size = draw(st.integers(2, 9))
    return [
        tuple(sorted(draw(st.sets(st.integers(0, at - 1), max_size=3)))) if at else () for at in range(size)
    ]


@given(dags(), st.data())
def test_it_is_what_would_be_ready_if_all_that_is_told_were_applied(
    depends: list[tuple[int, ...]], data: st.DataObject
) -> None:
    world = World(depends)
    told: dict[int, list[Completion]] = {}
    unsettled: list[list[Completion]] = []
    for _ in range(3 * len(depends)):
        if not world.state.dags:
            break
        tasks = world.state.dags[world.number].tasks
        for at, task in enumerate(tasks):
            if task.state is TaskState.READY:
                world.assign(at)
        running = [at for at, task in enumerate(tasks) if task.state is TaskState.ASSIGNED and at not in told]
        step = data.draw(st.sampled_from(["tell"] * bool(running) + ["record"] * bool(told) + ["settle"]))
        if step == "tell":
            at = data.draw(st.sampled_from(running))
            told[at] = world.tell(at)[0]
        elif step == "record":
            # In the order in which they were told, as the log has them.
            at = next(iter(told))
            world.record(at)
            unsettled.append(told.pop(at))
        elif unsettled:
            world.foretold.settled(unsettled.pop(0))
        if world.state.dags:
            done = {at for at, task in enumerate(tasks) if task.state is TaskState.COMPLETED} | set(told)
            pending = {at for at, task in enumerate(tasks) if task.state is TaskState.PENDING}
            assert world.held() == {at for at in pending if done.issuperset(depends[at])}
