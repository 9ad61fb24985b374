"""Second attempts that are not needed: whose agents may have other work at any time."""

from __future__ import annotations

from coordinator.scheduling.round import Spare
from coordinator.scheduling.snapshot import Snapshot


def find_spares(snapshot: Snapshot, now_s: float) -> dict[int, Spare]:
    """By the row of their agent, attempts beside which a better one of the same task goes on elsewhere.

    Of two that are left to go on for `b` and `s` seconds, the second is worth about half of `b` b / (b + s):
    a quarter of `b` where they are equal, nothing where it is far behind."""
    spares: dict[int, Spare] = {}
    for key, attempts in snapshot.running.shared().items():
        order = sorted((snapshot.running.left_of(live, now_s), number, live.row) for number, live in attempts)
        best_s = order[0][0]
        for left_s, number, row in order[1:]:
            spares[row] = Spare(key, number, 0.5 * best_s * best_s / (best_s + left_s))
    return spares
