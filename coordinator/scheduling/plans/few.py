"""Brief tasks that are all alike, a few of them, among a few agents: one agent after the other, in less time
than the calls take that look at all of many agents at once."""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace
from math import floor, inf
from typing import Final, NamedTuple

from coordinator.core.commands import Choice
from coordinator.core.model import TaskProfile
from coordinator.scheduling.agents.feasibility import fitting
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.brief import INSTANT_S
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import WaitingTask

MOST_AGENTS: Final = 8
MOST_TASKS: Final = 64


class _Next(NamedTuple):
    """The next place on an agent, and what it costs: the `taken`-th of `room`, the first of which costs
    `first` and each further one `step` more."""

    cost: float
    row: int
    taken: int
    room: int
    first: float
    step: float


def are_few(snapshot: Snapshot, profile: TaskProfile, tasks: int) -> bool:
    """Whether `place_few` will do: there are few agents, so many tasks of this profile are few, and nothing
    but slots and queues bounds how many of them an agent may have."""
    agents = snapshot.agents
    return tasks <= MOST_TASKS and agents.size <= MOST_AGENTS and not fitting(profile, agents)


def place_few(
    snapshot: Snapshot,
    policy: Policy,
    profile: TaskProfile,
    tasks: list[WaitingTask],
    work_s: float,
    now_s: float,
) -> list[Choice]:
    """As `place_brief` has it, for tasks of so many seconds at speed 1: each goes to where it costs least,
    while there is room."""
    places = _places(snapshot, policy, profile, work_s, now_s)
    heapify(places)
    ids, epochs = snapshot.agents.ids, snapshot.agents.epochs
    choices: list[Choice] = []
    for task in tasks:
        if not places:
            break
        _, row, taken, room, first, step = places[0]
        choices.append(Choice(task.key, task.attempt, ids[row], epochs.item(row)))
        taken += 1
        if taken < room:
            heapreplace(places, _Next(first + taken * step, row, taken, room, first, step))
        else:
            heappop(places)
    return choices


def _places(
    snapshot: Snapshot, policy: Policy, profile: TaskProfile, work_s: float, now_s: float
) -> list[_Next]:
    """The first place on each agent that has one."""
    agents, time = snapshot.agents, policy.weights.time
    standing, waits = agents.standing(), snapshot.running.waits(now_s)
    inverse_speed, price = snapshot.prices.renew().of_class(policy, profile, work_s)
    balance, setup_s = standing.work_s(policy.weights.balance), snapshot.affinity.setup_s(profile)
    places = []
    for row in range(agents.size):
        cost = price.item(row) * work_s + (time * waits.item(row) + balance.item(row))
        if setup_s is not None:
            cost += time * setup_s.item(row)
        if cost == inf or not standing.open.item(row):
            continue
        seconds = work_s * inverse_speed.item(row)
        room = _room(snapshot, row, max(seconds, INSTANT_S))
        if room > 0:
            step = max(seconds / standing.slots.item(row), INSTANT_S)
            places.append(_Next(cost, row, 0, room, cost, step))
    return places


def _room(snapshot: Snapshot, row: int, seconds: float) -> int:
    """For how many brief tasks of so many seconds the agent has room, in slots and queue."""
    standing, bound = snapshot.agents.standing(), snapshot.look_ahead
    slots, held = standing.slots.item(row), standing.held.item(row)
    in_time = floor((bound.seconds * slots - standing.held_s.item(row)) / seconds)
    in_queue = min(bound.least, bound.most) - max(held - slots, 0)
    room: int = max(max(slots - held, 0) + max(in_queue, 0), in_time)
    return min(room, slots + bound.most - held, standing.credit.item(row) - held)
