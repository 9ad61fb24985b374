"""Attempts that stand in the queue of one agent while another is idle: they go to where they are expected to
end much sooner.

Placement binds late, so queues hold brief tasks, and those whose inputs are still on their way. But a task
may turn out not to be brief at all, and whatever stands behind it waits. Only brief ones move: what lasts was
given where it should end soonest, and a recorded workflow whose durations were not known took up to twice as
long where it was taken away again. The last in a queue is taken, as in work stealing (Blumofe and Leiserson,
JACM 46(5), 1999, section 3); but it is the leader that takes it, which knows how fast the agents are, and it
takes nothing that is about to begin: an agent that has begun meanwhile would do the work twice."""

from __future__ import annotations

from typing import Final, NamedTuple

from coordinator.core.commands import Choice, Move
from coordinator.core.model import Task
from coordinator.scheduling.agents.reserved import Barrier
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.lane import NOWHERE, Lane
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.running import Live

LEAST_GAIN_S: Final = 0.2
"""An attempt is left where it is for less."""

_LEAST_GAIN: Final = 0.5
"""And for less of what it would take elsewhere."""

_MOVES_AT_ONCE: Final = 64


class _Last(NamedTuple):
    """The last attempt in the queue of an agent, and in how many seconds it should have ended there."""

    task: Task
    live: Live
    ends_s: float


def find_moves(snapshot: Snapshot, policy: Policy, shortlist: int, now_s: float) -> list[Move]:
    """Moves to agents with a free slot, at most one from each queue: those first that gain most. The same
    snapshot at the same time gives the same moves."""
    queued = _queued(snapshot, now_s)
    if not queued:
        return []
    around = Round(snapshot, policy.weights, now_s, {})
    prices, agents = snapshot.prices.renew(), snapshot.agents
    moves: list[Move] = []
    for last in queued:
        if not around.free or len(moves) == _MOVES_AT_ONCE:
            break
        task = last.task
        lane = Lane(task.profile, policy, around, prices, shortlist, barrier=_barrier(around, task))
        row = _better(around, lane, last)
        if row != NOWHERE:
            choice = Choice(task.key, task.attempt + 1, agents.ids[row], agents.epochs.item(row))
            moves.append(Move(task.attempt, choice))
    return moves


def _queued(snapshot: Snapshot, now_s: float) -> list[_Last]:
    """Of every agent that has a queue and does not come to its end soon, the last attempt in it that is the
    only one of its task."""
    agents = snapshot.agents
    size = agents.size
    behind = agents.held[:size] > agents.slots[:size]
    if not behind.any():
        return []
    waits = snapshot.running.waits(now_s)
    found = []
    for row in (behind & (waits > LEAST_GAIN_S)).nonzero()[0].tolist():
        for key, number in reversed(agents.held_attempts[row]):
            live, graph = snapshot.running.get(key, number), snapshot.graphs.of(key)
            if live is None or live.began_s is not None or graph is None:
                continue
            task = graph.task(key)
            if not snapshot.is_brief(task.profile, key, task.hint):
                continue
            if [one.number for one in task.live] == [number] == [task.attempt]:
                found.append(_Last(task, live, waits.item(row)))
                break
    found.sort(key=lambda last: (-last.ends_s, last.task.key))
    return found


def _barrier(around: Round, task: Task) -> Barrier | None:
    graph = around.snapshot.graphs.of(task.key)
    assert graph is not None
    return around.barrier(graph.owner, task.profile, task.key, task.hint)


def _better(around: Round, lane: Lane, last: _Last) -> int:
    """The agent with a free slot where the attempt costs least, booked in the round, if it ends there soon
    enough to be worth it. Else NOWHERE."""
    snapshot, task = around.snapshot, last.task
    work_s = snapshot.work_s(task.profile, task.key, task.hint)
    arrivals = snapshot.graphs.arrivals(task.key, snapshot.agents, {})
    row = lane.cheapest_open(work_s, arrivals, last.live.row, brief=False)
    if row == NOWHERE:
        return NOWHERE
    arrive_s, seconds = arrivals.at(row), work_s * lane.inverse_speed.item(row)
    there_s = arrive_s + seconds
    if last.ends_s - there_s < max(LEAST_GAIN_S, _LEAST_GAIN * there_s):
        return NOWHERE
    around.give(row, lane.demand, seconds, arrive_s)
    return row
