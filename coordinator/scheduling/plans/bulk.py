"""Rounds of many tasks, by blocks of classes: who goes is decided exactly, who goes where nearly so.

The most urgent tasks that there are places for are taken together by class, in the order of the first of
each. The classes of a block see the free places of all agents in the order of what these cost their family,
and take them one class after the other, cheapest first; what each may take of a window of places is found
for all of them at once. Beside the exact plan this lets a class go before tasks of others that stand between
its own, which costs somebody the better of two free agents at most, and saves most of the work."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.core.commands import Choice
from coordinator.core.model import TaskProfile
from coordinator.scheduling.agents.regions import ANYWHERE, Region, united
from coordinator.scheduling.agents.rows import BoolRow, FloatRow, IntRow
from coordinator.scheduling.costs.pricing import Prices
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.bounded import Bounded
from coordinator.scheduling.plans.crowd import Crowd
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.plans.supply import Free, Kind, Supply
from coordinator.scheduling.tasks.columns import UNKNOWN

MANY: Final = 64
"""Tasks, and places for them, from which on a round is one of many."""

BLOCK: Final = 512
"""Classes that look for places together."""

_WINDOW: Final = 2
_SPARE_PLACES: Final = 64
"""Places that a block looks at first: so many for each of its tasks, and some more."""

_PASSES: Final = 12
_WIDER: Final = 4
"""Over windows so many times as wide as the one before, and over what agents have left; what still has no
place waits."""

_REGIONS: Final = 16
"""Regions that a block is looked at in by themselves; all others are taken together."""

_FEW: Final = 32
"""Tasks that are quicker found a place one by one."""

_ANYTHING: Final = np.iinfo(np.int64).min
"""What an agent may have overdrawn of what a task does not need."""


class Places:
    """Agents for the tasks of a round by one policy, as `Supply` has places for them."""

    def __init__(self, around: Round, policy: Policy, prices: Prices, most: int, typical_s: float) -> None:
        self._around = around
        self._policy = policy
        self._prices = prices
        self._most = most
        self._typical_s = typical_s
        self._supply: Supply | None = None
        self._booked: list[tuple[NDArray[np.intp], FloatRow]] = []

    def left(self) -> BoolRow:
        """By row, whether a place there is left."""
        return self._now().left()

    def place(self, crowd: Crowd) -> list[Choice]:
        """Agents for these tasks, none of which has data to wait for: for as many as there are."""
        choices: list[Choice] = []
        for kind, those in self._kinds(crowd):
            choices += self._place_alike(kind, those)
        return choices

    def close(self) -> None:
        """Let the round know what was given; it may give places to others before the next are taken."""
        if self._booked:
            rows = np.concatenate([rows for rows, _ in self._booked])
            seconds = np.concatenate([seconds for _, seconds in self._booked])
            self._around.booked(rows, seconds)
        self._booked, self._supply = [], None

    def _now(self) -> Supply:
        """The places that there are now."""
        if self._supply is None:
            self._supply = Supply(self._around, self._policy, self._prices, self._most, self._typical_s)
        return self._supply

    def _kinds(self, crowd: Crowd) -> Iterator[tuple[Kind, Crowd]]:
        """Classes that see places in one order."""
        own, number = self._own(crowd), crowd.column("family")
        numbers: dict[TaskProfile, int] = {}
        for at in own.nonzero()[0].tolist():
            profile = crowd.members(at).profile
            number[at] = numbers.setdefault(profile, UNKNOWN - len(numbers))
        for those in crowd.by(number):
            profile = those.members(0).profile
            yield Kind(profile.family, profile.family_name, profile if profile in numbers else None), those

    def _own(self, crowd: Crowd) -> BoolRow:
        """By class, whether its tasks cost something beside their work that tells agents apart."""
        snapshot = self._around.snapshot
        alike, touch = snapshot.waiting.columns["alike"], snapshot.agents.latest_touch
        for row in crowd.rows[alike[crowd.rows] < touch].tolist():
            alike[row] = snapshot.affinity.alike_until(snapshot.waiting.by_row[row].profile)
        own: BoolRow = alike[crowd.rows] < touch
        return own

    # --- who takes which ------------------------------------------------------------------------------------

    def _place_alike(self, kind: Kind, crowd: Crowd) -> list[Choice]:
        supply, choices = self._now(), list[Choice]()
        seen: dict[Region, int] = {}
        for _ in range(_PASSES):
            seen = {
                region: max(count, _WIDER * seen.get(region, 0))
                for region, count in self._wanted(crowd).items()
            }
            places = supply.cheapest(kind, seen)
            if not len(places.rows):
                break
            given, rows = self._take(crowd, places)
            lucky = crowd.only(given)
            supply.take(rows)
            self._booked.append((rows, lucky.work * self._prices.inverse_speed(kind.family)[rows]))
            choices += lucky.choices(self._around.snapshot, rows)
            if len(lucky) == len(crowd) or (places.whole and not len(lucky)):
                break
            crowd = crowd.only(~given)
        return choices

    def _wanted(self, crowd: Crowd) -> dict[Region, int]:
        """In which regions its tasks are looked at, and how many places there."""
        regions, tasks = self._around.snapshot.regions, dict[Region, int]()
        if not regions.told_apart():
            return {ANYWHERE: _SPARE_PLACES + _WINDOW * len(crowd)}
        of_each = regions.of_each([one.traits.needs for one in crowd.classes()])
        for region, count in zip(of_each, crowd.counts().tolist(), strict=True):
            tasks[region] = tasks.get(region, 0) + count
        if len(tasks) > _REGIONS:
            largest = sorted(tasks, key=tasks.__getitem__, reverse=True)
            kept, others = largest[: _REGIONS - 1], largest[_REGIONS - 1 :]
            rest = united(others), sum([tasks[one] for one in others])
            tasks = {one: tasks[one] for one in kept}
            tasks[rest[0]] = tasks.get(rest[0], 0) + rest[1]
        return {region: _SPARE_PLACES + _WINDOW * count for region, count in tasks.items()}

    def _take(self, crowd: Crowd, places: Free) -> tuple[BoolRow, NDArray[np.intp]]:
        """Give each class the first of these places that it can take: returns which tasks get one, and the
        rows of those."""
        counts, demands = crowd.counts(), crowd.column("demand")
        most = demands.max(axis=0)
        bounded = Bounded(self._around.ledger, crowd.waiting.sharing(crowd.rows))
        can = self._can_take(crowd, places, demands, most)
        bounded.keep_off(can, places.rows)
        taken, found = _first_come(can, counts, bounded, places.rows)
        given = found > 0
        if len(crowd) > len(counts):
            before = np.arange(len(crowd)) - np.repeat(np.cumsum(counts) - counts, counts)
            """Tasks of the same class that come first."""
            given = before < np.repeat(found, counts)
        rows = places.rows[taken]
        kept = self._take_resources(rows, demands[crowd.of[given]], most.nonzero()[0].tolist())
        if bounded.uses and not kept.all():
            bounded.give_back(crowd.of[given][~kept], rows[~kept])
        given[given] = kept
        return given, rows[kept]

    def _can_take(self, crowd: Crowd, places: Free, demands: IntRow, most: IntRow) -> NDArray[np.bool_]:
        """By class and place, whether its agent, which has a free slot, has all else that one such task
        takes: `most` is what any of them does."""
        snapshot, ledger = self._around.snapshot, self._around.ledger
        rows = places.rows
        positions = snapshot.waiting.positions(crowd.rows, snapshot.feasible)
        can = snapshot.feasible.of_each(positions, rows, snapshot.agents)
        for at in crowd.column("fixed").nonzero()[0].tolist():
            members = crowd.members(at)
            for predicate in members.traits.fixed:
                can[at] &= predicate.holds(members.profile, 0.0, ledger)[rows]
        if snapshot.reserved:
            self._keep_off(crowd, places, can)
        scarce = np.zeros(len(rows), np.bool_)
        """Places of agents that have not enough for every class."""
        for column in most.nonzero()[0].tolist():
            scarce |= ledger.free[rows, column] < most.item(column)
        if scarce.any():
            can[:, scarce] &= _have(ledger.free[rows[scarce]], demands)
        return can

    def _keep_off(self, crowd: Crowd, places: Free, can: NDArray[np.bool_]) -> None:
        """No class can take what is kept for others: the last of an agent's free slots."""
        around, rows = self._around, places.rows
        longest = np.zeros(len(crowd.rows))
        np.maximum.at(longest, crowd.of, crowd.work)
        for at, one in enumerate(crowd.classes()):
            first = one.tasks[0]
            barrier = around.barrier(one.owner, one.profile, first.key, first.hint)
            if barrier is not None:
                speeds = self._prices.inverse_speed(one.profile.family)[rows]
                can[at] &= places.nth < barrier.room(around.ledger, longest.item(at) * speeds, rows)

    def _take_resources(self, rows: NDArray[np.intp], amounts: IntRow, columns: Sequence[int]) -> BoolRow:
        """Book what each task takes, in these columns, of its agent, of which some may be there several
        times. Where that is more than the agent has, only the first of them gets it: returns who does."""
        free = self._around.ledger.free
        for column in columns:
            np.subtract.at(free[:, column], rows, amounts[:, column])
        over = np.zeros(len(rows), np.bool_)
        for column in columns:
            over |= (free[rows, column] < 0) & (amounts[:, column] > 0)
        if not over.any():
            return ~over
        first = np.zeros(len(rows), np.bool_)
        first[np.unique(rows, return_index=True)[1]] = True
        kept: BoolRow = first | ~over
        np.add.at(free, rows[~kept], amounts[~kept])
        return kept


