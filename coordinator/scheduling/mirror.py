"""Keeps a snapshot current with the replicated state, by the effects of each entry that is applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Final

from coordinator.core.kinds import kind_of
from coordinator.core.model import (
    INDEX_BITS,
    INDEX_MASK,
    Agent,
    AgentLoad,
    AgentState,
    Dag,
    DagState,
    Drain,
    FamilyNeeds,
    Requirements,
    Task,
    TaskProfile,
    TaskState,
)
from coordinator.core.outcome import Effects
from coordinator.core.state import State
from coordinator.scheduling.load.overload import Overload
from coordinator.scheduling.load.settings import LoadSettings
from coordinator.scheduling.past import remember
from coordinator.scheduling.snapshot import Snapshot

GONE: Final = frozenset({AgentState.LOST, AgentState.STOPPED})
_REFUSING: Final = {
    AgentState.DISCONNECTED: "disconnected",
    AgentState.LOST: "lost",
    AgentState.STOPPED: "stopped",
}


class Mirror:
    """`opened_after` is the epoch beyond which sessions have been opened in this term. `proposed` are the
    choices (agent, key, attempt) that are counted as carried out and not applied yet."""

    def __init__(
        self,
        state: Callable[[], State],
        snapshot: Snapshot,
        *,
        opened_after: int = 0,
        load: LoadSettings | None = None,
    ) -> None:
        self._state = state
        self._opened_after = opened_after
        self.snapshot = snapshot
        self.overload = Overload(snapshot.agents, snapshot.measured, load or LoadSettings())
        self.proposed: set[tuple[str, int, int]] = set()
        for name, settings in state().namespaces.settings.items():
            snapshot.shares.set(name, settings)
        if state().reservations:
            snapshot.reserve(state().reservations.values())

    def remember(self) -> None:
        """Take over all that the state knows of ends, before any other call: what follows goes on top."""
        state = self._state()
        for agent in state.agents.values():
            self.snapshot.agents.put(agent.record.spec, agent.record.epoch, self._refusing(agent))
        remember(state.history, self.snapshot)

    def note(self, effects: Effects, now_s: float) -> None:
        """Take over what an applied entry has changed, except for which tasks are ready."""
        snapshot = self.snapshot
        snapshot.shares.advance(now_s)
        for name in effects.namespaces:
            snapshot.shares.set(name, self._state().namespaces.settings.get(name))
        if effects.reservations:
            snapshot.reserve(self._state().reservations.values())
        for key in effects.added:
            snapshot.added(self._dag(key), key & INDEX_MASK)
        self._learn(effects)
        completed = {(key, attempt) for key, attempt, _, _ in effects.ended}
        for given in effects.dispatch:
            if given in self.proposed:
                self.proposed.discard(given)
            else:
                self.hold(*given, now_s)
        for due_ms, key, attempt in effects.expire_at:
            if snapshot.running.holds(key) and (task := self._known(key)) is not None:
                snapshot.begin(key, attempt, (due_ms - task.profile.timeout_ms) / 1_000)
        for agent_id, key, attempt in effects.acked:
            # An agent may have told the end of what it has been given since.
            if not self._holds(agent_id, key, attempt):
                snapshot.release(agent_id, key, attempt, completed=(key, attempt) in completed)
        for agent_id in dict.fromkeys(effects.sessions):
            self.sync_agent(agent_id, now_s)
        for number in effects.gone:
            snapshot.forget_dag(number)

    def ready(self, keys: Iterable[int]) -> None:
        """These tasks may have to be placed."""
        for number, of_dag in groupby(keys, lambda key: key >> INDEX_BITS):
            dag = self._state().dags.get(number)
            if dag is not None:
                known = (dag.tasks[key & INDEX_MASK] for key in of_dag)
                self.snapshot.ready(dag, filter(self.placeable, known))

    def completes(self, agent_id: str, key: int, attempt: int) -> None:
        """The end of this attempt has been proposed: nobody needs to wait for its commit to use the room."""
        self.snapshot.release(agent_id, key, attempt, completed=True)

    def foreseen(self, keys: Iterable[int], now_ms: int) -> None:
        """These tasks will be ready by what has been proposed."""
        for number, of_dag in groupby(keys, lambda key: key >> INDEX_BITS):
            dag = self._state().dags[number]
            self.snapshot.ready(dag, [dag.tasks[key & INDEX_MASK] for key in of_dag], now_ms)

    def unready(self, keys: Iterable[int]) -> None:
        """What was foreseen of these has been applied or refused: those that are not ready wait no more."""
        waiting = self.snapshot.waiting
        known = [(key, self._state().task(key)) for key in keys if key in waiting]
        waiting.discard([key for key, task in known if task is None or not self.placeable(task)])

    def placeable(self, task: Task) -> bool:
        """Whether the task waits for an agent, and its DAG goes on."""
        record = self._dag(task.key).record
        return task.state is TaskState.READY and record.state is DagState.RUNNING and record.ending is None

    def sync_agent(self, agent_id: str, now_s: float) -> None:
        """Look at the agent anew."""
        agent = self._state().agents.get(agent_id)
        agents = self.snapshot.agents
        if agent is None or agent.record.state in GONE:
            self.overload.forget(agent_id)
        known_as = agents.specs[agents.rows[agent_id]] if agent_id in agents.rows else None
        if known_as is not None and (agent is None or agent.record.spec != known_as):
            self.snapshot.departed.add(known_as, now_s)
        if agent is None:
            self.snapshot.remove_agent(agent_id)
            return
        record = agent.record
        agents.put(record.spec, record.epoch, self._refusing(agent))
        held = set(agent.held.items()) | record.stopping.keys()
        known = set(agents.held_attempts[agents.rows[agent_id]])
        for key, attempt in known - held:
            if (agent_id, key, attempt) not in self.proposed:
                self.snapshot.release(agent_id, key, attempt)
        for key, attempt in held - known:
            if self._state().task(key) is not None:
                self.hold(agent_id, key, attempt, now_s)
            elif (taken := record.stopping.get((key, attempt))) is not None:
                # Of a DAG that is gone: nothing but what it takes is known.
                needs = FamilyNeeds(tool=taken.tool, model=taken.model)
                profile = TaskProfile("", requirements=Requirements(resources=taken.resources, needs=needs))
                self.snapshot.hold(agent_id, key, attempt, profile, 0, now_s)

    def record_load(self, agent_id: str, load: AgentLoad) -> None:
        """What the agent has measured."""
        self.snapshot.agents.set_load(agent_id, load)
        self.overload.record(agent_id, load)

    def judge_loads(self) -> bool:
        """Mark who is overloaded, and those who have recovered not; returns whether any mark may have
        changed."""
        touched = self.overload.judge()
        for agent_id in touched:
            agent = self._state().agents.get(agent_id)
            if agent is not None:
                self.snapshot.agents.put(agent.record.spec, agent.record.epoch, self._refusing(agent))
        return bool(touched)

    def hold(self, agent_id: str, key: int, attempt: int, now_s: float) -> None:
        """The agent has been given this attempt."""
        task = self._state().task(key)
        if task is not None:
            self.snapshot.graphs.add(self._dag(key))
            self.snapshot.hold(agent_id, key, attempt, task.profile, task.hint, now_s)
            live = task.live_attempt(attempt)
            if live is not None and live.started_ms:
                self.snapshot.begin(key, attempt, live.started_ms / 1_000)

    def hold_expected(self, agent_id: str, key: int, attempt: int, now_s: float) -> None:
        """The agent will have been given this attempt, of a task that the snapshot knows and the state does
        not yet."""
        graph = self.snapshot.graphs.of(key)
        if graph is not None:
            task = graph.task(key)
            self.snapshot.hold(agent_id, key, attempt, task.profile, task.hint, now_s)

    def take_back(self, agent_id: str, key: int, attempt: int) -> None:
        """What was proposed has been refused, unless it is held."""
        if not self._holds(agent_id, key, attempt):
            self.proposed.discard((agent_id, key, attempt))
            self.snapshot.release(agent_id, key, attempt)

    def _holds(self, agent_id: str, key: int, attempt: int) -> bool:
        agent = self._state().agents.get(agent_id)
        return agent is not None and agent.held.get(key) == attempt

    def _learn(self, effects: Effects) -> None:
        estimates, running = self.snapshot.estimates, self.snapshot.running
        for key, attempt, agent_id, duration_us in effects.ended:
            self.snapshot.races.ended(attempt, running.attempts(key))
            task = self._known(key)
            if task is not None:
                kind, dag = kind_of(task.profile, task.hint), key >> INDEX_BITS
                estimates.observe(kind, dag, agent_id, duration_us / 1e6, task.hint)
        for key, agent_id in effects.failed:
            task = self._known(key)
            if task is not None:
                estimates.failed(kind_of(task.profile, task.hint), agent_id)

    def _known(self, key: int) -> Task | None:
        """The task, also of a DAG that has just left the state."""
        graph = self.snapshot.graphs.of(key)
        return graph.task(key) if graph is not None else self._state().task(key)

    def _dag(self, key: int) -> Dag:
        return self._state().dags[key >> INDEX_BITS]

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
        return self.overload.refusing(record.spec.agent_id)
