"""What is known of each group of agents as a whole: the view of the global layer (E4)."""

from __future__ import annotations

import msgspec
import numpy as np

from coordinator.core.model import Resources
from coordinator.scheduling.agents.ledger import Ledger
from coordinator.scheduling.agents.rows import RESOURCE_FIELDS, FloatRow
from coordinator.scheduling.snapshot import Snapshot


class GroupSummary(msgspec.Struct, frozen=True):
    """A group of `agents` with so many slots, attempts held, and seconds of work expected of these. `load` is
    the mean of their loads. The rest is of those that are `accepting` new tasks: slots that are free, the
    least seconds until one is (None if nobody accepts), the greatest speed, the least power of a busy slot
    (0: nobody says), and of each resource the most that one of them has free."""

    name: str
    agents: int
    accepting: int
    slots: int
    held: int
    held_s: float
    load: float
    free_slots: int
    wait_s: float | None
    speed: float
    busy_watts: float
    free: Resources


def summaries(snapshot: Snapshot, loads: FloatRow, now_s: float) -> list[GroupSummary]:
    """Of all groups by name. `loads` are by row, from 0 to 1."""
    groups, agents = snapshot.groups.renew(), snapshot.agents
    if not len(groups):
        return []
    ledger = Ledger(agents, snapshot.look_ahead)
    size, accepting = agents.size, ledger.accepting
    places = np.where(ledger.slot_free, np.minimum(ledger.slots, ledger.credit) - ledger.held, 0)
    watts = agents.busy_watts[:size]
    least_s = groups.least(np.where(accepting, snapshot.running.waits(now_s), np.inf))
    least_watts = groups.least(np.where(accepting & (watts > 0), watts, np.inf))
    free = [
        groups.most(np.where(accepting, np.maximum(ledger.free[:, column], 0), 0)).tolist()
        for column in range(len(RESOURCE_FIELDS))
    ]
    columns = zip(
        groups.names,
        groups.sizes.tolist(),
        groups.total(accepting.astype(np.int64)).tolist(),
        groups.total(ledger.slots).tolist(),
        groups.total(ledger.held).tolist(),
        groups.total(ledger.held_s).tolist(),
        (groups.total(loads) / groups.sizes).tolist(),
        groups.total(places).tolist(),
        [seconds if seconds < np.inf else None for seconds in least_s.tolist()],
        groups.most(np.where(accepting, agents.speed[:size], 0.0)).tolist(),
        [value if value < np.inf else 0.0 for value in least_watts.tolist()],
        [Resources(*amounts) for amounts in zip(*free, strict=True)],
        strict=True,
    )
    return sorted((GroupSummary(*values) for values in columns), key=lambda one: one.name)
