"""How a round sees the agents for tasks that are alike: who may take them, and where the next one costs
least."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import TaskProfile
from coordinator.scheduling.agents.feasibility import fitting, needs_of
from coordinator.scheduling.agents.ledger import demand_of
from coordinator.scheduling.agents.reserved import ALL_ROWS, Barrier
from coordinator.scheduling.agents.rows import BoolRow, FloatRow, Rows
from coordinator.scheduling.costs.pricing import Prices
from coordinator.scheduling.costs.terms import Term
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.tasks.graphs import AT_ONCE, Arrivals

NOWHERE: Final = -1

_ALL_ROWS: Final = 1_024
"""Up to so many agents are looked at one and all; of more, a lane has a shortlist."""

_PREVIOUS_S: Final = 0.5
"""What it costs to go back to the agent where the last attempt failed, in durations of the task."""


class Lane:
    """Costs are exact, but that load is taken to be what is expected while `lasts_s` seconds of work last. A
    shortlist is made anew when the best on it costs more than the best that is not could: costs only rise in
    a round."""

    def __init__(
        self,
        profile: TaskProfile,
        policy: Policy,
        around: Round,
        prices: Prices,
        shortlist: int,
        lasts_s: float = 0.0,
        barrier: Barrier | None = None,
    ) -> None:
        self.profile = profile
        self.demand = demand_of(profile)
        self.inverse_speed, self._class_price = prices.of_class(policy, profile, lasts_s)
        self._lasts_s = lasts_s
        self.policy = policy
        self._prices = prices
        self._weights = policy.weights
        self._round = around
        self._shortlist = shortlist
        snapshot = around.snapshot
        self._price: FloatRow | None = None
        setup = snapshot.affinity.setup_s(profile)
        self._barrier = barrier
        self._setup = None if setup is None else policy.weights.time * setup
        """By row, what comes to the price of the work; None where that is the same everywhere."""
        self._passing = fitting(profile, snapshot.agents)
        self._listed = len(self._class_price) > _ALL_ROWS
        self._rows: NDArray[np.intp] = _NO_ROWS
        self._short_price: FloatRow = self._class_price[:0]
        self._bound = -np.inf
        self._bound_work_s = 1.0

    @property
    def capable(self) -> BoolRow:
        """By row, whether the agent could ever take such a task."""
        snapshot = self._round.snapshot
        return snapshot.feasible.rows(needs_of(self.profile), snapshot.agents)

    def cheapest(self, work_s: float, arrivals: Arrivals, previous: int) -> int:
        """The row of the agent where a task of so much work costs least, busy or not; NOWHERE if none will
        do."""
        while True:
            if self._listed and arrivals is AT_ONCE and previous == NOWHERE:
                row = self._on_shortlist(work_s)
            else:
                costs = self._costs(work_s, arrivals, previous)
                row = int(costs.argmin())
                row = row if costs.item(row) < np.inf else NOWHERE
            if row == NOWHERE or not self._passing or self._fits(row):
                return row

    def cheapest_open(self, work_s: float, arrivals: Arrivals, previous: int, *, brief: bool) -> int:
        """The same among those alone that may be given it now: that have a free slot or, for a `brief` task,
        room in their queue."""
        around = self._round
        now = around.open & around.ledger.slot_free
        if brief:
            now |= around.open & around.ledger.queue_free(work_s)
        closed = np.where(now, 0.0, np.inf)
        while True:
            costs = self._costs(work_s, arrivals, previous)
            costs += closed
            row = int(costs.argmin())
            if costs.item(row) == np.inf:
                return NOWHERE
            if not self._passing or self._fits(row):
                return row

    def queue_costs(self, work_s: float) -> FloatRow:
        """By row, what a brief task of so much work costs, infinite where it cannot be given now, whatever
        fits there (`fits_times`)."""
        costs = self._costs(work_s, AT_ONCE, NOWHERE)
        costs[~self._round.open] = np.inf
        return costs

    def terms(self, work_s: float, arrivals: Arrivals, previous: int) -> list[Term]:
        """What makes up the cost of a task of so much work, over all rows, those too that cannot take it."""
        around, weights = self._round, self._weights
        of_work = self._prices.terms(self.policy, self.profile, self.inverse_speed, self._lasts_s)
        found = [
            Term("wait", weights.time, around.wait.copy()),
            Term("balance", weights.balance, around.ledger.held_s / around.ledger.slots),
            *(term._replace(scale=work_s) for term in of_work),
        ]
        if (setup := around.snapshot.affinity.setup_s(self.profile)) is not None:
            found.append(Term("setup", weights.time, setup.copy()))
        if arrivals is not AT_ONCE:
            late, moved = self._moving(arrivals)
            found += [Term("inputs", weights.time, late), Term("communication", weights.communication, moved)]
        if previous != NOWHERE:
            again = np.zeros(len(around.wait))
            again[previous] = self.inverse_speed.item(previous)
            found.append(Term("failed_there", 1.0, again, _PREVIOUS_S * work_s))
        if (displaced := around.displaced()) is not None:
            found.append(Term("second_attempt", 1.0, displaced))
        return found

    def barred(self, work_s: float, rows: Rows = ALL_ROWS) -> BoolRow:
        """On these rows, whether a task of so much work would take a slot that is kept for others."""
        seconds = work_s * self.inverse_speed[rows]
        if self._barrier is None:
            return np.zeros(len(seconds), np.bool_)
        barred: BoolRow = self._barrier.room(self._round.ledger, seconds, rows) <= 0
        return barred

    def is_barred(self, work_s: float) -> bool:
        """Whether there are free slots for a task of so much work, all of them kept for others."""
        free = self.capable & self._round.ledger.slot_free
        return self._barrier is not None and bool((free & self.barred(work_s)).any())

    def fits_times(self, rows: NDArray[np.intp], work_s: float) -> FloatRow:
        """How many of such tasks, of so much work each, fit on these rows beside what was booked; less than
        one where none does."""
        ledger = self._round.ledger
        times: FloatRow = np.full(len(rows), np.inf)
        for column, amount in self.demand.amounts:
            times = np.minimum(times, ledger.free[rows, column] // amount)
        for use in ledger.bounded(self.demand):
            times = np.minimum(times, ledger.places(use)[rows])
        if self._barrier is not None:
            times = np.minimum(times, self._barrier.room(ledger, work_s * self.inverse_speed[rows], rows))
        return times

    def _priced(self) -> FloatRow:
        """By row, the price of a second of work, infinite where the agent will not do."""
        if self._price is None:
            self._price = self._class_price
            for predicate in self._passing:
                if predicate.fixed:
                    holds = predicate.holds(self.profile, 0.0, self._round.ledger)
                    self._price = np.where(holds, self._price, np.inf)
        return self._price

    def _costs(self, work_s: float, arrivals: Arrivals, previous: int) -> FloatRow:
        costs: FloatRow = self._priced() * work_s
        costs += self._round.base_of(self._weights)
        if self._setup is not None:
            costs += self._setup
        if previous != NOWHERE:
            costs[previous] += _PREVIOUS_S * work_s * self.inverse_speed[previous]
        if self._barrier is not None:
            costs[self.barred(work_s)] = np.inf
        if arrivals is AT_ONCE:
            return costs
        time, communication = self._weights.time, self._weights.communication
        late, moved = self._moving(arrivals)
        late *= time
        costs += late
        if communication:
            moved *= communication
            costs += moved
        return costs

    def _moving(self, arrivals: Arrivals) -> tuple[FloatRow, FloatRow]:
        """By row, the seconds for which a free slot waits for inputs, and those of their transfers."""
        wait = self._round.wait
        late: FloatRow = np.maximum(arrivals.anywhere - wait, 0.0)
        moved: FloatRow = np.full(len(wait), arrivals.moved)
        for row, (arrive, move) in arrivals.nearer.items():
            late[row] = max(arrive - wait.item(row), 0.0)
            moved[row] = move
        return late, moved

    def _on_shortlist(self, work_s: float) -> int:
        while True:
            costs = self._short_price * work_s
            costs += self._round.base_of(self._weights).take(self._rows)
            if self._setup is not None:
                costs += self._setup.take(self._rows)
            if self._barrier is not None:
                costs[self.barred(work_s, self._rows)] = np.inf
            at = int(costs.argmin()) if len(costs) else NOWHERE
            if at != NOWHERE and costs.item(at) <= self._bound * min(1.0, work_s / self._bound_work_s):
                return self._rows.item(at) if costs.item(at) < np.inf else NOWHERE
            self._make_shortlist(work_s)

    def _make_shortlist(self, work_s: float) -> None:
        costs = self._costs(work_s, AT_ONCE, NOWHERE)
        length = min(self._shortlist, len(costs) - 1)
        order = np.argpartition(costs, length)
        self._rows = order[:length]
        self._bound = costs.item(order.item(length))
        self._bound_work_s = work_s
        self._short_price = self._priced()[self._rows]

    def _fits(self, row: int) -> bool:
        """Whether the agent has what such a task takes beside what was booked. If not, it will not have it
        again in this round: nor will others that are found out on the way."""
        ledger = self._round.ledger
        if ledger.fits(row, self.demand):
            return True
        fits = np.logical_and.reduce([one.holds(self.profile, 0.0, ledger) for one in self._passing])
        self._price = np.where(fits, self._priced(), np.inf)
        self._short_price = self._price[self._rows]
        return False


_NO_ROWS: Final[NDArray[np.intp]] = np.zeros(0, np.intp)
