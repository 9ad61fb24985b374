"""Commands about agents: sessions, what they offer, loss, drain, load."""

from __future__ import annotations

from coordinator.core.commands import (
    ChangeAgent,
    CloseSession,
    DrainAgent,
    ForgetAgents,
    KeepLoads,
    LoseAgents,
    OpenSession,
    RecordLoads,
)
from coordinator.core.limits import LOAD_GRIDS, LOAD_STEP_BYTES, LOAD_STEPS
from coordinator.core.model import Agent, AgentState, AttemptOutcome, Drain
from coordinator.core.outcome import AgentChanged, Done, Reply, SessionOpened, Table
from coordinator.core.refusals import not_found, stale_session
from coordinator.core.transaction import Transaction, number_key

_GONE = frozenset({AgentState.LOST, AgentState.STOPPED})


def open_session(tx: Transaction, command: OpenSession) -> Reply:
    """A new session supersedes the one before. Both sides are reconciled: what the agent holds and still
    should is bound to the new session, what it should not it is told to drop, and what it should hold and
    does not goes to others."""
    spec = command.spec
    agent = tx.state.agents.get(spec.agent_id)
    if agent is None:
        agent = tx.add_agent(spec)
    record = agent.record
    if record.drain is Drain.LEAVING and spec.instance_id != record.spec.instance_id:
        record.drain = Drain.NONE
    record.spec = spec
    record.epoch = tx.next_sequence()
    tx.set_agent_state(agent, AgentState.CONNECTED)
    drop = _reconcile(tx, agent, command.held)
    return SessionOpened(record.epoch, drop, record.drain is not Drain.NONE)


def _reconcile(tx: Transaction, agent: Agent, held: list[tuple[int, int]]) -> list[tuple[int, int]]:
    drop: list[tuple[int, int]] = []
    kept: set[int] = set()
    for key, number in held:
        task = tx.state.task(key)
        if task is not None and agent.held.get(key) == number and (attempt := task.live_attempt(number)):
            attempt.epoch = agent.record.epoch
            kept.add(key)
            tx.touch_task(task)
        else:
            drop.append((key, number))
    for key in sorted(agent.held.keys() - kept):
        task = tx.state.task(key)
        assert task is not None
        attempt = task.live_attempt(agent.held[key])
        assert attempt is not None
        reason = "its agent came back without it"
        tx.miss(task, attempt, AttemptOutcome.LOST, reason, retryable=True, halt=False, blamed=True)
    still = set(drop)
    for key, number in [one for one in agent.record.stopping if one not in still]:
        tx.stopped(agent, key, number)
    return drop


def change(tx: Transaction, command: ChangeAgent) -> Reply:
    """The agent says anew what it is: from now on it is placed by that."""
    spec = command.spec
    agent = tx.state.agents.get(spec.agent_id)
    if (
        agent is None
        or agent.record.epoch != command.epoch
        or agent.record.state is not AgentState.CONNECTED
        or agent.record.spec.instance_id != spec.instance_id
    ):
        return stale_session(spec.agent_id, command.epoch, agent.record.epoch if agent else 0)
    agent.record.spec = spec
    tx.touch_agent(agent)
    return AgentChanged(agent.record.state)


def close_session(tx: Transaction, command: CloseSession) -> Reply:
    """The stream has ended: the agent may come back with what it holds, unless it said goodbye."""
    agent = tx.state.agents.get(command.agent)
    if agent is None or agent.record.epoch != command.epoch or agent.record.state is not AgentState.CONNECTED:
        return stale_session(command.agent, command.epoch, agent.record.epoch if agent else 0)
    if command.goodbye:
        tx.strip(agent, "its agent said goodbye", blamed=False)
        tx.set_agent_state(agent, AgentState.STOPPED)
    else:
        tx.set_agent_state(agent, AgentState.DISCONNECTED)
    return AgentChanged(agent.record.state)


def lose(tx: Transaction, command: LoseAgents) -> Reply:
    """Declare agents lost, unless they have opened a new session meanwhile."""
    count = 0
    for name, epoch in command.agents:
        agent = tx.state.agents.get(name)
        if agent is None or agent.record.epoch != epoch or agent.record.state in _GONE:
            continue
        count += 1
        tx.strip(agent, command.reason, blamed=True)
        tx.set_agent_state(agent, AgentState.LOST)
    return Done(count)


def drain(tx: Transaction, command: DrainAgent) -> Reply:
    """Nothing new for the agent, or an end to that."""
    agent = tx.state.agents.get(command.agent)
    if agent is None:
        return not_found("agent", command.agent)
    record = agent.record
    if command.undo:
        record.drain = Drain.NONE
    elif not command.leaving:
        record.drain = Drain.OPERATOR
    elif record.drain is Drain.NONE:
        record.drain = Drain.LEAVING
    tx.touch_agent(agent)
    return AgentChanged(agent.record.state)


def record_loads(tx: Transaction, command: RecordLoads) -> Reply:
    """Keep the latest load of each agent."""
    count = 0
    for name, load in command.loads.items():
        agent = tx.state.agents.get(name)
        if agent is not None:
            agent.load = load
            tx.touch_load(agent)
            count += 1
    return Done(count)


def keep_loads(tx: Transaction, command: KeepLoads) -> Reply:
    """Keep a step of the past in the place of the oldest one. It is not read here: the leader that forecasts
    does that."""
    if not 0 <= command.grid < LOAD_GRIDS or len(command.packed) > LOAD_STEP_BYTES:
        return Done(0)
    slot = command.number % LOAD_STEPS
    tx.write(Table.LOAD_STEP, number_key(command.grid * LOAD_STEPS + slot), command.packed)
    return Done(1)


def forget(tx: Transaction, command: ForgetAgents) -> Reply:
    """Remove agents that have been gone for long."""
    gone: dict[str, Agent] = {}
    for name, epoch in command.agents:
        agent = tx.state.agents.get(name)
        if agent is not None and agent.record.epoch == epoch and agent.record.state in _GONE:
            gone[name] = agent
    tx.remove_agents(gone.values())
    return Done(len(gone))
