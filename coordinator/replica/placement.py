"""The placement loop: keeps the scheduler's snapshot current with what is applied, and proposes what it
decides.

A decision is counted as carried out as soon as it is proposed, so that the next round need not wait for its
commit; what `apply` then refuses is taken back. So are the ends that agents tell: what they unlock is
assigned in the same entry, where that has not left yet.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import structlog

from coordinator.core.commands import Assign, AttemptReport, Choice, Command, SubmitDag
from coordinator.core.foretold import Completion, Foretold
from coordinator.core.model import INDEX_BITS, AgentLoad, Task, TaskState
from coordinator.core.outcome import Done, Effects, Reply
from coordinator.core.reservations import ReservationRecord
from coordinator.core.state import State
from coordinator.defects import Defects
from coordinator.errors import CoordinatorError, QueueFull
from coordinator.plugins import Plugins
from coordinator.replica.decisions import Decisions
from coordinator.replica.submissions import Submissions
from coordinator.replica.under_way import UnderWay
from coordinator.replica.unhurried import Unhurried
from coordinator.scheduling.adaptation.batch import Batch
from coordinator.scheduling.adaptation.interval import Interval
from coordinator.scheduling.agents.lookahead import LookAhead
from coordinator.scheduling.costs.policies import policy
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.explain import Explanation, explain
from coordinator.scheduling.load.measured import NOTHING_EXPECTED, ExpectedLoads
from coordinator.scheduling.load.overload import LoadView
from coordinator.scheduling.load.settings import LoadSettings
from coordinator.scheduling.mirror import GONE, Mirror
from coordinator.scheduling.plans.assignments import SECONDS, SHARES, Assignment, Witness
from coordinator.scheduling.plans.looks import would_go
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.scheduler import Decision, Scheduler
from coordinator.scheduling.settings import SchedulingSettings
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.summaries import GroupSummary, summaries
from coordinator.scheduling.tasks.graphs import Expected
from coordinator.stages import Stages

_log = structlog.get_logger(__name__)
_NO_TIMER: asyncio.TimerHandle | None = None

_ROUNDS_IN_FLIGHT: Final = 4

_RETRY_S: Final = 0.02

_LOOK_EVERY_S: Final = 0.25
"""While nothing can be placed: for attempts that last too long."""

_LONGEST_SLEEP_S: Final = 3_600.0
"""While tasks wait for a reservation to begin or end."""
_AFTER_DEFECT_S: Final = 1.0
_DEFECTS: Final = 10
"""Rounds in a row that may fail. Another leader makes its snapshot anew."""


class Placement:
    """The leader's, for one term. `submit` proposes a command and gives its reply; `opened_after` is the
    epoch beyond which sessions have been opened in this term; `now_ms` is the leader's clock, `timer` gives
    monotonic seconds. `decisions` has what was decided; `on_due` is called when a round is, to let an entry
    leave."""

    def __init__(
        self,
        state: Callable[[], State],
        submit: Callable[[Command], asyncio.Future[Reply]],
        now_ms: Callable[[], int],
        *,
        look_ahead_ms: int,
        opened_after: int,
        timer: Callable[[], float] = time.monotonic,
        scheduling: SchedulingSettings | None = None,
        plugins: Plugins | None = None,
        load: LoadSettings | None = None,
        defects: Defects | None = None,
        stages: Stages | None = None,
    ) -> None:
        settings, plugins = scheduling or SchedulingSettings(), plugins or Plugins()
        self._state = state
        self._submit = submit
        self.now_ms = now_ms
        self._timer = timer
        self._settings = settings
        self._defects = defects or Defects()
        self._stage = (stages or Stages())["place"]
        self._snapshot = Snapshot(
            LookAhead(seconds=look_ahead_ms / 1000),
            plugins.families,
            settings.model_load_s,
            None if load is None else load.operators,
            settings.group_by,
        )
        self._mirror = Mirror(state, self._snapshot, opened_after=opened_after, load=load)
        self._foretold = Foretold(state)
        self._under_way = UnderWay()
        self._submissions = Submissions()
        self._snapshot.policies = plugins.policies
        self._policy = policy(settings.policy, plugins.policies)
        self._batch = Batch(settings.round_ms / 1_000, settings.least_batch, settings.most_batch)
        self._interval = Interval(settings.most_interval_ms / 1_000, settings.busy_interval_ms / 1_000)
        limits = PlanLimits(max_choices=self._batch.size)
        self._scheduler = Scheduler(self._snapshot, self._policy, limits, settings)
        self.decisions = Decisions(state, settings)
        self._families = plugins.families
        self._faults_told: dict[str, str] = {}
        self._expected = NOTHING_EXPECTED
        self._kept: dict[int, Expected] = {}
        self._rounds = self._failed = 0
        self._scheduled = self._due = self._stopped = False
        self.on_due: Callable[[], None] = self._decide_soon
        self._look = self._change = self._gathering = _NO_TIMER
        self._unhurried = Unhurried()

    def note(self, effects: Effects) -> None:
        """Take over what an applied entry has changed."""
        self._unhurried.catch_up()
        self._mirror.note(effects, self._now_s())
        self._forget_submitted()
        self.add_ready(effects.ready)

    def remember(self) -> None:
        """Begin with what ends have taught before: once, when all effects have been noted and nothing else
        has been done."""
        self._mirror.remember()

    def add_agents(self, agent_ids: Iterable[str]) -> None:
        """Look at these agents anew, and at the load that the leader before has recorded of them."""
        for agent_id in agent_ids:
            self._mirror.sync_agent(agent_id, self._now_s())
            agent = self._state().agents.get(agent_id)
            if agent is not None and agent.record.state not in GONE and agent.load != AgentLoad():
                self._mirror.record_load(agent_id, agent.load)
        self._mirror.judge_loads()
        self._schedule()

    def add_ready(self, keys: Iterable[int]) -> None:
        """These tasks may have to be placed."""
        ready = self._under_way.free(keys)
        self._mirror.ready(ready)
        if ready or self._has_room():
            self._schedule()

    def foresee(self, agent_id: str, reports: list[AttemptReport], recorded: asyncio.Future[Reply]) -> None:
        """An agent's reports have been proposed, and `recorded` will be the machine's reply: count what they
        complete, and place what that unlocks."""
        with self._defects.vital("foreseeing"):
            completions = self._foretold.completions(agent_id, reports)
            if not completions:
                return
            for one in completions:
                self._mirror.completes(agent_id, one.key, one.attempt)
            ready = [key for key in self._foretold.add(completions) if key not in self._under_way]
            self._mirror.foreseen(ready, self.now_ms())
            recorded.add_done_callback(lambda done: self._told(agent_id, completions, done))
            self._schedule()

    def ends_are_due(self) -> bool:
        """Whether agents may tell of ends at any moment."""
        return self._snapshot.due.any(self._now_s())

    def expect_dag(self, command: SubmitDag, recorded: asyncio.Future[Reply]) -> None:
        """A small DAG has been proposed, and `recorded` will be the machine's reply: place its first tasks
        along with it, if all are brief. Those that last may wait for the moment that this saves."""
        with self._defects.vital("foreseeing"):
            made = self._submissions.add(command, self.now_ms())
            if made is None:
                return
            recorded.add_done_callback(partial(self._submissions.settled, made))
            if all(map(self._is_brief, made.dag.tasks)):
                self._snapshot.ready(made.dag, made.roots, self.now_ms())
                self._submissions.unsent += [task.key for task in made.roots]
                self._schedule()

    def before_entry(self) -> None:
        """An entry is about to leave: `decide_now`, and nothing that may wait until it has left."""
        with self._unhurried.hurry():
            self.decide_now()

    def after_entry(self) -> None:
        """The entry has left."""
        with self._defects.vital("placement"):
            self._unhurried.catch_up()

    def decide_now(self) -> None:
        """Make the round that is due, so that its choices travel in the entry that is about to leave."""
        if self._due or (self._gathering is not None and not self._all_busy()):
            self._round()
        # What has found no place in the entry of its submission waits until that is applied.
        self._snapshot.waiting.discard(self._submissions.unsent)
        self._submissions.unsent.clear()

    def _decide_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.decide_now)

    def set_loads(self, loads: Mapping[str, AgentLoad]) -> None:
        """What agents have measured since the last call, perhaps nothing: who is overloaded now takes nothing
        new, who has recovered does."""
        for agent_id, load in loads.items():
            self._mirror.record_load(agent_id, load)
        if self._mirror.judge_loads():
            self._schedule()

    def expect(self, expected: ExpectedLoads) -> None:
        """What agents are expected to bear from now on."""
        if expected is not self._expected:
            self._expected = expected
            self._snapshot.measured.expect(expected)

    def load_of(self, agent_id: str) -> LoadView:
        """How loaded the agent is."""
        return self._mirror.overload.view(agent_id)

    def groups(self) -> list[GroupSummary]:
        """What is known of each group of agents, by name."""
        return summaries(self._snapshot, self._mirror.overload.views(), self._now_s())

    @property
    def waiting(self) -> int:
        """Tasks that wait for an agent."""
        return len(self._snapshot.waiting)

    def explain(self, task: Task) -> Explanation | None:
        """Why the task waits for an agent; None if it does not."""
        if task.state is not TaskState.READY:
            return None
        namespace = self._state().dags[task.key >> INDEX_BITS].record.header.namespace
        quota = self._snapshot.shares.beyond(namespace, task.profile)
        kept = self._kept.get(task.key)
        return explain(task.profile, self._snapshot, task.hint, kept, quota, self._now_s(), namespace)

    def share_of(self, namespace: str) -> float:
        """The largest part of slots, cores or memory that a namespace holds now, 0 to 1."""
        return self._snapshot.shares.holds(namespace)

    def covered_by(self, reservation: ReservationRecord) -> int:
        """How many of the agents that are known a reservation is of."""
        return self._snapshot.reserved.covered_by(reservation)

    def assignments(self, task: Task) -> list[Assignment]:
        """Why agents have the task, the last that had it if none has, and why a place is kept for it."""
        made = [(one.number, one.agent) for one in task.live or task.attempts[-1:]]
        rows = self._snapshot.agents.rows
        asked = [(number, rows.get(agent)) for number, agent in made]
        if task.state is TaskState.READY:
            kept = self._kept.get(task.key)
            asked = [(task.attempt + 1, kept.row)] if kept is not None else []
        found = []
        for number, row in asked:
            known = self.decisions.assignment(task.key, number)
            if known is None and row is not None:
                known = would_go(
                    self._snapshot, self._policy, self._settings.policy, task, number, row, self._now_s()
                )
            if known is not None:
                found.append(known)
        return found

    def stop(self) -> None:
        """The term is over."""
        self._stopped = True
        for timer in (self._look, self._gathering, self._change):
            if timer is not None:
                timer.cancel()

    def _now_s(self) -> float:
        return self.now_ms() / 1_000

    def _schedule(self) -> None:
        """Have a round made: of what comes in the pause after the last one together, but at once of what is
        urgent."""
        waiting = self._snapshot.waiting
        if self._stopped or (self._scheduled and (self._gathering is None or not waiting.urgent)):
            return
        if not len(waiting):
            self._look_later()
            return
        self._scheduled = True
        self._gather_no_longer()
        pause_s = 0.0 if waiting.urgent else self._interval.left(self._timer(), all_busy=self._all_busy())
        if pause_s > 0:
            self._gathering = asyncio.get_running_loop().call_later(pause_s, self._round)
        else:
            self._due = True
            self.on_due()

    def _gather_no_longer(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    def _look_later(self) -> None:
        if self._look is None and self._scheduler.looks_at_what_runs:
            self._look = asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look_again)

    def _await_change(self) -> None:
        """Look again when a reservation begins or ends: what waits may have waited for that alone."""
        if self._change is not None:
            self._change.cancel()
            self._change = None
        now_s = self._now_s()
        at_s = self._snapshot.reserved.next_change_s(now_s)
        if at_s is not None:
            in_s = min(at_s - now_s, _LONGEST_SLEEP_S)
            self._change = asyncio.get_running_loop().call_later(in_s, self._schedule)

    def _look_again(self) -> None:
        self._look = None
        if not self._scheduled:
            self._round()

    def _round(self) -> None:
        self._scheduled = self._due = False
        self._gather_no_longer()
        if self._stopped or self._rounds >= _ROUNDS_IN_FLIGHT:
            return
        with self._defects.turn("placement") as turn:
            decision = self._decide()
            self._tell_faults()
        if turn.failed:
            self._pause()
            return
        self._failed = 0
        with self._defects.vital("placement"):
            self._carry_out(decision)

    def _pause(self) -> None:
        self._failed += 1
        if self._failed == _DEFECTS:
            self._defects.lose("placement", f"{_DEFECTS} rounds in a row have failed")
            return
        self._scheduled = True
        asyncio.get_running_loop().call_later(_AFTER_DEFECT_S, self._round)

    def _carry_out(self, decision: Decision) -> None:
        self._kept = decision.plan.kept
        self._snapshot.turn = decision.plan.turn
        self._snapshot.waiting.discard([choice.key for choice in decision.choices if not choice.rival])
        # Cancelled tasks stay among the waiting until they are chosen.
        choices = [choice for choice in decision.choices if choice.rival or self._still_wanted(choice)]
        self._propose_roots([one for one in choices if self._submissions.holds(one.key)])
        choices = [one for one in choices if not self._submissions.holds(one.key)]
        if choices or (decision.before and not decision.choices):
            self._propose(decision.before, choices)
        self._unhurried.do(partial(self._await_next_round, decision))

    def _await_next_round(self, decision: Decision) -> None:
        """Make the next round soon, if there is room for it, or else when something has changed."""
        if decision.choices and self._has_room():
            self._schedule()
        else:
            self._look_later()
            if self._snapshot.reserved:
                self._await_change()

    def _tell_faults(self) -> None:
        """Each fault once."""
        faults = self._families.faults
        if faults == self._faults_told:
            return
        for family, fault in faults.items():
            if self._faults_told.get(family) != fault:
                _log.warning("a family of a plug-in fails", family=family, fault=fault)
        self._faults_told = dict(faults)

    def _decide(self) -> Decision:
        now_s = self._now_s()
        unit = SECONDS if isinstance(self._policy, Policy) else SHARES
        witness = self.decisions.witness(now_s, unit)
        begun_s = self._timer()
        decision = self._scheduler.decide(now_s, witness)
        ended_s = self._timer()
        self._stage.took(ended_s - begun_s)
        self._unhurried.do(partial(self._take_note, decision, witness, now_s, begun_s, ended_s))
        return decision

    def _take_note(
        self, decision: Decision, witness: Witness, now_s: float, begun_s: float, ended_s: float
    ) -> None:
        """For whoever asks, and of how long rounds take."""
        at_ms, duration_s, made = round(now_s * 1_000), ended_s - begun_s, len(decision.plan.choices)
        self.decisions.decided(at_ms, decision, witness, duration_s, self._batch.size)
        batch = self._batch.observe(made, duration_s)
        if batch is not None:
            self._scheduler.limits = PlanLimits(max_choices=self._batch.size)
        interval = self._interval.observe(made, duration_s, ended_s, all_busy=self._all_busy())
        for adapted in (batch, interval, decision.adapted):
            if adapted is not None:
                self.decisions.adapted(at_ms, adapted)

    def _all_busy(self) -> bool:
        """Whether whatever is placed now waits in a queue."""
        return not self._snapshot.agents.standing().many_free

    def _has_room(self) -> bool:
        """Whether any agent takes one more attempt, if only into its queue."""
        return self._snapshot.agents.standing().many_open > 0

    def _still_wanted(self, choice: Choice) -> bool:
        if self._submissions.holds(choice.key):
            return True
        task = self._state().task(choice.key)
        if task is None or task.attempt + 1 != choice.attempt:
            return False
        return self._mirror.placeable(task) or self._foretold.holds(choice.key)

    def _told(self, agent_id: str, completions: list[Completion], reply: asyncio.Future[Reply]) -> None:
        """What an agent has told has been applied or refused."""
        self._foretold.settled(completions)
        if self._stopped or reply.cancelled() or reply.exception() is not None:
            return
        with self._defects.vital("foreseeing"):
            told = [key for one in completions for key in one.unlocks]
            self._mirror.unready([key for key in told if not self._foretold.holds(key)])
            if not isinstance(reply.result(), Done):
                self.add_agents([agent_id])

    def _propose(self, before: list[Command], choices: list[Choice]) -> None:
        try:
            commands = [*before, Assign(choices)] if choices else before
            reply = [self._submit(command) for command in commands][-1]
        except QueueFull:
            self.add_ready([choice.key for choice in choices if not choice.rival])
            asyncio.get_running_loop().call_later(_RETRY_S, self._schedule)
            return
        self._unhurried.do(partial(self._hold, choices, self._now_s()))
        self._rounds += 1
        reply.add_done_callback(lambda done: self._settled(choices, done))

    def _hold(self, choices: list[Choice], now_s: float) -> None:
        """Count these as carried out."""
        for choice in choices:
            self._mirror.proposed.add((choice.agent, choice.key, choice.attempt))
            self._mirror.hold(choice.agent, choice.key, choice.attempt, now_s)
        self._under_way.begin(choices)

    def _propose_roots(self, choices: list[Choice]) -> None:
        """Have these tasks assigned along with their submissions. What cannot be is placed once these have
        been applied."""
        now_s = self._now_s()
        for command, submission, some in self._submissions.commands(choices):
            try:
                self._submit(command)
            except QueueFull:
                return
            submission.given.extend(some)
            self._unhurried.do(partial(self._hold_expected, some, now_s))

    def _hold_expected(self, choices: list[Choice], now_s: float) -> None:
        for one in choices:
            self._mirror.hold_expected(one.agent, one.key, one.attempt, now_s)

    def _is_brief(self, task: Task) -> bool:
        return self._snapshot.is_brief(task.profile, task.key, task.hint)

    def _forget_submitted(self) -> None:
        """These submissions have been applied or refused: their tasks are known by their own keys now, and so
        is who holds them."""
        applied, self._submissions.applied = self._submissions.applied, []
        for submission, number in applied:
            self._submissions.remove(submission)
            if number:
                self.decisions.numbered(submission.given, number)
            self._snapshot.waiting.discard([task.key for task in submission.roots])
            for one in submission.given:
                self._snapshot.release(one.agent, one.key, one.attempt)
            self._snapshot.forget_dag(submission.number)

    def _settled(self, choices: list[Choice], reply: asyncio.Future[Reply]) -> None:
        """The round has been applied: take back what was refused."""
        self._rounds -= 1
        with self._defects.vital("placement"):
            self._settle(choices, reply)

    def _settle(self, choices: list[Choice], reply: asyncio.Future[Reply]) -> None:
        again = self._under_way.settle(choices)
        if self._stopped or reply.cancelled() or isinstance(reply.exception(), CoordinatorError):
            self._mirror.proposed.difference_update((one.agent, one.key, one.attempt) for one in choices)
            return
        outcome = reply.result()
        if not isinstance(outcome, Done) or outcome.count < len(choices):
            for choice in choices:
                self._mirror.take_back(choice.agent, choice.key, choice.attempt)
        self.add_ready(again)
