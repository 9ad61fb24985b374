"""Random and senseless commands: the machine never raises, no invariant breaks, a restarted node does not
diverge, and from wherever it got to, every DAG ends once agents behave (A4, B5, F2, F3, F4).

The checks after each entry are those of the `Driver`: invariants, `Watch`, effects, and the same entry
applied to a state rebuilt from what is stored. With tight bounds, sweeps, lost attempts and remembered
requests meet their limits all the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from coordinator.core import commands as c
from coordinator.core import history, machine, transaction, writers
from coordinator.core.appliers import kv, reservations
from coordinator.core.limits import MAX_DELAY_MS
from coordinator.core.model import (
    INDEX_BITS,
    AgentLoad,
    AgentSpec,
    Attempt,
    AttemptOutcome,
    Backoff,
    DagHeader,
    DagState,
    FailurePolicy,
    Task,
    TaskBlock,
    TaskProfile,
    TaskState,
)
from coordinator.core.namespaces import Quotas
from coordinator.core.reservations import ReservationRecord

if TYPE_CHECKING:
    from tests.core.conftest import Driver

T = TypeVar("T")

_AGENTS = ("w0", "w1", "w2")
_DAGS = ("d0", "d1", "d2", "d3")
_SENSELESS = (-(2**63), -1, 0, 7, 1 << 24, 2**63, 2**64 - 1)
_NAMESPACES = ("default", "default", "shop")
_STEPS_MS = (0, 1, 50, 10_000, -5_000, 700_000)
_KEYS = ("k", "k/a", "l", "", "k" * 1_025)
_RESERVATIONS = ("nightly", "sale", "audit", "")
_HELD = (TaskState.ASSIGNED, TaskState.RUNNING)
_ENDS = (AttemptOutcome.COMPLETED,) * 4 + (AttemptOutcome.FAILED,) * 3 + tuple(AttemptOutcome)
_KINDS = (c.ReportKind.ENDED,) * 3 + tuple(c.ReportKind)


_up_to = cache(partial(st.integers, 0))
"""A strategy that is made anew costs more than what is drawn from it."""


class Dice:
    """Draws what a command is made of."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def number(self, most: int = 255) -> int:
        """From 0 to `most`."""
        return self._data.draw(_up_to(most))

    def one(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.number(len(options) - 1)]

    def some(self, options: Sequence[T], most: int = 4) -> list[T]:
        """One of the options or a few, perhaps one of them twice."""
        return [self.one(options) for _ in range(1 + self.number(most - 1))]

    def rarely(self) -> bool:
        """Once in ten times or so."""
        return self.number(9) == 9

    def request(self) -> str:
        """A request id, mostly none."""
        return self.one(("", "", "", "r0", "r1", "r2"))


