"""The leader does not wait for the commit of an end to assign what it unlocks: both travel in one entry, and
what comes of it is what the machine makes of them in turn (E1, E4, principles 3 and 4)."""

from __future__ import annotations

import asyncio

import msgspec

from coordinator.core.commands import (
    Assign,
    AssignRoots,
    AttemptReport,
    CancelDag,
    Command,
    Entry,
    OpenSession,
    Report,
    ReportKind,
    RescheduleTask,
    SubmitDag,
)
from coordinator.core.model import (
    AgentSpec,
    AttemptOutcome,
    DagHeader,
    FamilyNeeds,
    Priority,
    Requirements,
    Task,
    TaskBlock,
    TaskProfile,
    TaskState,
)
from coordinator.core.outcome import Outcome, Reply
from coordinator.defects import Defects
from coordinator.replica.placement import Placement
from coordinator.replica.proposer import Proposer
from tests.replica.test_decisions import START_MS


class World:
    """A leader's placement and proposer on a real state machine; entries are applied when the test says."""

    def __init__(self, log, applier) -> None:
        self.log, self.applier = log, applier
        self.left: list[bytes] = []
        self.proposer = Proposer(
            self, self, Defects(), max_commands=100, max_bytes=1 << 20, max_entry_bytes=1 << 20, gather_s=0.02
        )
        self.placement = Placement(
            lambda: applier.newest,
            self.proposer.submit,
            self.now_ms,
            look_ahead_ms=20,
            opened_after=0,
            timer=lambda: 0.0,
        )
        self.proposer.before_entry = self.placement.before_entry
        self.proposer.after_entry = self.placement.after_entry
        self.placement.on_due = self.proposer.ask
        applier.on_outcome = self._note
        applier.on_replies = self.proposer.applied
        self.session_of: dict[str, int] = {}

    def now_ms(self) -> int:
        return START_MS

    def propose(self, payload: bytes) -> tuple[int, int]:
        self.left.append(payload)
        return len(self.log.entries) + 1 + len(self.left), 1

    def push(self) -> None:
        """There is nobody to send to."""

    def _note(self, index: int, term: int, outcome: Outcome) -> None:
        self.placement.note(outcome.effects)

    def apply(self, *commands: Command) -> None:
        """An entry of somebody else's, before those that have left."""
        assert not self.left
        self.applier.apply([self.log.add(*commands, at_ms=START_MS)])

    def agent(self, agent_id: str, slots: int = 1, **fields) -> None:
        self.apply(OpenSession(AgentSpec(agent_id, "i", slots, slots, **fields), []))
        self.session_of[agent_id] = self.applier.state.agents[agent_id].record.epoch

    def submit(self, dag_id: str, depends: list[tuple[int, ...]], **profile) -> list[Task]:
        size = len(depends)
        block = TaskBlock(
            0, [f"t{at}" for at in range(size)], [0] * size, depends, [b""] * size, [5_000] * size
        )
        self.apply(SubmitDag(f"r-{dag_id}", DagHeader(dag_id), [TaskProfile("noop", **profile)], block))
        return self.applier.state.dag(dag_id).tasks

    def ends(self, task: Task) -> asyncio.Future[Reply]:
        """The agent tells that its attempt of the task has completed it."""
        (attempt,) = task.live
        done = AttemptReport(task.key, attempt.number, ReportKind.ENDED, AttemptOutcome.COMPLETED)
        recorded = self.proposer.submit(Report(attempt.agent, self.session_of[attempt.agent], [done]))
        self.placement.foresee(attempt.agent, [done], recorded)
        return recorded

    async def leaves(self) -> list[list[Command]]:
        """The commands of the entries that leave by themselves by now, and have not been applied."""
        for _ in range(4):
            await asyncio.sleep(0)
        return [msgspec.msgpack.decode(one, type=Entry).commands for one in self.left]

    def commit(self, most: int | None = None) -> None:
        """All that have left, or the first of them, are applied in one run."""
        left = [msgspec.msgpack.decode(one, type=Entry).commands for one in self.left[:most]]
        del self.left[:most]
        self.applier.apply([self.log.add(*commands, at_ms=START_MS) for commands in left])

    async def settle(self) -> int:
        """Let all that is proposed be applied; returns the number of entries that it took."""
        entries = 0
        while await self.leaves():
            entries += len(self.left)
            self.commit()
        return entries

    def submits(self, dag_id: str, depends: list[tuple[int, ...]], request_id: str = "", **profile) -> None:
        """A client's call for a DAG of brief tasks."""
        size = len(depends)
        block = TaskBlock(0, [f"t{at}" for at in range(size)], [0] * size, depends, [b""] * size, [1] * size)
        made = TaskProfile("noop", **profile)
        command = SubmitDag(request_id or f"r-{dag_id}", DagHeader(dag_id), [made], block)
        self.placement.expect_dag(command, self.proposer.submit(command))

    def tasks(self, dag_id: str) -> list[Task]:
        return self.applier.state.dag(dag_id).tasks


