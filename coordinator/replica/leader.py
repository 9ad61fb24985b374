"""What only the leader does: turn effects of the state machine into placement, pushes, timers and
housekeeping."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Final

from coordinator.config import AgentsSection, RetentionSection
from coordinator.core.commands import (
    Command,
    DropStaged,
    ForgetAgents,
    PurgeDags,
    RecordLoads,
    SweepDag,
)
from coordinator.core.model import AgentState, Dag, DagState, Drain, Task, TaskState
from coordinator.core.outcome import Effects
from coordinator.core.state import State
from coordinator.defects import Defects
from coordinator.errors import CoordinatorError, QueueFull
from coordinator.forecast.settings import ForecastSettings
from coordinator.replica.applier import Applier
from coordinator.replica.clock import Clock
from coordinator.replica.forecasting import Forecasting
from coordinator.replica.placement import Placement
from coordinator.replica.proposer import Proposer
from coordinator.replica.returning import Returning
from coordinator.replica.sessions import Sessions
from coordinator.replica.slow_models import SlowModels
from coordinator.replica.timers import Timers

_REBUILD_SLICE: Final = 1_000
"""Tasks, or agents and what they hold, looked at between two turns of the event loop when a new leader
rebuilds its queues: one that is silent for long is taken for dead, and so would its successor be."""

_RETRY_S: Final = 0.05
"""After a full queue, the leader's own commands are tried again this much later."""

_HOUSEKEEPING_EVERY: Final = 5
"""Load intervals between two looks at what has outlived its retention."""

_PURGE_AT_ONCE: Final = 200
_GONE: Final = frozenset({AgentState.LOST, AgentState.STOPPED})


