"""The state machine against a naive model of what it should do (B5, B6, F2, F3).

The model keeps one row per task and finds everything by looking at everything: no keys, counters, indexes
or sweeps. The same operations, sensible or not, must leave the same states of tasks and DAGs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from coordinator.core import commands as c
from coordinator.core.limits import LOST_ATTEMPTS
from coordinator.core.model import AttemptOutcome, FailurePolicy

if TYPE_CHECKING:
    from tests.core.conftest import Driver

_ENDED = ("COMPLETED", "FAILED", "CANCELLED")
_BAD = ("FAILED", "CANCELLED")
_HELD = ("ASSIGNED", "RUNNING")
_TWO = 2


@dataclass
class Row:
    """A task."""

    depends: set[str]
    state: str = "PENDING"
    live: dict[int, tuple[str, bool]] = field(default_factory=dict)
    """Number of an attempt to its agent, and whether it has begun."""
    attempt: int = 0
    failures: int = 0
    lost: int = 0

    def on(self, agent: str) -> list[int]:
        """The attempts that the agent holds."""
        return [number for number, (holder, _) in self.live.items() if agent in ("", holder)]

    def end(self, state: str) -> None:
        """Nobody holds it any more."""
        self.live.clear()
        self.state = state


@dataclass
class Graph:
    """A DAG."""

    rows: dict[str, Row]
    tries: int
    fail_fast: bool
    state: str = "RUNNING"


@dataclass
class Model:
    """All of it, and the agents that are there."""

    dags: dict[str, Graph] = field(default_factory=dict)
    agents: set[str] = field(default_factory=set)

    def submit(self, dag_id: str, depends: dict[str, set[str]], tries: int, fail_fast: bool) -> None:
        """A new DAG, unless the id is taken."""
        if dag_id not in self.dags:
            self.dags[dag_id] = Graph({name: Row(on) for name, on in depends.items()}, tries, fail_fast)

    def assign(self, dag_id: str, task_id: str, agent: str, *, rival: bool) -> None:
        """What is READY goes to an agent that is there; a rival joins another agent's attempt."""
        row = self.dags[dag_id].rows[task_id]
        fits = 0 < len(row.live) < _TWO and not row.on(agent) if rival else row.state == "READY"
        if fits and agent in self.agents:
            row.attempt += 1
            row.live[row.attempt] = agent, False
            row.state = "ASSIGNED" if row.state == "READY" else row.state

    def recall(self, dag_id: str, task_id: str, number: int, agent: str) -> None:
        """What has not begun goes to another agent that is there."""
        row = self.dags[dag_id].rows[task_id]
        if number in row.live and not row.live[number][1] and agent in self.agents and not row.on(agent):
            del row.live[number]
            row.attempt += 1
            row.live[row.attempt] = agent, False

    def preempt(self, dag_id: str, task_id: str, number: int) -> None:
        """Every task may be."""
        row = self.dags[dag_id].rows[task_id]
        if number in row.live:
            self.drop(row, number, "READY")

    def report(self, dag_id: str, task_id: str, agent: str, attempt: int, what: str) -> None:
        """What the holder of a live attempt says is taken."""
        row = self.dags[dag_id].rows[task_id]
        if row.live.get(attempt, ("", False))[0] != agent:
            return
        if what == "STARTED":
            row.live[attempt] = agent, True
            row.state = "RUNNING"
        elif what == "COMPLETED":
            row.end("COMPLETED")
        elif what == "REJECTED":
            self.lose(row, attempt)
        else:
            again = row.failures + 1 < self.dags[dag_id].tries and what == "FAILED"
            row.failures += len(row.live) == 1
            self.drop(row, attempt, "READY" if again else "FAILED")

    def lose(self, row: Row, number: int) -> None:
        """The attempt came to nothing by no fault of the task, as far as that is believed."""
        row.lost += 1
        self.drop(row, number, "FAILED" if row.lost >= LOST_ATTEMPTS else "READY")

    @staticmethod
    def drop(row: Row, number: int, alone: str) -> None:
        """The attempt is no more; if there is no other, this is the task's state then."""
        del row.live[number]
        row.state = alone
        if row.live:
            row.state = "RUNNING" if any(begun for _, begun in row.live.values()) else "ASSIGNED"

    def leave(self, agent: str, kept: list[tuple[str, str]], back: bool) -> None:
        """The agent is gone, or comes back with what it kept."""
        self.agents = self.agents | {agent} if back else self.agents - {agent}
        for dag_id, dag in self.dags.items():
            for task_id, row in dag.rows.items():
                if (dag_id, task_id) not in kept:
                    for number in row.on(agent):
                        self.lose(row, number)

    def reschedule(self, dag_id: str, task_id: str) -> None:
        """Whoever holds it does so no more."""
        row = self.dags[dag_id].rows[task_id]
        if row.state in _HELD:
            row.end("READY")

    def cancel(self, dag_id: str, task_id: str | None = None) -> None:
        """A task, or all of them."""
        dag = self.dags[dag_id]
        if dag.state != "RUNNING":
            return
        for name in dag.rows if task_id is None else [task_id]:
            if dag.rows[name].state not in _ENDED:
                dag.rows[name].end("CANCELLED")
        if task_id is None:
            dag.state = "CANCELLED"

    def settle(self) -> None:
        """Draw every conclusion until there are no more."""
        for dag in self.dags.values():
            rows = dag.rows
            if dag.state == "RUNNING" and dag.fail_fast and any(r.state == "FAILED" for r in rows.values()):
                for row in rows.values():
                    row.end(row.state if row.state in _ENDED else "CANCELLED")
            for row in rows.values():
                before = {rows[name].state for name in row.depends}
                if row.state not in _ENDED and before & {*_BAD}:
                    row.end("CANCELLED")
                elif row.state == "PENDING" and before <= {"COMPLETED"}:
                    row.state = "READY"
            states = {row.state for row in rows.values()}
            if dag.state == "RUNNING" and states <= {*_ENDED}:
                dag.state = next(state for state in ("FAILED", "CANCELLED", "COMPLETED") if state in states)