def choices(commands: list[Command]) -> list[tuple[str, int, int]]:
    found = [one for command in commands if isinstance(command, Assign) for one in command.choices]
    return [(one.agent, one.key, one.attempt) for one in found]


async def test_what_an_end_unlocks_is_assigned_in_the_entry_of_the_end(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0")
    first, second = world.submit("chain", [(), (0,)])
    assert await world.settle() == 1
    world.ends(first)
    (commands,) = await world.leaves()
    assert [type(one) for one in commands] == [Report, Assign]
    assert choices(commands) == [("a0", second.key, 1)], "in the slot that the end frees"
    world.commit()
    assert (first.state, second.state) == (TaskState.COMPLETED, TaskState.ASSIGNED)
    assert await world.settle() == 0
    world.ends(second)
    assert await world.settle() == 1
    assert world.applier.state.dag("chain") is None


async def test_a_join_is_assigned_with_the_last_end_and_not_before(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0", slots=3)
    *before, join = world.submit("join", [(), (), (), (0, 1, 2)])
    await world.settle()
    world.ends(before[0])
    (commands,) = await world.leaves()
    assert choices(commands) == []
    world.ends(before[1])
    world.ends(before[2])
    *_, commands = await world.leaves()
    assert choices(commands) == [("a0", join.key, 1)]
    world.commit()
    assert join.state is TaskState.ASSIGNED
    assert await world.settle() == 0


async def test_the_slot_that_an_end_frees_is_given_before_the_end_is_recorded(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0")
    (first,) = world.submit("first", [()])
    await world.settle()
    (waits,) = world.submit("waits", [()])
    assert await world.leaves() == []
    world.ends(first)
    (commands,) = await world.leaves()
    assert choices(commands) == [("a0", waits.key, 1)]
    world.commit()
    assert waits.state is TaskState.ASSIGNED


async def test_what_is_ready_while_its_assignment_is_on_the_way_is_not_assigned_twice(
    log, make_applier
) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0", slots=4)
    first, second = world.submit("chain", [(), (0,)])
    await world.settle()
    world.proposer.before_entry = lambda: None
    world.ends(first)
    await world.leaves()
    world.proposer.before_entry = world.placement.before_entry
    world.proposer.ask()
    assert [[type(one) for one in entry] for entry in await world.leaves()] == [[Report], [Assign]]
    world.commit(1)
    assert second.state is TaskState.READY
    assert len(await world.leaves()) == 1
    world.commit()
    assert [one.number for one in second.attempts] == [1]
    assert await world.settle() == 0


async def test_an_end_that_is_refused_takes_its_assignment_along(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0")
    first, second = world.submit("chain", [(), (0,)])
    await world.settle()
    # The agent is opening another session, and keeps what it holds.
    world.proposer.submit(OpenSession(AgentSpec("a0", "i", 1, 1), [(first.key, 1)]))
    world.ends(first)
    *_, commands = await world.leaves()
    assert choices(commands) == [("a0", second.key, 1)]
    world.commit()
    assert (first.state, second.state) == (TaskState.ASSIGNED, TaskState.PENDING)
    assert await world.settle() == 0, "its only slot is taken"
    world.session_of["a0"] = world.applier.state.agents["a0"].record.epoch
    world.ends(first)
    assert await world.settle() == 1
    assert (first.state, second.state) == (TaskState.COMPLETED, TaskState.ASSIGNED)


async def test_what_waits_by_an_end_that_was_told_is_not_foreseen_as_well(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    needs = Requirements(capabilities=(("welds", 1),))
    world.agent("idle")
    world.agent("welder", capabilities=(("welds", 1),))
    first, second = world.submit("chain", [(), (0,)], requirements=needs)
    await world.settle()
    (urgent,) = world.submit("urgent", [()], requirements=needs, priority=Priority.URGENT)
    world.ends(first)
    (commands,) = await world.leaves()
    assert choices(commands) == [("welder", urgent.key, 1)]
    # Whoever looks at the agent anew finds that it holds what has not ended by the log.
    world.placement.add_agents(["welder"])
    assert world.placement._snapshot.running.holds(first.key)
    assert second.key in world.placement._snapshot.waiting
    await world.leaves()
    assert not world.placement._failed
    world.commit()
    world.ends(urgent)
    await world.settle()
    assert second.state is TaskState.ASSIGNED


async def test_an_end_that_comes_from_a_session_that_is_over_frees_nothing(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0")
    first, _ = world.submit("chain", [(), (0,)])
    await world.settle()
    world.apply(OpenSession(AgentSpec("a0", "i", 1, 1), [(first.key, 1)]))
    world.submit("urgent", [()], priority=Priority.URGENT)
    world.ends(first)
    await world.settle()
    assert world.placement.waiting == 1, "what would have been unlocked does not wait for an agent"
    world.submit("other", [()])
    assert await world.leaves() == [], "its only slot is taken"


async def test_what_is_taken_back_before_its_assignment_is_settled_is_assigned_again(
    log, make_applier
) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0", slots=2)
    first, second = world.submit("chain", [(), (0,)])
    await world.settle()
    world.ends(first)
    await world.leaves()
    world.proposer.submit(RescheduleTask("again", "chain", "t1", ""))
    assert len(await world.leaves()) == 2
    world.commit()
    assert [one.outcome for one in second.attempts] == [AttemptOutcome.RESCHEDULED]
    assert await world.settle() == 1
    assert [one.number for one in second.live] == [2]


async def test_a_dag_that_is_cancelled_meanwhile_stays_cancelled(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0")
    first, second = world.submit("chain", [(), (0,)])
    await world.settle()
    (other,) = world.submit("other", [()])
    world.proposer.submit(CancelDag("c", "chain", ""))
    world.ends(first)
    *_, commands = await world.leaves()
    assert second.key in [key for _, key, _ in choices(commands)]
    world.commit()
    assert second.state is TaskState.CANCELLED
    await world.settle()
    assert other.state is TaskState.ASSIGNED


# --- tasks of what is submitted -----------------------------------------------------------------------------


async def test_the_first_tasks_of_a_dag_are_assigned_in_the_entry_of_its_submission(
    log, make_applier
) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0", slots=2)
    world.submits("d", [(), (), (0, 1)])
    (commands,) = await world.leaves()
    assert [type(one) for one in commands] == [SubmitDag, AssignRoots]
    assert [(one.agent, one.key, one.attempt) for one in commands[1].choices] == [("a0", 0, 1), ("a0", 1, 1)]
    world.commit()
    states = [task.state for task in world.tasks("d")]
    assert states == [TaskState.ASSIGNED, TaskState.ASSIGNED, TaskState.PENDING]
    assert await world.settle() == 0
    first, second, _ = world.tasks("d")
    world.ends(first)
    world.ends(second)
    await world.settle()
    assert world.tasks("d")[2].state is TaskState.ASSIGNED
    known = world.placement.decisions.assignment(first.key, 1)
    assert known is not None, "how it came about is told by the key that the task has now"


async def test_what_finds_no_slot_waits_and_is_placed_once(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0")
    world.submits("d", [(), ()])
    world.submits("e", [()])
    (commands,) = await world.leaves()
    assert [type(one) for one in commands] == [SubmitDag, SubmitDag, AssignRoots]
    world.commit()
    await world.settle()
    assert [task.state for task in world.tasks("d")] == [TaskState.ASSIGNED, TaskState.READY]
    assert world.placement.waiting == 2
    for _ in range(3):
        (running,) = [
            one for dag in ("d", "e") if world.applier.state.dag(dag) for one in world.tasks(dag) if one.live
        ]
        world.ends(running)
        await world.settle()
    assert not world.applier.state.dags
    assert world.placement.waiting == 0


async def test_a_submission_that_is_refused_takes_its_assignment_along(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0", tools=("saw",))
    world.agent("a1", slots=1)
    (known,) = world.submit("d", [()], requirements=Requirements(needs=FamilyNeeds(tool="saw")))
    await world.settle()
    world.submits("d", [()])
    (commands,) = await world.leaves()
    assert [type(one) for one in commands] == [SubmitDag, AssignRoots]
    world.commit()
    assert await world.settle() == 0
    assert [one.agent for one in known.live] == ["a0"]
    world.submits("e", [()])
    await world.settle()
    assert [task.state for task in world.tasks("e")] == [TaskState.ASSIGNED], "its slot is free again"


async def test_a_call_that_is_made_twice_at_once_has_its_tasks_assigned_once(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0", slots=4)
    world.submits("d", [()], "same")
    world.submits("d", [()], "same")
    (commands,) = await world.leaves()
    assert [type(one) for one in commands] == [SubmitDag, SubmitDag, AssignRoots]
    world.commit()
    await world.settle()
    assert [len(task.attempts) for task in world.tasks("d")] == [1]


async def test_tasks_that_last_are_assigned_when_their_dag_is_there(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0")
    block = TaskBlock(0, ["t0"], [0], [()], [b""], [60_000])
    command = SubmitDag("r", DagHeader("d"), [TaskProfile("noop")], block)
    world.placement.expect_dag(command, world.proposer.submit(command))
    (commands,) = await world.leaves()
    assert [type(one) for one in commands] == [SubmitDag]
    await world.settle()
    assert [task.state for task in world.tasks("d")] == [TaskState.ASSIGNED]


async def test_what_is_chosen_is_counted_when_it_has_left(log, make_applier) -> None:
    """Frames to the followers come first."""
    world, held = World(log, make_applier("a")), list[int]()
    world.agent("a0", slots=2)
    world.push = lambda: held.append(int(world.placement._snapshot.agents.held[0]))
    (task,) = world.submit("one", [()])
    (commands,) = await world.leaves()
    assert choices(commands) == [("a0", task.key, 1)]
    assert (held, int(world.placement._snapshot.agents.held[0])) == ([0], 1)
    world.commit()
    assert int(world.placement._snapshot.agents.held[0]) == 1


async def test_what_is_applied_as_it_leaves_is_counted_once(log, make_applier) -> None:
    """As where a node is alone."""
    world = World(log, make_applier("a"))
    world.agent("a0", slots=2)
    world.push = lambda: world.commit() if world.left else None
    (first, second) = world.submit("chain", [(), (0,)])
    for _ in range(4):
        await asyncio.sleep(0)
    assert first.state is TaskState.ASSIGNED
    assert (int(world.placement._snapshot.agents.held[0]), world.placement._mirror.proposed) == (1, set())
    world.ends(first)
    for _ in range(4):
        await asyncio.sleep(0)
    assert second.state is TaskState.ASSIGNED
    assert (int(world.placement._snapshot.agents.held[0]), world.placement._mirror.proposed) == (1, set())
