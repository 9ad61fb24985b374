"""The placement loop: keeps the scheduler's snapshot current with what is applied, and proposes its plans.

A plan is counted as carried out as soon as it is proposed, so that the next round need not wait for its
commit; what `apply` then refuses is taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from coordinator.core.commands import Assign, Choice, Command
from coordinator.core.model import (
    INDEX_BITS,
    Agent,
    AgentLoad,
    AgentState,
    DagState,
    Drain,
    State,
    Task,
    TaskState,
)
from coordinator.core.outcome import Done, Effects, Reply
from coordinator.errors import CoordinatorError, QueueFull
from coordinator.scheduling.explain import Explanation, explain
from coordinator.scheduling.load_settings import LoadSettings
from coordinator.scheduling.lookahead import LookAhead
from coordinator.scheduling.overload import LoadView, Overload
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.solver import PlanLimits, plan
from coordinator.scheduling.waiting import WaitingTask

_ROUNDS_IN_FLIGHT: Final = 4
_LIMITS: Final = PlanLimits(max_choices=2_000)
"""An entry must not hold up those behind it."""

_RETRY_S: Final = 0.02
_GONE: Final = frozenset({AgentState.LOST, AgentState.STOPPED})
_REFUSING: Final = {
    AgentState.DISCONNECTED: "disconnected",
    AgentState.LOST: "lost",
    AgentState.STOPPED: "stopped",
}


class Placement:
    """The leader's, for one term. `submit` proposes a command and gives its reply; `opened_after` is the
    epoch beyond which sessions have been opened in this term."""

    def __init__(
        self,
        state: Callable[[], State],
        submit: Callable[[Command], asyncio.Future[Reply]],
        *,
        look_ahead_ms: int,
        opened_after: int,
        load: LoadSettings | None = None,
    ) -> None:
        self._state = state
        self._submit = submit
        self._opened_after = opened_after
        self._snapshot = Snapshot(LookAhead(seconds=look_ahead_ms / 1000))
        self._overload = Overload(self._snapshot.agents, self._snapshot.measured, load or LoadSettings())
        self._rounds = 0
        self._proposed: set[tuple[str, int, int]] = set()
        """Choices (agent, key, attempt) that are not applied yet."""
        self._scheduled = False
        self._stopped = False

    def note(self, effects: Effects) -> None:
        """Take over what an applied entry has changed."""
        agents = self._snapshot.agents
        for task_type, _, duration_us in effects.ended:
            self._snapshot.durations.observe(task_type, duration_us / 1e6)
        for given in effects.dispatch:
            if given not in self._proposed:
                self._hold(*given)
        for agent_id, key, attempt in effects.acked:
            agents.release(agent_id, key, attempt)
        for agent_id in dict.fromkeys(effects.sessions):
            self._sync_agent(agent_id)
        self.add_ready(effects.ready)

    def add_agents(self, agent_ids: Iterable[str]) -> None:
        """Look at these agents anew, and at the load that the leader before has recorded of them."""
        for agent_id in agent_ids:
            self._sync_agent(agent_id)
            agent = self._state().agents.get(agent_id)
            if agent is not None and agent.record.state not in _GONE and agent.load != AgentLoad():
                self._record_load(agent_id, agent.load)
        self._judge_loads()
        self._schedule()

    def add_ready(self, keys: Iterable[int]) -> None:
        """These tasks may have to be placed."""
        for key in keys:
            task = self._state().task(key)
            if task is not None and self._placeable(task):
                self._snapshot.waiting.add(task.profile, _waiting(task))
        self._schedule()

    def set_loads(self, loads: Mapping[str, AgentLoad]) -> None:
        """What agents have measured since the last call, perhaps nothing: who is overloaded now takes nothing
        new, who has recovered does."""
        for agent_id, load in loads.items():
            self._record_load(agent_id, load)
        if self._judge_loads():
            self._schedule()

    def load_of(self, agent_id: str) -> LoadView:
        """How loaded the agent is."""
        return self._overload.view(agent_id)

    @property
    def waiting(self) -> int:
        """Tasks that wait for an agent."""
        return len(self._snapshot.waiting)

    def explain(self, task: Task) -> Explanation | None:
        """Why the task waits for an agent; None if it does not."""
        if task.state is not TaskState.READY:
            return None
        return explain(task.profile, self._snapshot, task.expected_ms)

    def stop(self) -> None:
        """The term is over."""
        self._stopped = True

    def _placeable(self, task: Task) -> bool:
        record = self._state().dags[task.key >> INDEX_BITS].record
        return task.state is TaskState.READY and record.state is DagState.RUNNING and record.ending is None

    def _record_load(self, agent_id: str, load: AgentLoad) -> None:
        self._snapshot.agents.set_load(agent_id, load)
        self._overload.record(agent_id, load)

    def _judge_loads(self) -> bool:
        """Whether anybody's mark may have changed."""
        touched = self._overload.judge()
        for agent_id in touched:
            agent = self._state().agents.get(agent_id)
            if agent is not None:
                self._snapshot.agents.put(agent.record.spec, agent.record.epoch, self._refusing(agent))
        return bool(touched)

    def _sync_agent(self, agent_id: str) -> None:
        agent = self._state().agents.get(agent_id)
        agents = self._snapshot.agents
        if agent is None or agent.record.state in _GONE:
            self._overload.forget(agent_id)
        if agent is None:
            agents.remove(agent_id)
            return
        record = agent.record
        agents.put(record.spec, record.epoch, self._refusing(agent))
        held = set(agent.held.items()) | record.stopping.keys()
        known = set(agents.held_attempts[agents.rows[agent_id]])
        for key, attempt in known - held:
            if (agent_id, key, attempt) not in self._proposed:
                agents.release(agent_id, key, attempt)
        for key, attempt in held - known:
            self._hold(agent_id, key, attempt)

    def _refusing(self, agent: Agent) -> str:
        """Why the agent takes nothing new, "" if it does."""
        record = agent.record
        if record.state is not AgentState.CONNECTED:
            return _REFUSING[record.state]
        if record.epoch <= self._opened_after:
            # It is on its way from the leader before. What it were given now it could not say that it
            # holds, and would lose again as soon as it is here.
            return "not back since the leader changed"
        if record.drain is not Drain.NONE:
            return "draining"
        return self._overload.refusing(record.spec.agent_id)

    def _hold(self, agent_id: str, key: int, attempt: int) -> None:
        task = self._state().task(key)
        if task is not None:
            seconds = self._snapshot.durations.expected_s(task.profile.type, task.expected_ms)
            self._snapshot.agents.hold(agent_id, key, attempt, task.profile, seconds)

    def _schedule(self) -> None:
        if not (self._scheduled or self._stopped) and len(self._snapshot.waiting):
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        self._scheduled = False
        if self._stopped or self._rounds >= _ROUNDS_IN_FLIGHT:
            return
        made = plan(self._snapshot, _LIMITS)
        self._snapshot.turn = made.turn
        self._snapshot.waiting.discard([choice.key for choice in made.choices])
        # Cancelled tasks stay among the waiting until they are chosen.
        choices = [choice for choice in made.choices if self._still_wanted(choice)]
        if choices:
            self._propose(choices)
        if made.choices:
            self._schedule()

    def _still_wanted(self, choice: Choice) -> bool:
        task = self._state().task(choice.key)
        return task is not None and self._placeable(task) and task.attempt + 1 == choice.attempt

    def _propose(self, choices: list[Choice]) -> None:
        try:
            reply = self._submit(Assign(choices))
        except QueueFull:
            self.add_ready([choice.key for choice in choices])
            asyncio.get_running_loop().call_later(_RETRY_S, self._schedule)
            return
        for choice in choices:
            self._proposed.add((choice.agent, choice.key, choice.attempt))
            self._hold(choice.agent, choice.key, choice.attempt)
        self._rounds += 1
        reply.add_done_callback(lambda done: self._settled(choices, done))

    def _settled(self, choices: list[Choice], reply: asyncio.Future[Reply]) -> None:
        """The round has been applied: take back what was refused."""
        self._rounds -= 1
        self._proposed.difference_update((choice.agent, choice.key, choice.attempt) for choice in choices)
        if self._stopped or reply.cancelled() or isinstance(reply.exception(), CoordinatorError):
            return
        outcome = reply.result()
        if not isinstance(outcome, Done) or outcome.count < len(choices):
            for choice in choices:
                self._take_back(choice)
        self._schedule()

    def _take_back(self, choice: Choice) -> None:
        agent = self._state().agents.get(choice.agent)
        if agent is None or agent.held.get(choice.key) != choice.attempt:
            self._snapshot.agents.release(choice.agent, choice.key, choice.attempt)


def _waiting(task: Task) -> WaitingTask:
    previous = task.attempts[-1].agent if task.attempts else ""
    return WaitingTask(task.ready_ms, task.key, task.attempt + 1, previous, task.expected_ms)
