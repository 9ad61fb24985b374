"""A task that waits alone, as urgent ones mostly do: nobody comes before it or after it, so that nothing has
to be put in line, counted or booked."""

from __future__ import annotations

import numpy as np

from coordinator.core.commands import Choice
from coordinator.core.model import TaskProfile
from coordinator.core.namespaces import NO_QUOTAS
from coordinator.scheduling.agents.feasibility import fitting
from coordinator.scheduling.agents.rows import FloatRow
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.lane import NOWHERE, Lane
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.plans.solver import Plan, PlanLimits
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.graphs import AT_ONCE, Arrivals
from coordinator.scheduling.tasks.waiting import TaskClass, WaitingTask


def place_lone(snapshot: Snapshot, limits: PlanLimits, policy: Policy, now_s: float) -> Plan | None:
    """The plan for the only task that waits, if there is no more to it than that the agent where it costs
    least has a free slot or, of those that have one or room in their queue, for a brief task. None if there
    is: then a whole round has to find out."""
    agents = snapshot.agents
    if not (agents.rows and limits.max_choices and policy.foresight):
        return None
    members = None if snapshot.foreseen.tasks() else only_class(snapshot, now_s)
    if members is None:
        return None
    profile, task = members.profile, members.tasks[0]
    own = snapshot.policy_for(members.owner, policy)
    arrivals = snapshot.graphs.arrivals(task.key, agents, {})
    previous = agents.rows.get(task.previous, NOWHERE)
    somewhere = arrivals is AT_ONCE and previous == NOWHERE
    if somewhere and not agents.standing().many_full and not fitting(profile, agents):
        row = _among_free(snapshot, own, profile, task)
    else:
        around = Round(snapshot, policy.weights, now_s, {})
        row = _among_all(around, own, limits.shortlist, profile, task, arrivals, previous)
    if row == NOWHERE:
        return None
    choice = Choice(task.key, task.attempt, agents.ids[row], agents.epochs.item(row))
    return Plan([choice], 1, {}, snapshot.turn)


def _among_free(snapshot: Snapshot, policy: Policy, profile: TaskProfile, task: WaitingTask) -> int:
    """Where the task costs least, while all agents have a free slot: nobody has to be waited for, and nothing
    has to be booked."""
    work_s = snapshot.work_s(profile, task.key, task.hint)
    standing = snapshot.agents.standing()
    _, price = snapshot.prices.renew().of_class(policy, profile, work_s)
    costs: FloatRow = price * work_s
    costs += standing.work_s(policy.weights.balance)
    setup_s = snapshot.affinity.setup_s(profile)
    if setup_s is not None:
        costs += policy.weights.time * setup_s
    if snapshot.is_brief(profile, task.key, task.hint):
        costs[~standing.slot_free] = np.inf
    row = int(costs.argmin())
    return row if costs.item(row) < np.inf and standing.slot_free.item(row) else NOWHERE


def _among_all(
    around: Round,
    policy: Policy,
    shortlist: int,
    profile: TaskProfile,
    task: WaitingTask,
    arrivals: Arrivals,
    previous: int,
) -> int:
    """The same, whoever is busy, whatever it has to wait for, and whoever it failed on."""
    snapshot = around.snapshot
    work_s = snapshot.work_s(profile, task.key, task.hint)
    lane = Lane(profile, policy, around, snapshot.prices.renew(), shortlist, work_s)
    if snapshot.is_brief(profile, task.key, task.hint):
        return lane.cheapest_open(work_s, arrivals, previous, brief=True)
    row = lane.cheapest(work_s, arrivals, previous)
    return row if row != NOWHERE and around.ledger.slot_free.item(row) else NOWHERE


def only_class(snapshot: Snapshot, now_s: float) -> TaskClass | None:
    """The class of all tasks that wait, if nothing is kept from any of them and no place could be made: by
    reservations, quotas, or second attempts."""
    if len(snapshot.waiting.classes) != 1 or snapshot.reserved or snapshot.running.shared():
        return None
    (members,) = snapshot.waiting.classes.values()
    snapshot.shares.advance(now_s)
    quotas = snapshot.shares.account(members.owner.namespace).settings.quotas
    return members if quotas == NO_QUOTAS else None
