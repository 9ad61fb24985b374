"""A task that waits alone, as urgent ones mostly do: nobody comes before it or after it, so that nothing has
to be put in line, counted or booked."""

from __future__ import annotations

from coordinator.core.commands import Choice
from coordinator.core.namespaces import NO_QUOTAS
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.lane import NOWHERE, Lane
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.plans.solver import Plan, PlanLimits
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import TaskClass


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
    profile, owner, task = members.profile, members.owner, members.tasks[0]
    around = Round(snapshot, policy.weights, now_s, {})
    work_s = snapshot.work_s(profile, task.key, task.hint)
    own, prices = snapshot.policy_for(owner, policy), snapshot.prices.renew()
    lane = Lane(profile, own, around, prices, limits.shortlist, work_s)
    arrivals = snapshot.graphs.arrivals(task.key, agents, {})
    previous = agents.rows.get(task.previous, NOWHERE)
    if snapshot.is_brief(profile, task.key, task.hint):
        row = lane.cheapest_open(work_s, arrivals, previous, brief=True)
        placed = row != NOWHERE
    else:
        row = lane.cheapest(work_s, arrivals, previous)
        placed = row != NOWHERE and around.ledger.slot_free.item(row)
    if not placed:
        return None
    choice = Choice(task.key, task.attempt, agents.ids[row], agents.epochs.item(row))
    return Plan([choice], 1, {}, snapshot.turn)


def only_class(snapshot: Snapshot, now_s: float) -> TaskClass | None:
    """The class of all tasks that wait, if nothing is kept from any of them and no place could be made: by
    reservations, quotas, or second attempts."""
    if len(snapshot.waiting.classes) != 1 or snapshot.reserved or snapshot.running.shared():
        return None
    (members,) = snapshot.waiting.classes.values()
    snapshot.shares.advance(now_s)
    quotas = snapshot.shares.account(members.owner.namespace).settings.quotas
    return members if quotas == NO_QUOTAS else None
