"""How a round sees the agents for the tasks of one class: who may take them, and where the next one costs
least."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import TaskProfile
from coordinator.scheduling.agents import FloatRow
from coordinator.scheduling.feasibility import fitting, needs_of
from coordinator.scheduling.graphs import AT_ONCE, Arrivals
from coordinator.scheduling.ledger import Demand
from coordinator.scheduling.pricing import Prices
from coordinator.scheduling.round import Round
from coordinator.scheduling.weights import Policy

NOWHERE: Final = -1

_ALL_ROWS: Final = 256
"""Up to so many agents are looked at one and all; of more, a class has a shortlist."""

_PREVIOUS_S: Final = 0.5
"""What it costs to go back to the agent where the last attempt failed, in durations of the task."""


class Place(NamedTuple):
    """An agent for a task (NOWHERE: none), at what cost."""

    row: int
    cost: float


NO_PLACE: Final = Place(NOWHERE, np.inf)


class ClassView:
    """Costs are exact but for agents that are not on the shortlist, none of which was cheaper when it was
    made; costs only rise in a round."""

    def __init__(self, profile: TaskProfile, policy: Policy, around: Round, prices: Prices, shortlist: int) -> None:
        self.profile = profile
        self.demand = Demand(profile)
        self.weights = policy.weights
        self._round = around
        self._longest = shortlist
        snapshot, ledger = around.snapshot, around.ledger
        rows = snapshot.feasible.rows(needs_of(profile), snapshot.agents)
        self.capable = rows
        accepting = rows & ledger.accepting
        for predicate in fitting(profile):
            accepting = accepting & predicate.holds(profile, 0.0, ledger)
        self._price = prices.per_second(policy, profile.family)
        self.inverse_speed = prices.inverse_speed(profile.family)
        self._refused: FloatRow = np.where(accepting, 0.0, np.inf)
        self._bounded = bool(self.demand.amounts or self.demand.groups)
        self._rows: NDArray[np.intp] | None = None
        self._bound = 0.0
        self._bound_work_s = 1.0

    def cheapest(self, work_s: float, arrivals: Arrivals, previous: int = NOWHERE) -> Place:
        """The agent where a task of so much work costs least, busy or not."""
        while True:
            place = self._on_shortlist(work_s) if self._listed(arrivals, previous) else self._anywhere(
                work_s, arrivals, previous
            )
            if place.row == NOWHERE or not self._bounded or self._round.ledger.fits(place.row, self.demand):
                return place
            self._refuse(place.row)

    def cheapest_open(self, work_s: float, arrivals: Arrivals, *, queue_s: float | None = None) -> Place:
        """The same among those alone that may be given it now: that have a free slot or, if `queue_s` is the
        seconds that it may add to a queue, room in that."""
        around = self._round
        now = around.open & around.ledger.slot_free
        if queue_s is not None:
            now = now | (around.open & around.ledger.queue_free(queue_s))
        rows = np.flatnonzero(now)
        while len(rows):
            costs = self._costs(rows, work_s, arrivals)
            at = int(costs.argmin())
            if not np.isfinite(costs[at]):
                return NO_PLACE
            row = int(rows[at])
            if not self._bounded or around.ledger.fits(row, self.demand):
                return Place(row, float(costs[at]))
            self._refuse(row)
        return NO_PLACE

    def _costs(self, rows: NDArray[np.intp], work_s: float, arrivals: Arrivals) -> FloatRow:
        costs: FloatRow = self._all_costs(work_s, arrivals)[rows]
        return costs

    def _all_costs(self, work_s: float, arrivals: Arrivals) -> FloatRow:
        costs: FloatRow = self._price * work_s
        costs += self._round.base(self.weights)
        costs += self._refused
        if arrivals is AT_ONCE:
            return costs
        time, communication = self.weights.time, self.weights.communication
        wait = self._round.wait
        late = arrivals.anywhere - wait
        np.maximum(late, 0.0, out=late)
        late *= time
        if communication:
            late += communication * arrivals.moved
        for row, (arrive, move) in arrivals.nearer.items():
            late[row] = time * max(arrive - wait.item(row), 0.0) + communication * move
        costs += late
        return costs

    def _listed(self, arrivals: Arrivals, previous: int) -> bool:
        return len(self._price) > _ALL_ROWS and previous == NOWHERE and arrivals is AT_ONCE

    def _anywhere(self, work_s: float, arrivals: Arrivals, previous: int) -> Place:
        costs = self._all_costs(work_s, arrivals)
        if previous != NOWHERE:
            costs[previous] += _PREVIOUS_S * work_s * self.inverse_speed[previous]
        row = int(costs.argmin())
        cost = costs.item(row)
        return Place(row, cost) if cost < np.inf else NO_PLACE

    def _on_shortlist(self, work_s: float) -> Place:
        if self._rows is None:
            self._make_shortlist(work_s)
        while True:
            costs = self._short_price * work_s
            costs += self._round.base(self.weights).take(self._rows)
            costs += self._short_refused
            at = int(costs.argmin())
            cost = costs.item(at)
            if cost <= self._bound * min(1.0, work_s / self._bound_work_s):
                return Place(int(self._rows[at]), cost) if cost < np.inf else NO_PLACE
            self._make_shortlist(work_s)

    def _make_shortlist(self, work_s: float) -> None:
        costs = self._price * work_s
        costs += self._round.base(self.weights)
        costs += self._refused
        length = self._longest
        if len(costs) > length:
            order = np.argpartition(costs, length)
            self._rows = order[:length]
            self._bound = costs.item(int(order[length]))
        else:
            self._rows, self._bound = np.arange(len(costs)), np.inf
        self._bound_work_s = work_s
        self._short_price = self._price[self._rows]
        self._short_refused = self._refused[self._rows]

    def _refuse(self, row: int) -> None:
        """What is booked in a round is not given back in it."""
        self._refused[row] = np.inf
        self._rows = None