class Leader:
    """One term's worth of it, and of defects. `on_push`, then `on_effects` are called for every entry that is
    applied from its making on."""

    def __init__(
        self,
        applier: Applier,
        proposer: Proposer,
        sessions: Sessions,
        placement: Placement,
        clock: Clock,
        defects: Defects,
        *,
        agents: AgentsSection,
        retention: RetentionSection,
        forecast: ForecastSettings,
        slow_models: SlowModels | None,
    ) -> None:
        self._applier = applier
        self._proposer = proposer
        self._sessions = sessions
        self._clock = clock
        self._defects = defects
        self._agents = agents
        self._retention = retention
        self._timers = Timers(clock, self.propose, self._runs, defects)
        self._returning = Returning(
            lambda agent, epoch: self._timers.lose_at(clock.now_ms(), agent, epoch),
            defects,
            grace_s=agents.failover_grace_ms / 1_000,
            limit_s=agents.failover_limit_ms / 1_000,
        )
        self.placement = placement
        self.forecasting = Forecasting(
            lambda: applier.newest,
            applier.load_step,
            lambda: placement.waiting,
            self.propose,
            clock,
            slow_models,
            forecast,
            defects,
        )
        self.forecasting.start()
        self._housekeeping = defects.begin("housekeeping", self._keep_house())
        # What ends unlock is assigned in the entry that records them.
        sessions.on_report = placement.foresee
        proposer.before_entry, proposer.after_entry = placement.before_entry, placement.after_entry
        proposer.ends_are_due = placement.ends_are_due
        placement.on_due = proposer.ask

    @property
    def _state(self) -> State:
        return self._applier.newest

    def on_push(self, effects: Effects) -> None:
        """Tell agents what an applied entry has for them."""
        with self._defects.vital("effects"):
            self._sessions.acknowledge(effects.acked)
            self._sessions.halt(effects.halt)
            self._sessions.dispatch(effects.dispatch)

    def on_effects(self, effects: Effects) -> None:
        """Do whatever else an applied entry asks for."""
        with self._defects.vital("effects"):
            self._carry_out(effects)

    def _carry_out(self, effects: Effects) -> None:
        for due_ms, key in effects.wake_at:
            self._timers.wake_at(due_ms, key)
        for due_ms, key, attempt in effects.expire_at:
            self._timers.expire_at(due_ms, key, attempt)
        for number in effects.sweep:
            self.propose(SweepDag(number))
        for agent_id in dict.fromkeys(effects.sessions):
            self._agent_changed(agent_id)
        self.placement.note(effects)

    def propose(self, command: Command) -> None:
        """Propose a command of the leader's own. What fails is found again by its successor, or retried
        if the queue is full."""
        try:
            self._proposer.submit(command)
        except QueueFull:
            asyncio.get_running_loop().call_later(_RETRY_S, self.propose, command)
        except CoordinatorError:
            return

    async def rebuild(self) -> None:
        """Fill the queues from the state, in slices: commits go on meanwhile."""
        agents = self._state.agents.items()
        self._returning.begin(
            {agent_id: one.record.epoch for agent_id, one in agents if one.record.state not in _GONE}
        )
        self.placement.remember()
        await self._rebuild_agents()
        for number in list(self._state.dags):
            dag = self._state.dags.get(number)
            if dag is not None and dag.record.sweep_from >= 0:
                self.propose(SweepDag(number))
            if dag is not None and dag.record.state is DagState.RUNNING:
                await self._rebuild_dag(dag)

    async def _rebuild_agents(self) -> None:
        some, size = [], 0
        for agent_id, agent in list(self._state.agents.items()):
            some.append(agent_id)
            size += 1 + len(agent.held)
            if size >= _REBUILD_SLICE:
                self.placement.add_agents(some)
                await asyncio.sleep(0)
                some, size = [], 0
        self.placement.add_agents(some)

    async def _rebuild_dag(self, dag: Dag) -> None:
        for start in range(0, len(dag.tasks), _REBUILD_SLICE):
            ready = []
            for task in islice(dag.tasks, start, start + _REBUILD_SLICE):
                if task.state is TaskState.READY:
                    ready.append(task.key)
                elif task.state is TaskState.RUNNING:
                    self._watch_timeouts(task)
                elif task.state is TaskState.PENDING and task.not_before_ms:
                    self._timers.wake_at(task.not_before_ms, task.key)
            self.placement.add_ready(ready)
            if len(dag.tasks) > _REBUILD_SLICE:
                await asyncio.sleep(0)

    def _watch_timeouts(self, task: Task) -> None:
        for attempt in task.live:
            if attempt.started_ms:
                due_ms = attempt.started_ms + task.profile.timeout_ms
                self._timers.expire_at(due_ms, task.key, attempt.number)

    def stop(self) -> None:
        """The term is over."""
        self._timers.stop()
        self._returning.stop()
        self._housekeeping.cancel()
        self.forecasting.stop()
        self.placement.stop()

    def _agent_changed(self, agent_id: str) -> None:
        agent = self._state.agents.get(agent_id)
        if agent is None:
            return
        if agent.record.state is AgentState.DISCONNECTED:
            due = self._clock.now_ms() + self._agents.disconnect_grace_ms
            self._timers.lose_at(due, agent_id, agent.record.epoch)
        elif agent.record.state is AgentState.CONNECTED:
            self._returning.connected(agent_id, agent.record.epoch)
            self._sessions.drained(agent_id, agent.record.drain is not Drain.NONE)

    def _runs(self, key: int, number: int) -> bool:
        task = self._state.task(key)
        attempt = None if task is None else task.live_attempt(number)
        return attempt is not None and attempt.started_ms > 0

    async def _keep_house(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(self._agents.load_interval_ms / 1000)
            turn += 1
            loads = self._sessions.take_loads()
            with self._defects.turn("overload"):
                self.placement.set_loads(loads)
            with self._defects.turn("loads"):
                if loads:
                    self.propose(RecordLoads(loads))
            with self._defects.turn("forecasts"):
                self.forecasting.observe(loads)
                self.placement.expect(self.forecasting.expected())
            if turn % _HOUSEKEEPING_EVERY == 0:
                with self._defects.turn("retention"):
                    for command in self._outlived(self._clock.now_ms()):
                        self.propose(command)

    def _outlived(self, now_ms: int) -> Iterable[Command]:
        finished = self._state.finished
        excess = max(len(finished) - self._retention.finished_dags, 0)
        oldest_kept = now_ms - self._retention.finished_age_s * 1000 if self._retention.finished_age_s else 0
        purge = [
            dag_id
            for at, (dag_id, ended) in enumerate(islice(finished.items(), _PURGE_AT_ONCE))
            if at < excess or ended.finished_ms < oldest_kept
        ]
        if purge:
            yield PurgeDags(purge)
        forgotten = now_ms - self._retention.gone_agents_s * 1000
        gone = [
            (agent_id, agent.record.epoch)
            for agent_id, agent in self._state.agents.items()
            if agent.record.state in _GONE and agent.record.since_ms < forgotten
        ]
        if gone:
            yield ForgetAgents(gone[:_PURGE_AT_ONCE])
        begun = now_ms - self._retention.staged_s * 1000
        for dag in self._state.dags.values():
            if dag.record.state is DagState.STAGING and dag.record.created_ms < begun:
                yield DropStaged(dag.record.header.dag_id, "its submission was broken off")
