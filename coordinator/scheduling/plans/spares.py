"""Second attempts that are not needed: whose agents may have other work at any time."""

from __future__ import annotations

from coordinator.scheduling.plans.round import Spare
from coordinator.scheduling.snapshot import Snapshot


def find_spares(snapshot: Snapshot, now_s: float) -> dict[int, Spare]:
    """By the row of their agent, attempts beside which a better one of the same task goes on elsewhere.

    Of two that are left to go on for `b` and `s` seconds, the second is worth about half of `b` b / (b + s):
    a quarter of `b` where they are equal, nothing where it is far behind. Where there is room beside it, or
    none before it has stopped, its place is worth nothing."""
    agents, running = snapshot.agents, snapshot.running
    spares: dict[int, Spare] = {}
    for key, attempts in running.shared().items():
        graph = snapshot.graphs.of(key)
        task = None if graph is None else graph.task(key)
        if task is None:
            continue
        # Others are about to stop.
        going_on = [(number, live) for number, live in attempts if task.live_attempt(number) is not None]
        order = sorted((running.left_of(live, now_s), number, live.row) for number, live in going_on)
        for left_s, number, row in order[1:]:
            if agents.slots.item(row) == agents.held.item(row) < agents.credit.item(row):
                best_s = order[0][0]
                spares[row] = Spare(key, number, 0.5 * best_s * best_s / (best_s + left_s))
    return spares
