"""Who goes in a round of many tasks where it matters whose they are: one by one, by what each namespace has
got so far."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace

from coordinator.scheduling.claims import Claims
from coordinator.scheduling.order import Place, Some, place_in_line
from coordinator.scheduling.waiting import TaskClass


def in_turns(classes: Sequence[TaskClass], most: int, now_ms: int, claims: Claims) -> list[Some]:
    """The first `most` tasks in line, by class, if each namespace holds what goes before as it goes. Those
    that would break a quota are not among them."""
    heads: list[tuple[Place, int, int]] = [
        (place_in_line(one.profile, one.tasks[0], claims.share(one.owner), now_ms), at, 0)
        for at, one in enumerate(classes)
    ]
    heapify(heads)
    counts: dict[int, int] = {}
    while heads and most > 0:
        place, at, next_one = heads[0]
        members = classes[at]
        owner, profile, tasks = members.owner, members.profile, members.tasks
        share = claims.share(owner)
        if claims.refused(owner, profile):
            heappop(heads)
        elif share > place[1]:
            heapreplace(heads, ((place[0], share, *place[2:]), at, next_one))
        else:
            claims.take(owner, profile)
            most -= 1
            counts[at] = end = next_one + 1
            if end < len(tasks):
                place = place_in_line(profile, tasks[end], claims.share(owner), now_ms)
                heapreplace(heads, (place, at, end))
            else:
                heappop(heads)
    return [(classes[at], classes[at].tasks[:count]) for at, count in counts.items()]
