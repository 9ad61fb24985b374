"""Many brief tasks that are all alike, and nothing else that waits: as where a large DAG of small tasks is
worked off, or many small ones come. Nobody comes before anybody, and a round is as quick as these are."""

from __future__ import annotations

import numpy as np

from coordinator.core.model import INDEX_BITS, TaskProfile
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.brief import place_brief
from coordinator.scheduling.plans.bulk import MANY
from coordinator.scheduling.plans.crowd import Crowd
from coordinator.scheduling.plans.few import are_few, place_few
from coordinator.scheduling.plans.lane import Lane
from coordinator.scheduling.plans.lone import only_class
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.plans.solver import Plan, PlanLimits
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import TaskClass, WaitingTask


def place_alike(snapshot: Snapshot, limits: PlanLimits, policy: Policy, now_s: float) -> Plan | None:
    """The plan for as many of them as there is room for. None if they are not alike, or there is more to it:
    then a whole round has to find out."""
    waiting = snapshot.waiting
    if min(len(waiting), limits.max_choices) < MANY or waiting.retried or snapshot.graphs.moved:
        return None
    members = only_class(snapshot, now_s)
    if members is None:
        return None
    standing = snapshot.agents.standing()
    room = int((standing.credit - standing.held)[standing.open].sum())
    profile, tasks = members.profile, members.tasks[: min(room, limits.max_choices)]
    work_s = _brief_work_s(snapshot, profile, tasks)
    if work_s is None:
        return None
    own = snapshot.policy_for(members.owner, policy)
    if are_few(snapshot, profile, len(tasks)):
        choices = place_few(snapshot, own, profile, tasks, work_s, now_s)
    else:
        around = Round(snapshot, policy.weights, now_s, {})
        lane = Lane(profile, own, around, snapshot.prices.renew(), limits.shortlist, work_s)
        choices = place_brief(around, lane, _crowd(snapshot, members, tasks, work_s))
    return Plan(choices, len(waiting), {}, snapshot.turn) if choices else None


def _brief_work_s(snapshot: Snapshot, profile: TaskProfile, tasks: list[WaitingTask]) -> float | None:
    """What each of the tasks is expected to take on an agent of speed 1, if that is one and the same, and
    brief. Those of one DAG and hint are asked about once."""
    some_of_each = {(task.key >> INDEX_BITS, task.hint): task for task in tasks}.values()
    found = set[float]()
    for task in some_of_each:
        found.add(snapshot.work_s(profile, task.key, task.hint))
        if len(found) > 1 or not snapshot.is_brief(profile, task.key, task.hint):
            return None
    return found.pop() if found else None


def _crowd(snapshot: Snapshot, members: TaskClass, tasks: list[WaitingTask], work_s: float) -> Crowd:
    many = len(tasks)
    return Crowd(
        snapshot.waiting,
        np.array([members.at]),
        np.zeros(many, np.intp),
        np.array([task.key for task in tasks]),
        np.array([task.attempt for task in tasks]),
        np.full(many, work_s),
        np.ones(many, np.bool_),
    )