names = st.sampled_from(["a", "b", "c", "d"])
graphs = st.sets(st.tuples(names, names), max_size=5)
_DAGS = [f"d{number}" for number in range(4)]
workers = st.sampled_from(["v", "w"])
policies = st.sampled_from(FailurePolicy)
_WORDS = ("STARTED", "COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "FAILED", "FATAL", "REJECTED")
_OUTCOMES = {"COMPLETED": AttemptOutcome.COMPLETED, "REJECTED": AttemptOutcome.REJECTED}


class Comparison(RuleBasedStateMachine):
    """Does everything twice."""

    def __init__(self, node: Driver) -> None:
        super().__init__()
        self.node = node
        self.model = Model()
        often = (self.assign, self.report, self.report)
        self.operations = (*often, *often, self.move, self.move, self.submit, self.interfere, self.come_or_go)

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Two agents, two DAGs."""
        for agent in ("v", "w"):
            self._join(agent, [])
        self.submit(_DAGS[0], data)

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        """One operation on a DAG, mostly an unfinished one; on one that is not there, to submit it."""
        unfinished = [dag_id for dag_id, graph in self.model.dags.items() if graph.state == "RUNNING"]
        dag = data.draw(st.sampled_from(unfinished * 8 + _DAGS))
        operation = data.draw(st.sampled_from(self.operations)) if dag in self.model.dags else self.submit
        operation(dag, data)
        self.model.settle()
        for dag_id, graph in self.model.dags.items():
            assert self.node.states(dag_id) == {name: row.state for name, row in graph.rows.items()}
            for name, row in graph.rows.items() if graph.state == "RUNNING" else ():
                live = {one.number: one.agent for one in self.node.task(dag_id, name).live}
                assert live == {number: agent for number, (agent, _) in row.live.items()}
            assert self.node.dag_state(dag_id) == graph.state

    def submit(self, dag: str, data: st.DataObject) -> None:
        """Four tasks with edges along the alphabet."""
        edges, tries, policy = data.draw(graphs), data.draw(st.integers(1, 3)), data.draw(policies)
        depends = {name: {a for a, b in edges if b == name and a < b} for name in "abcd"}
        graph = {name: sorted(on) for name, on in depends.items()}
        profile = self.node.profile(max_attempts=tries, preemptible=True)
        self.node.do(self.node.submission(dag, graph, profile, failure_policy=policy))
        self.model.submit(dag, depends, tries, policy is FailurePolicy.FAIL_FAST)
        self.model.settle()

    def assign(self, dag: str, data: st.DataObject) -> None:
        """A round for one agent; some of the tasks may not be READY."""
        agent = data.draw(st.sampled_from(sorted(self.model.agents) * 3 + ["v", "w"]))
        tasks = data.draw(st.sets(names, min_size=1))
        self.node.do(c.Assign([self.node.choice(agent, dag, task) for task in sorted(tasks)]))
        for task in tasks:
            self.model.assign(dag, task, agent, rival=False)

    def move(self, dag: str, data: st.DataObject) -> None:
        """A second attempt, a recall or a preemption: mostly of what is held."""
        dag, task = data.draw(st.sampled_from(self._held() * 8 + [(dag, name) for name in "abcd"]))
        row, agent, how = self.model.dags[dag].rows[task], data.draw(workers), data.draw(st.integers(0, 3))
        number = data.draw(st.sampled_from(sorted(row.live) * 4 + [row.attempt]))
        if agent not in self.node.state.agents:
            return
        choice = self.node.choice(agent, dag, task, rival=how < 2)
        if how < 2:
            self.node.do(c.Assign([choice]))
            self.model.assign(dag, task, agent, rival=True)
        elif how == 2:
            self.node.do(c.Recall([c.Move(number, choice)], "why"))
            self.model.recall(dag, task, number, agent)
        else:
            self.node.do(c.Preempt([(choice.key, number)], "why"))
            self.model.preempt(dag, task, number)

    def report(self, dag: str, data: st.DataObject) -> None:
        """Words on a task: mostly those of its holder on the present attempt."""
        dag, task = data.draw(st.sampled_from(self._held() * 8 + [(dag, name) for name in "abcd"]))
        row, what = self.model.dags[dag].rows[task], data.draw(st.sampled_from(_WORDS))
        number = data.draw(st.sampled_from(sorted(row.live) or [row.attempt]))
        holder = row.live[number][0] if row.live else "w"
        agent = data.draw(st.sampled_from([holder] * 4 + ["v", "w"]))
        attempt = number - data.draw(st.sampled_from([0, 0, 0, 0, 1]))
        kind = c.ReportKind.STARTED if what == "STARTED" else c.ReportKind.ENDED
        outcome = _OUTCOMES.get(what, AttemptOutcome.FAILED)
        said = {"outcome": outcome, "retryable": what != "FATAL", "attempt": attempt}
        self.node.do(self.node.said(agent, dag, task, kind, **said))
        if agent in self.model.agents:
            self.model.report(dag, task, agent, attempt, what)

    def interfere(self, dag: str, data: st.DataObject) -> None:
        """A client cancels or reschedules."""
        task, how = data.draw(names), data.draw(st.integers(0, 5))
        if how == 0:
            self.node.do(c.CancelDag("", dag))
            self.model.cancel(dag)
        elif how < 3:
            self.node.do(c.CancelTask("", dag, task))
            self.model.cancel(dag, task)
        else:
            self.node.do(c.RescheduleTask("", dag, task))
            self.model.reschedule(dag, task)

    def come_or_go(self, _dag: str, data: st.DataObject) -> None:
        """An agent comes back with most of what it held, or is gone."""
        agent = data.draw(workers)
        if agent not in self.model.agents or data.draw(st.integers(0, 2)):
            forgotten = data.draw(st.sets(names))
            self._join(agent, [one for one in self._held(agent) if one[1] not in forgotten])
            return
        epoch = self.node.epoch(agent)
        goodbye = c.CloseSession(agent, epoch, True)
        self.node.do(goodbye if data.draw(st.booleans()) else c.LoseAgents([(agent, epoch)], "silent"))
        self.model.leave(agent, [], back=False)

    def _held(self, agent: str = "") -> list[tuple[str, str]]:
        return [
            (dag_id, name)
            for dag_id, graph in self.model.dags.items()
            for name, row in graph.rows.items()
            if row.on(agent)
        ]

    def _join(self, agent: str, kept: list[tuple[str, str]]) -> None:
        held = [
            (self.node.key(dag, task), number)
            for dag, task in kept
            for number in self.model.dags[dag].rows[task].on(agent)
        ]
        self.node.join(agent, held, credit=100)
        self.model.leave(agent, kept, back=True)


def test_the_machine_does_what_the_model_does(
    new_driver: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """B5, B6, F2, F3."""
    # The machine believes in losses among the attempts that it remembers, the model among all.
    monkeypatch.setattr("coordinator.core.transaction.ATTEMPTS_KEPT", 1_000)

    class Fresh(Comparison):
        def __init__(self) -> None:
            super().__init__(new_driver(verify=False))

    run_state_machine_as_test(Fresh)
