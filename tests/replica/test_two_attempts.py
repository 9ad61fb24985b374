"""Two live attempts of one task in the leader's shell: both are pushed, timed, counted and told of (E10, F2,
F4)."""

from __future__ import annotations

import asyncio

from coordinator.api.convert import task_to_proto
from coordinator.api.explained import explanation_to_proto
from coordinator.api.operator_service import OperatorService
from coordinator.config import AgentsSection, RetentionSection
from coordinator.core.commands import Assign, AttemptReport, Choice, Command, Report, ReportKind
from coordinator.core.model import AgentSpec, AttemptOutcome, TaskState
from coordinator.core.outcome import Effects, Reply, SessionOpened
from coordinator.defects import Defects
from coordinator.forecast.settings import ForecastSettings
from coordinator.replica.leader import Leader
from coordinator.replica.pacing import Pace
from coordinator.replica.placement import Placement
from coordinator.replica.sessions import Sessions, Work


class Pair:
    """Task "t0" runs on "v" since 1,000 and on "w" since 1,400; `effects` are those of the assignments."""

    def __init__(self, log, applier) -> None:
        self.log, self.applier = log, applier
        self.effects: list[Effects] = []
        applier.on_outcome = lambda index, term, outcome: self.effects.append(outcome.effects)
        applier.apply([log.agent("v"), log.agent("w"), log.chain("one", 1)])
        self.task = applier.state.dag("one").tasks[0]
        self.effects.clear()
        for number, agent in ((1, "v"), (2, "w")):
            choice = Choice(self.task.key, number, agent, self.epoch(agent), number == 2)
            applier.apply([log.add(Assign([choice]), at_ms=600 + 400 * number)])
        for number, agent in ((1, "v"), (2, "w")):
            self.says(agent, number, ReportKind.STARTED, at_ms=1_400)

    def epoch(self, agent: str) -> int:
        return self.applier.state.agents[agent].record.epoch

    def says(self, agent: str, number: int, kind: ReportKind, outcome: int = 0, at_ms: int = 1_500) -> None:
        report = AttemptReport(self.task.key, number, kind, AttemptOutcome(outcome))
        self.applier.apply([self.log.add(Report(agent, self.epoch(agent), [report]), at_ms=at_ms)])