def _have(free: IntRow, demands: IntRow) -> NDArray[np.bool_]:
    """By demand, which agents have what it takes. What it does not take may be overdrawn."""
    enough = np.ones((len(demands), len(free)), np.bool_)
    for column in np.flatnonzero(demands.any(axis=0)).tolist():
        needed = demands[:, column]
        enough &= free[:, column] >= np.where(needed, needed, _ANYTHING)[:, None]
    return enough


def _first_come(
    can: NDArray[np.bool_], counts: IntRow, bounded: Bounded, rows: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Who comes first takes first: each class, given how many tasks it has, the first places that it `can`
    take of those that are left, which are on these rows. Returns the places, class after class, and how many
    each has found.

    Places are the bits of whole numbers here: most classes have so few tasks that numpy would take longer to
    begin than to find their places."""
    packed = np.packbits(can, axis=1, bitorder="little")
    width = packed.shape[1]
    free = packed.view(f"S{width}")[:, 0].tolist()
    left = (1 << 8 * width) - 1
    if counts.max() == 1 and not bounded.uses:
        lengths = np.array(_one_each(free, left))
        return lengths[lengths > 0] - 1, (lengths > 0).astype(np.intp)
    taken: list[bytes] = []
    for at, (row, count) in enumerate(zip(free, counts.tolist(), strict=True)):
        bits = int.from_bytes(row, "little") & left
        if at in bounded.uses:
            places = _bits_set(bits.to_bytes(width, "little"))
            bits = _with_bits(places[bounded.take(at, rows[places], count)], width)
        else:
            bits = bits & -bits if count == 1 else _lowest(bits, count)
        left ^= bits
        taken.append(bits.to_bytes(width, "little"))
    of, found = np.divmod(_bits_set(b"".join(taken)), 8 * width)
    return found, np.bincount(of, minlength=len(counts))


def _one_each(free: Sequence[bytes], left: int) -> list[int]:
    """The place that each class takes of what is `left` of those that it can take, from 1, 0 if there is
    none."""
    taken = []
    for row in free:
        bits = int.from_bytes(row, "little") & left
        bits &= -bits
        left ^= bits
        taken.append(bits.bit_length())
    return taken


def _bits_set(packed: bytes) -> NDArray[np.intp]:
    """Which ones, from the lowest on."""
    return np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little").view(np.bool_).nonzero()[0]


def _with_bits(places: NDArray[np.intp], width: int) -> int:
    """The number of so many bytes that has these set."""
    bits = np.zeros(8 * width, np.bool_)
    bits[places] = True
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


def _lowest(bits: int, count: int) -> int:
    """Of the bits that are set the lowest, so many."""
    if count > _FEW:
        length = bisect_left(
            range(bits.bit_length()), count, key=lambda length: (bits & ((1 << length) - 1)).bit_count()
        )
        return bits & ((1 << length) - 1)
    rest = bits
    for _ in range(count):
        rest &= rest - 1
    return bits ^ rest
