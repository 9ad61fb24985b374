"""What a scheduler may do beyond first assignments, at random: second attempts, recalls, preemptions."""

from __future__ import annotations

import random

from coordinator.core.commands import Assign, Choice, Command, Move, Preempt, Recall
from coordinator.core.lifecycle import HELD
from coordinator.core.model import AgentState
from coordinator.core.state import State

_REASON = "moved at random"


def draw_move(state: State, rng: random.Random) -> Command | None:
    """A move of something that an agent holds, whether it is possible or not; None if there is nothing."""
    held = [task for dag in state.dags.values() for task in dag.tasks if task.state in HELD]
    agents = [one.record for one in state.agents.values() if one.record.state is AgentState.CONNECTED]
    if not held or not agents:
        return None
    task, agent = rng.choice(held), rng.choice(agents)
    attempt = rng.choice(task.live).number
    what = rng.random()
    if what < 1 / 3:
        return Preempt([(task.key, attempt)], _REASON)
    rival = what < 2 / 3
    choice = Choice(task.key, task.attempt + 1, agent.spec.agent_id, agent.epoch, rival)
    return Assign([choice]) if rival else Recall([Move(attempt, choice)], _REASON)
