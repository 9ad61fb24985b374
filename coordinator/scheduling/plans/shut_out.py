"""Classes of tasks that a round does not look at, since nobody who is free could take them."""

from __future__ import annotations

import numpy as np

from coordinator.scheduling.agents.feasibility import used_up
from coordinator.scheduling.agents.reserved import RESERVED
from coordinator.scheduling.agents.rows import BoolRow
from coordinator.scheduling.plans.bounded import Bounded
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.tasks.waiting import TaskClass


def not_shut_out(around: Round, classes: list[TaskClass]) -> tuple[list[TaskClass], dict[str, int]]:
    """Without those that nobody who is free could take, whatever they last: all is kept for others, or there
    is no more of what they use. Of these the number of tasks, by reason."""
    snapshot, ledger = around.snapshot, around.ledger
    reserved, waiting = snapshot.reserved, snapshot.waiting
    bounded = Bounded(ledger, waiting.sharing(np.arange(len(waiting.by_row)))).uses
    if not reserved and not bounded:
        return classes, {}
    free = around.open & (ledger.slot_free | ledger.queue_free(0.0))
    if not free.any():
        return classes, {}
    names = {members.owner.namespace for members in classes} if reserved else set[str]()
    shut = {name for name in names if _keeps_off(around, name, free)}
    used = {use for uses in bounded.values() for use in uses}
    none_left = {use for use in used if (ledger.places(use)[free] < 1).all()}
    left, unplaced = list[TaskClass](), dict[str, int]()
    for members in classes:
        lacking = next((use for use in bounded.get(members.at, ()) if use in none_left), None)
        if members.owner.namespace in shut:
            unplaced[RESERVED] = unplaced.get(RESERVED, 0) + len(members.tasks)
        elif lacking is not None:
            reason = used_up(lacking)
            unplaced[reason] = unplaced.get(reason, 0) + len(members.tasks)
        else:
            left.append(members)
    return left, unplaced


def _keeps_off(around: Round, namespace: str, free: BoolRow) -> bool:
    bounds = around.snapshot.reserved.bounds(namespace, around.now_s)
    return bounds is not None and not (free & (around.ledger.held < bounds.now.most)).any()
