"""The free places of a round, the cheapest first, as kinds of tasks see them in regions of agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import TaskFamily, TaskProfile
from coordinator.scheduling.agents.regions import Region
from coordinator.scheduling.agents.rows import BoolRow, FloatRow, IntRow
from coordinator.scheduling.costs.pricing import Prices
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.round import Round

_SORTED: Final = 4
"""Places that are brought into order, per task of the round; others come after them as they are."""


class Kind(NamedTuple):
    """Classes that see places in one order: all of a family, or one class whose tasks cost something beside
    their work."""

    family: TaskFamily
    plug_in: str
    own: TaskProfile | None


class Free(NamedTuple):
    """The cheapest places: rows of agents, which of the free places there, which are taken in turn, and what
    each costs. `whole` if these are all that there are."""

    rows: NDArray[np.intp]
    nth: IntRow
    costs: FloatRow
    whole: bool

    def only(self, which: BoolRow | NDArray[np.intp] | slice) -> Free:
        """Those of the places."""
        return Free(self.rows[which], self.nth[which], self.costs[which], self.whole)

    def and_then(self, other: Free) -> Free:
        """These places, then those."""
        return Free(
            np.concatenate((self.rows, other.rows)),
            np.concatenate((self.nth, other.nth)),
            np.concatenate((self.costs, other.costs)),
            self.whole and other.whole,
        )


class Supply:
    """The free slots as they are now, each of which takes one task, for a round of `most`. `typical_s` is the
    work of a task: of tasks that last longer or less long than others the order of agents may be another one.
    There is no cost of a place that others could change."""

    def __init__(self, around: Round, policy: Policy, prices: Prices, most: int, typical_s: float) -> None:
        ledger = around.ledger
        self._around = around
        self._policy = policy
        self._prices = prices
        self._most = most
        self._typical_s = typical_s
        there = ledger.slot_free & around.open
        self._free: IntRow = np.where(there, np.minimum(ledger.slots, ledger.credit) - ledger.held, 0)
        self._taken: IntRow = np.zeros(len(there), np.int64)
        self._first_base = around.base_of(policy.weights)
        speeds = prices.inverse_speed(TaskFamily.UNSPECIFIED)
        self._step: FloatRow = policy.weights.balance * typical_s * speeds / ledger.slots
        """By which each place of an agent costs more than the one before it."""
        self._base: FloatRow = np.where(there, self._first_base, np.inf)
        """Of the next place of each agent, infinite if there is none."""
        self._orders: dict[tuple[Kind, Region], Free] = {}

    def left(self) -> BoolRow:
        """By row, whether a place there is left."""
        left: BoolRow = self._free > self._taken
        return left

    def take(self, rows: NDArray[np.intp]) -> None:
        """A place of each of these is taken, of some perhaps several."""
        np.add.at(self._taken, rows, 1)
        nth = self._taken[rows]
        self._base[rows] = np.where(nth < self._free[rows], self._base_of(rows, nth), np.inf)

    def cheapest(self, kind: Kind, counts: Mapping[Region, int]) -> Free:
        """Of each region the cheapest places that are left, so many or all, the cheapest first."""
        orders = [self._cheapest(kind, region, count) for region, count in counts.items()]
        merged = orders[0]
        if len(orders) > 1:
            for order in orders[1:]:
                merged = merged.and_then(order)
            place = merged.rows * (1 + self._free.max()) + merged.nth
            merged = merged.only(np.unique(place, return_index=True)[1])
            merged = merged.only(merged.costs.argsort(kind="stable"))
        return merged

    def _cheapest(self, kind: Kind, region: Region, count: int) -> Free:
        order = self._orders.get((kind, region))
        if order is not None:
            order = order.only(order.nth >= self._taken[order.rows])
        if order is None or (len(order.rows) < count and not order.whole):
            order = self._order(kind, region, count)
        self._orders[kind, region] = order
        return order.only(slice(count))._replace(whole=order.whole and len(order.rows) <= count)

    # --- in what order --------------------------------------------------------------------------------------

    def _order(self, kind: Kind, region: Region, count: int) -> Free:
        within = self._around.snapshot.regions.rows(region)
        among = min(count, _SORTED * self._most)
        if (len(self._taken) if within is None else len(within)) <= among:
            every = self._places(kind, within, self._taken)
            return every.only(every.costs.argsort(kind="stable"))
        first, bound = self._next(kind, within, among)
        behind = (self._free[first.rows] > first.nth + 1) & (first.costs + self._step[first.rows] <= bound)
        if behind.any():
            first = first.and_then(self._places(kind, first.rows[behind], self._taken + 1))
        cheapest = first.costs.argsort(kind="stable")[: np.count_nonzero(first.costs <= bound)]
        order = first.only(cheapest)
        if order.whole or among == count:
            return order
        known = self._taken + np.bincount(order.rows, minlength=len(self._taken))
        return order.and_then(self._places(kind, within, known))._replace(whole=True)

    def _next(self, kind: Kind, within: NDArray[np.intp] | None, count: int) -> tuple[Free, float]:
        """The next places of the `count` agents where these are the cheapest, of equals those that come first
        in the table, and what the cheapest of all others costs, infinite if none has a place."""
        costs = self._costs(kind, within, self._base if within is None else self._base[within])
        bound = np.partition(costs, count).item(count)
        at = (costs < bound).nonzero()[0]
        if len(at) < count and bound < np.inf:
            at = np.append(at, (costs == bound).nonzero()[0][: count - len(at)])
        rows = at if within is None else within[at]
        return Free(rows, self._taken[rows], costs[at], bound == np.inf), bound

    def _places(self, kind: Kind, within: NDArray[np.intp] | None, begin: IntRow) -> Free:
        """The places of these rows, of all if None, from the one on that `begin` says by row of the table."""
        more = self._free > begin
        rows = more.nonzero()[0] if within is None else within[more[within]]
        counts = self._free[rows] - begin[rows]
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - begin[rows], counts)
        rows = np.repeat(rows, counts)
        return Free(rows, nth, self._costs(kind, rows, self._base_of(rows, nth)), True)

    def _base_of(self, rows: NDArray[np.intp], nth: IntRow) -> FloatRow:
        base: FloatRow = self._step[rows] * nth
        base += self._first_base[rows]
        return base

    def _costs(self, kind: Kind, rows: NDArray[np.intp] | None, base: FloatRow) -> FloatRow:
        """Of a place on each of these rows, all of them if None, before which a task costs `base`."""
        price = self._prices.per_second(self._policy, kind.family, kind.plug_in, self._typical_s)
        costs: FloatRow = (price if rows is None else price[rows]) * self._typical_s
        costs += base
        setup = None if kind.own is None else self._around.snapshot.affinity.setup_s(kind.own)
        if setup is not None:
            costs += self._policy.weights.time * (setup if rows is None else setup[rows])
        return costs