class Link:
    """Keeps what is said on a stream."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def welcome(self, opened: SessionOpened, term: int) -> None:
        self.said.append(("welcome", opened.epoch))

    def assign(self, term: int, work: list[Work]) -> None:
        self.said += [("assign", (one.task.key, one.attempt)) for one in work]

    def stop(self, fences: list[tuple[int, int]], reason: str) -> None:
        self.said += [("stop", fence) for fence in fences]

    def acknowledge(self, fences: list[tuple[int, int]], *, idle: bool) -> None:
        self.said += [("acknowledge", fence, idle) for fence in fences]


class Answers:
    """A proposer that knows the answer to each OpenSession, and takes what is proposed else."""

    def __init__(self, state) -> None:
        self.state = state
        self.made: list[Command] = []

    def submit(self, command: Command) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.made.append(command)
        if hasattr(command, "held"):
            record = self.state().agents[command.spec.agent_id].record
            future.set_result(SessionOpened(record.epoch, [], False))
        return future

    def ask(self) -> None:
        """No entry leaves."""


async def test_both_are_pushed_and_the_one_that_loses_is_stopped(log, make_applier) -> None:
    pair = Pair(log, make_applier("a"))
    sessions = Sessions(
        lambda: pair.applier.state,
        lambda _: None,
        Answers(lambda: pair.applier.state),
        max_agents=9,
        pace=Pace(1_000, 1_000),
    )
    links = {agent: Link() for agent in "vw"}
    key = pair.task.key
    for number, (agent, link) in enumerate(links.items(), start=1):
        await sessions.open(AgentSpec(agent, "instance", 2, 8), [(key, number)], link)
        link.said.clear()
    sessions.dispatch([("v", key, 1), ("w", key, 2), ("v", key, 3)])
    assert {agent: link.said for agent, link in links.items()} == {
        "v": [("assign", (key, 1))],
        "w": [("assign", (key, 2))],
    }
    sessions.acknowledge([("w", key, 1)])
    assert links["w"].said[1:] == [("acknowledge", (key, 1), False)], "it has the other one still"
    pair.effects.clear()
    links["w"].said.pop()
    pair.says("v", 1, ReportKind.ENDED, AttemptOutcome.COMPLETED)
    (effects,) = pair.effects
    sessions.acknowledge(effects.acked)
    sessions.halt(effects.halt)
    assert links["v"].said[1:] == [("acknowledge", (key, 1), True)]
    assert links["w"].said[1:] == [("stop", (key, 2))]


async def test_an_agent_that_comes_back_without_its_rival_is_given_it(log, make_applier) -> None:
    """What was assigned to its session before the link was there."""
    pair = Pair(log, make_applier("a"))
    state = lambda: pair.applier.state  # noqa: E731
    sessions, link = (
        Sessions(state, lambda _: None, Answers(state), max_agents=9, pace=Pace(1_000, 1_000)),
        Link(),
    )
    await sessions.open(AgentSpec("w", "instance", 2, 8), [], link)
    assert link.said == [("welcome", pair.epoch("w")), ("assign", (pair.task.key, 2))]


class StillClock:
    """It is always the same time."""

    def now_ms(self) -> int:
        return 1_000


async def test_a_new_leader_watches_the_timeout_of_each(log, make_applier) -> None:
    """Of attempts that have begun."""
    pair = Pair(log, make_applier("a"))
    state = lambda: pair.applier.state  # noqa: E731
    placement = Placement(state, Answers(state).submit, lambda: 1_000, look_ahead_ms=20, opened_after=0)
    sessions = Sessions(state, lambda _: None, Answers(state), max_agents=9, pace=Pace(1_000, 1_000))
    leader = Leader(
        pair.applier,
        Answers(state),
        sessions,
        placement,
        StillClock(),
        Defects(),
        agents=AgentsSection(),
        retention=RetentionSection(),
        forecast=ForecastSettings(),
        slow_models=None,
    )
    watched: list[tuple[int, int, int]] = []
    leader._timers.expire_at = lambda *of: watched.append(of)
    await leader.rebuild()
    key = pair.task.key
    assert watched == [(301_400, key, 1), (301_400, key, 2)]
    assert [leader._runs(key, number) for number in (0, 1, 2, 3)] == [False, True, True, False]
    pair.says("w", 2, ReportKind.ENDED, AttemptOutcome.FAILED)
    assert [leader._runs(key, number) for number in (1, 2)] == [True, False]
    leader.stop()


async def test_the_planner_counts_what_others_have_given(log, make_applier) -> None:
    """Until its end is acknowledged: what another loop than the planner's gave takes room too."""
    pair = Pair(log, make_applier("a"))
    state = lambda: pair.applier.state  # noqa: E731
    placement = Placement(state, Answers(state).submit, lambda: 1_000, look_ahead_ms=20, opened_after=0)
    placement.add_agents(["v", "w"])
    agents, key = placement._snapshot.agents, pair.task.key
    for agent, number in (("v", 1), ("w", 2)):
        agents.release(agent, key, number)
        placement.note(Effects(dispatch=[(agent, key, number)]))
        assert list(agents.held_attempts[agents.rows[agent]]) == [(key, number)]
    pair.effects.clear()
    pair.says("v", 1, ReportKind.ENDED, AttemptOutcome.COMPLETED)
    placement.note(pair.effects[0])
    held = {agent: list(agents.held_attempts[agents.rows[agent]]) for agent in "vw"}
    assert held == {"v": [], "w": [(key, 2)]}, "w is told to stop, and has not said that it has"


def test_both_are_told_of(log, make_applier) -> None:
    """E10."""
    pair = Pair(log, make_applier("a"))
    dag = pair.applier.state.dag("one")
    told = explanation_to_proto(dag, pair.task, None)
    assert told.summary == "attempt 1 runs on agent v, and attempt 2 runs on agent w"
    agents = pair.applier.state.agents.values()
    service = OperatorService(
        type("Node", (), {"applier": pair.applier, "leadership": type("Led", (), {"leader": None})})
    )
    assert [(view.held, view.running) for view in map(service._agent, agents)] == [(1, 1), (1, 1)]
    pair.says("w", 2, ReportKind.ENDED, AttemptOutcome.COMPLETED)
    shown = task_to_proto(dag, pair.task)
    assert [(one.agent_id, one.outcome) for one in shown.attempts] == [("v", 8), ("w", 1)]
    assert shown.state == TaskState.COMPLETED