class Chaos(RuleBasedStateMachine):
    """Makes one command after the other: mostly a sensible one, sometimes not."""

    def __init__(self, node: Driver) -> None:
        super().__init__()
        self.node = node
        self.batch: list[c.Command] = []
        self.sound = True
        self.profiles = (
            node.profile(),
            node.profile(max_attempts=3),
            node.profile(max_attempts=4, backoff=Backoff.EXPONENTIAL, delay_ms=100),
            node.profile(timeout_ms=10, max_attempts=2, milli_cores=5, memory_bytes=3),
            node.profile(max_attempts=2, preemptible=True),
            node.profile(max_attempts=2, tool="saw", preemptible=True),
            node.profile(max_attempts=2, tool="drill", model="vision"),
            node.profile(timeout_ms=-1, max_attempts=-3, delay_ms=-(2**63), max_delay_ms=-1),
            node.profile(timeout_ms=2**64 - 1, max_attempts=2**63, delay_ms=2**64 - 1, milli_cores=1),
        )
        often = (self.assign, self.assign, self.rival, self.report, self.report, self.report)
        self.makers = (
            *often,
            *often,
            *(self.submit, self.submit, self.stage, self.nonsense, self.cancel_dag, self.sweep, self.purge),
            *(self.expire, self.wake, self.wake, self.cancel_or_reschedule, self.spawn, self.spawn),
            *(self.recall, self.recall, self.preempt, self.assign_roots),
            *(self.open_session, self.open_session, self.close_session, self.lose_or_forget, self.drain),
            self.change_agent,
            *(self.put, self.put, self.delete),
            *(self.set_namespace, self.unset_namespace),
            *(self.set_reservation, self.set_reservation, self.remove_reservation),
        )

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Something to do, and somebody to do it."""
        dice = Dice(data)
        sessions = [self.open_session(dice, name) for name in _AGENTS]
        self.node.apply(*sessions, self.submit(dice))

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        """The next command, perhaps in one entry with those that follow."""
        dice = Dice(data)
        self.node.now_ms += dice.one(_STEPS_MS)
        self.batch.append(dice.one(self.makers)(dice))
        if not dice.rarely():
            batch, self.batch = self.batch, []
            self.sound = False
            self.node.apply(*batch)
            self.sound = True

    def teardown(self) -> None:
        """Liveness: agents behave from here on."""
        if self.sound:
            self.node.apply(*self.batch)
            bring_to_an_end(self.node)

    # --- what there is --------------------------------------------------------------------------------------

    def _tasks(self, states: Sequence[TaskState] = tuple(TaskState)) -> list[Task]:
        dags = self.node.state.dags.values()
        return [task for dag in dags for task in dag.tasks if task.state in states]

    def _keys(self, dice: Dice, states: Sequence[TaskState]) -> list[int]:
        fitting = self._tasks() if dice.rarely() else self._tasks(states)
        return list(_SENSELESS) if dice.rarely() or not fitting else [task.key for task in fitting]

    def _attempt(self, dice: Dice, key: int) -> int:
        """The last attempt made, mostly."""
        task = self.node.state.task(key)
        return (0 if task is None else task.attempt) - dice.rarely()

    def _live(self, dice: Dice, key: int) -> Attempt | None:
        """An attempt that is live, if there is one."""
        task = self.node.state.task(key)
        return dice.one(task.live) if task is not None and task.live else None

    def _number(self, dice: Dice, key: int) -> int:
        """Of an attempt that is live, if there is one."""
        live = self._live(dice, key)
        return self._attempt(dice, key) if live is None else live.number

    def _epoch(self, dice: Dice, agent: str) -> int:
        known = self.node.state.agents.get(agent)
        return (0 if known is None else known.record.epoch) - dice.rarely()

    def _has(self, agent: str) -> list[tuple[int, int]]:
        """What is with the agent, still wanted or not."""
        known = self.node.state.agents.get(agent)
        if known is None:
            return []
        return [*known.held.items(), *known.record.stopping]

    def _block(self, dice: Dice, profiles: int, first: int = 0) -> TaskBlock:
        block = TaskBlock(first, [], [], [], [], [])
        for at in range(first, first + dice.number(6) + 1):
            mask = dice.number()
            block.ids.append(f"t{at}")
            block.profiles.append(dice.number(profiles - 1))
            block.depends.append(
                tuple(index for index in range(min(at, 8)) if mask & 5 and mask >> index & 1)
            )
            block.payloads.append(b"x")
            block.expected_ms.append(mask)
        return block

    # --- DAGs -----------------------------------------------------------------------------------------------

    def submit(self, dice: Dice) -> c.Command:
        """A DAG of a few tasks."""
        name, failure_policy = dice.one(_DAGS), dice.one(tuple(FailurePolicy))
        header = DagHeader(name, dice.one(_NAMESPACES), failure_policy=failure_policy)
        block = self._block(dice, len(self.profiles))
        return c.SubmitDag(dice.request(), header, list(self.profiles), block)

    def stage(self, dice: Dice) -> c.Command:
        """A part of a DAG, mostly the next one."""
        dag_id = dice.one(_DAGS)
        known = self.node.state.dag(dag_id)
        first = (0 if known is None else len(known.tasks)) + dice.rarely()
        block = self._block(dice, len(self.profiles), first)
        return c.StageDag("", DagHeader(dag_id), list(self.profiles), block, dice.number(2) == 0)

    def nonsense(self, dice: Dice) -> c.Command:
        """Columns that do not fit one another."""
        ids, numbers = dice.some(("t0", "t1", "")), dice.some(_SENSELESS)
        depends = [(number,) for number in dice.some(_SENSELESS)]
        block = TaskBlock(0, ids, numbers, list(depends), [b""] * len(ids), numbers)
        return c.SubmitDag("", DagHeader("d0"), dice.one(([], list(self.profiles))), block)

    def cancel_dag(self, dice: Dice) -> c.Command:
        """Cancel or drop a DAG that may be."""
        if dice.number(1):
            return c.DropStaged(dice.one(_DAGS), "broken off")
        return c.CancelDag(dice.request(), dice.one(_DAGS))

    def sweep(self, dice: Dice) -> c.Command:
        """The next step of a sweep, if there is one."""
        return c.SweepDag(dice.one([*self.node.state.dags] or list(_SENSELESS)))

    def purge(self, dice: Dice) -> c.Command:
        """Purge DAGs that may have ended."""
        return c.PurgeDags(dice.some((*_DAGS, "nothing")))

    # --- tasks ----------------------------------------------------------------------------------------------

    def assign(self, dice: Dice) -> c.Command:
        """A round for READY tasks, or for any."""
        keys = dice.some(self._keys(dice, [TaskState.READY]))
        return c.Assign([self._choice(dice, key, rival=dice.rarely()) for key in keys])

    def assign_roots(self, dice: Dice) -> c.Command:
        """A round for tasks of what this entry brings, or something else."""
        indices = dice.some([-1, 0, 1, 2, *_SENSELESS])
        return c.AssignRoots(dice.request(), [self._choice(dice, at, rival=False) for at in indices])

    def rival(self, dice: Dice) -> c.Command:
        """Another attempt beside those that are live."""
        keys = dice.some(self._keys(dice, _HELD))
        return c.Assign([self._choice(dice, key, rival=not dice.rarely()) for key in keys])

    def recall(self, dice: Dice) -> c.Command:
        """Attempts that have not begun, mostly, for other agents, or the same."""
        keys = dice.some(self._keys(dice, [dice.one(_HELD)]))
        moves = [c.Move(self._number(dice, key), self._choice(dice, key, rival=False)) for key in keys]
        return c.Recall(moves, "elsewhere sooner")

    def preempt(self, dice: Dice) -> c.Command:
        """Attempts, of preemptible tasks or others."""
        held = self._keys(dice, _HELD)
        fitting = [one.key for one in self._tasks(_HELD) if one.profile.preemptible]
        keys = dice.some(fitting or held)
        return c.Preempt([(key, self._number(dice, key)) for key in keys], "something urgent")

    def _choice(self, dice: Dice, key: int, *, rival: bool) -> c.Choice:
        agent = dice.one(_AGENTS)
        return c.Choice(key, self._attempt(dice, key) + 1, agent, self._epoch(dice, agent), rival)

    def report(self, dice: Dice) -> c.Command:
        """Reports on what an agent has, or on anything."""
        agent = dice.one([name for name in _AGENTS if self._has(name)] or list(_AGENTS))
        own = self._has(agent)
        if dice.rarely() or not own:
            own = [(key, 1) for key in self._keys(dice, _HELD)]
        reports = []
        for key, attempt in dice.some(own):
            kind, outcome = dice.one(_KINDS), dice.one(_ENDS)
            fields: dict[str, Any] = {"data": dice.one((b"", b"data")), "text": dice.one(("", "boom"))}
            fields |= {"progress": dice.number() / 200, "duration_us": dice.one(_SENSELESS)}
            fields |= {"retryable": not dice.rarely()}
            reports.append(c.AttemptReport(key, attempt - dice.rarely(), kind, outcome, **fields))
        return c.Report(agent, self._epoch(dice, agent), reports)

    def expire(self, dice: Dice) -> c.Command:
        """Timeouts, real or not."""
        keys = dice.some(self._keys(dice, [TaskState.RUNNING]))
        return c.ExpireAttempts([(key, self._number(dice, key)) for key in keys])

    def wake(self, dice: Dice) -> c.Command:
        """Wake tasks, due or not."""
        delayed = [task.key for task in self._tasks() if task.not_before_ms]
        return c.WakeTasks(dice.some(delayed or self._keys(dice, [TaskState.PENDING])))

    def cancel_or_reschedule(self, dice: Dice) -> c.Command:
        """One task, in whatever state."""
        named = [(dag.record.header.dag_id, t.id) for dag in self.node.state.dags.values() for t in dag.tasks]
        names = dice.one(named or [("d0", "t0")])
        if dice.number(1):
            return c.CancelTask(dice.request(), *names)
        return c.RescheduleTask(dice.request(), *names)

    def spawn(self, dice: Dice) -> c.Command:
        """An attempt adds tasks that may depend on those of its DAG and on each other."""
        key = dice.one(self._keys(dice, _HELD))
        live = self._live(dice, key)
        agent, number, epoch = ("w0", 0, 0) if live is None else (live.agent, live.number, live.epoch)
        dag = self.node.state.dags.get(key >> INDEX_BITS)
        ids = [] if dag is None else [one.id for one in dag.tasks]
        tasks = []
        for _ in range(dice.number(3)):
            mask = dice.number()
            depends = tuple(name for bit, name in enumerate(ids[-8:]) if mask >> bit & 1)
            ids.append("t0" if dice.rarely() else f"t{len(ids)}")
            tasks.append(c.NewTask(ids[-1], TaskProfile("spawned", timeout_ms=mask % 2), depends))
        return c.SpawnTasks(dice.request(), agent, epoch - dice.rarely(), key, number, tasks)

    # --- agents ---------------------------------------------------------------------------------------------

    def open_session(self, dice: Dice, name: str = "") -> c.Command:
        """A hello with most of what the agent should hold, or with what it should not."""
        name = name or dice.one(_AGENTS)
        held = [one for one in self._has(name) if dice.number(3)]
        if dice.rarely():
            held += [(key, 1) for key in self._keys(dice, _HELD)]
        return c.OpenSession(self._spec(dice, name), held)

    def change_agent(self, dice: Dice) -> c.Command:
        """An agent offers something else, in its session or in another."""
        name = dice.one(_AGENTS)
        return c.ChangeAgent(self._spec(dice, name), self._epoch(dice, name))

    def _spec(self, dice: Dice, name: str) -> AgentSpec:
        room = dice.number(12)
        fields: dict[str, Any] = {"credit": dice.number(6) - 1, "milli_cores": room, "memory_bytes": room}
        bounded = dice.one(((), ("drill",), ("drill", "saw")))
        fields["tool_limits"] = tuple((tool, dice.number(2)) for tool in bounded)
        fields["model_limits"] = (("vision", 1),) if dice.number(1) else ()
        return self.node.spec(name, instance_id=f"i{dice.number(1)}", **fields)

    def close_session(self, dice: Dice) -> c.Command:
        """The end of a session."""
        agent = dice.one(_AGENTS)
        return c.CloseSession(agent, self._epoch(dice, agent), dice.number(2) == 0)

    def lose_or_forget(self, dice: Dice) -> c.Command:
        """Agents are declared lost, or forgotten."""
        agents = [(name, self._epoch(dice, name)) for name in dice.some((*_AGENTS, "nobody"))]
        return c.ForgetAgents(agents) if dice.number(1) else c.LoseAgents(agents, "silent")

    def drain(self, dice: Dice) -> c.Command:
        """A drain or its end, or the loads of agents that may be known, now or in the past."""
        agent = dice.one(_AGENTS)
        if dice.number(1):
            return c.DrainAgent(dice.request(), agent, dice.number(3) > 0, dice.number(1) == 0)
        if dice.rarely():
            return c.KeepLoads(dice.number(4) - 1, dice.one(_SENSELESS), b"packed")
        cpu = dice.one((0.0, 0.5, -1.0, float("inf"), float("nan")))
        return c.RecordLoads({agent: AgentLoad(cpu=cpu), "nobody": AgentLoad()})

    # --- namespaces -----------------------------------------------------------------------------------------

    def set_namespace(self, dice: Dice) -> c.Command:
        """Quotas that are soon met, or senseless settings."""
        name = dice.one((*_NAMESPACES, "", "n" * 257))
        if dice.rarely():
            quotas = Quotas(dice.one(_SENSELESS), tasks=dice.one(_SENSELESS))
            return c.SetNamespace("", name, dice.one((float("nan"), -1.0, 0.0)), "?", quotas, ("what",))
        quotas = Quotas(*(dice.one((None, None, 0, 1, 3, 6)) for _ in Quotas.__struct_fields__))
        lifted = tuple(dice.some(Quotas.__struct_fields__)) if dice.rarely() else ()
        return c.SetNamespace(dice.request(), name, dice.one((None, 0.5, 3.0)), None, quotas, lifted)

    def unset_namespace(self, dice: Dice) -> c.Command:
        """One that may have settings."""
        return c.UnsetNamespace(dice.request(), dice.one(_NAMESPACES))

    # --- reservations ---------------------------------------------------------------------------------------

    def set_reservation(self, dice: Dice) -> c.Command:
        """One that is about to begin or end, or that makes no sense."""
        name, now_ms = dice.one(_RESERVATIONS), self.node.now_ms
        begin_ms, end_ms = (max(0, now_ms + dice.one(_STEPS_MS)) * (dice.number(2) > 0) for _ in range(2))
        agents = tuple(dice.some(_AGENTS)) if dice.number(2) else ()
        slots, zone = dice.one((None, 1, 1, 2, 3)), dice.one(("", "", "z"))
        if dice.rarely():
            begin_ms, end_ms, slots = dice.one(_SENSELESS), dice.one(_SENSELESS), dice.one(_SENSELESS)
        namespace = dice.one(("shop", "default", "else"))
        record = ReservationRecord(name, namespace, slots, begin_ms, end_ms, agents, zone)
        return c.SetReservation(dice.request(), record, self._expected(dice, name))

    def remove_reservation(self, dice: Dice) -> c.Command:
        """One that may be there."""
        name = dice.one(_RESERVATIONS)
        return c.RemoveReservation(dice.request(), name, self._expected(dice, name))

    def _expected(self, dice: Dice, name: str) -> int | None:
        known = self.node.state.reservations.get(name)
        current = 0 if known is None else known.version
        return dice.one((None, None, current, current, 0, *_SENSELESS))

    # --- keys -----------------------------------------------------------------------------------------------

    def put(self, dice: Dice) -> c.Command:
        """A value for a key, whatever it holds or at the version that it has."""
        key = dice.one(_KEYS)
        return c.KvPut(self._write(dice), key, bytes(dice.number(9)), self._expect(dice, key))

    def delete(self, dice: Dice) -> c.Command:
        """A key is removed, whether it is there or not."""
        key = dice.one(_KEYS)
        return c.KvDelete(self._write(dice), key, self._expect(dice, key))

    def _write(self, dice: Dice) -> c.WriteId:
        """The next write of a client, one that it repeats, or what no client would say."""
        if dice.rarely():
            return c.WriteId(dice.one(("v", "v" * 65)), dice.one(_SENSELESS), dice.one(_SENSELESS))
        writer = dice.one(("", "v", "w"))
        known = self.node.state.kv.writers.get(writer)
        newest = 0 if known is None else max(known.replies, default=known.answered)
        number = newest + dice.one((1, 1, 1, 2, 0, -1))
        return c.WriteId(writer, number, number - dice.one((0, 0, 1, 3)))

    def _expect(self, dice: Dice, key: str) -> int | None:
        entry = self.node.state.kv.entries.get(key)
        current = 0 if entry is None else entry.version
        return dice.one((None, None, current, 0, current - 1, *_SENSELESS))


def bring_to_an_end(node: Driver) -> None:
    """Every agent comes back with what it holds, one more with room for all joins them, and each does all
    that is asked of it: then every DAG ends, in no more rounds than there are tasks and steps of sweeps."""
    node.apply(*(c.UnsetNamespace("", name) for name in node.state.namespaces.settings))
    node.apply(*(c.RemoveReservation("", name) for name in node.state.reservations))
    for name in list(node.state.agents):
        agent = node.state.agents[name]
        node.do(c.OpenSession(agent.record.spec, list(agent.held.items())))
    node.do(c.OpenSession(node.spec("helper", credit=10_000, milli_cores=2**60, memory_bytes=2**60), []))
    tasks = sum(len(dag.tasks) for dag in node.state.dags.values())
    for _ in range(2 * tasks + 2):
        if not node.state.dags:
            return
        node.now_ms = node.state.machine.now_ms + MAX_DELAY_MS
        node.apply(*housekeeping(node))
        keys = [task.key for dag in node.state.dags.values() for task in dag.tasks]
        node.apply(c.WakeTasks(keys))
        node.apply(c.Assign(list(choices(node, "helper"))))
        node.apply(*completions(node))
    assert not node.state.dags, "agents behave, and a DAG does not end"


def housekeeping(node: Driver) -> Iterator[c.Command]:
    """What a leader does about DAGs by itself."""
    for number, dag in node.state.dags.items():
        if dag.record.state is DagState.STAGING:
            yield c.DropStaged(dag.record.header.dag_id, "broken off")
        elif dag.record.sweep_from >= 0:
            yield c.SweepDag(number)


def choices(node: Driver, agent: str) -> Iterator[c.Choice]:
    """Everything that is READY, to this agent."""
    for dag in node.state.dags.values():
        for task in dag.tasks:
            if task.state is TaskState.READY:
                yield c.Choice(task.key, task.attempt + 1, agent, node.epoch(agent))


def completions(node: Driver) -> Iterator[c.Command]:
    """Each agent completes what it holds."""
    for name, agent in node.state.agents.items():
        ended = [
            c.AttemptReport(key, number, c.ReportKind.ENDED, AttemptOutcome.COMPLETED)
            for key, number in agent.held.items()
        ]
        yield c.Report(name, agent.record.epoch, ended)


@pytest.mark.parametrize("bounds", ["tight", "shipped"])
def test_nothing_that_is_asked_for_breaks_anything(
    bounds: str, new_driver: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A4, B5, F2, F3, F4."""
    if bounds == "tight":
        monkeypatch.setattr(transaction, "SWEEP_STEP", 2)
        monkeypatch.setattr(transaction, "LOST_ATTEMPTS", 3)
        monkeypatch.setattr(transaction, "ATTEMPTS_KEPT", 4)
        monkeypatch.setattr(machine, "REQUESTS_KEPT", 2)
        monkeypatch.setattr(writers, "WRITERS_KEPT", 1)
        monkeypatch.setattr(writers, "UNANSWERED_WRITES", 2)
        monkeypatch.setattr(kv, "KV_KEYS", 2)
        monkeypatch.setattr(kv, "KV_BYTES", 12)
        monkeypatch.setattr(reservations, "RESERVATIONS_KEPT", 2)
        monkeypatch.setattr(history, "HISTORY_KEPT", 2)
        monkeypatch.setattr(history, "HISTORY_WINDOW", 4)
        monkeypatch.setattr(history, "HISTORY_GONE_ENDS", 2)

    class Fresh(Chaos):
        def __init__(self) -> None:
            super().__init__(new_driver())

    run_state_machine_as_test(Fresh)
