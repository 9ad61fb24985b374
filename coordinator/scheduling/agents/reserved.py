"""Slots that reservations keep, by agent: where work of each namespace may begin (E9).

Before a reservation begins, others may have its slots for what is expected to have ended by then, as in the
backfill of batch systems. `machine.apply` has the last word on slots that are kept, but knows nothing of what
is expected, nor of the resources that a slot stands for. It counts what agents have to stop as gone; here
that takes a slot until it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from coordinator.core.model import TaskProfile
from coordinator.core.reservations import ReservationRecord, keepers_of
from coordinator.scheduling.agents.ledger import Ledger, demand_of
from coordinator.scheduling.agents.rows import BoolRow, FloatRow, IntRow, Rows
from coordinator.scheduling.agents.table import UNBOUNDED, AgentTable

RESERVED: Final = "reserved"
"""The reason of tasks that wait because slots are kept for others."""

ALL_ROWS: Final = slice(None)
_NEVER: Final = -1
_NO_ROWS: Final[BoolRow] = np.zeros(0, np.bool_)


class Bound(NamedTuple):
    """Of one namespace, by row: an attempt of it may begin on an agent that holds fewer than `most`,
    `UNBOUNDED` where nothing is kept for others; `aside` are the slots that are kept and not in use, which
    stand for their part of the agent's resources."""

    most: IntRow
    aside: IntRow


class Bounds(NamedTuple):
    """Where work of a namespace may begin: `now`, and for what is there still in so many seconds."""

    now: Bound
    later: list[tuple[float, Bound]]

    def over(self, lasts_s: FloatRow, rows: Rows = ALL_ROWS) -> Bound:
        """The bound on these rows, for an attempt that lasts so long there."""
        most, aside = self.now.most[rows], self.now.aside[rows]
        for in_s, bound in self.later:
            there = lasts_s > in_s
            most = np.where(there, np.minimum(most, bound.most[rows]), most)
            aside = np.where(there, np.maximum(aside, bound.aside[rows]), aside)
        return Bound(most, aside)


class Reserved:
    """The reservations, in the order in which slots are given to them, and what their namespaces hold."""

    def __init__(self, agents: AgentTable) -> None:
        self._agents = agents
        self._records: tuple[ReservationRecord, ...] = ()
        self._held: dict[str, IntRow] = {}
        """Of namespaces that have reservations, by row."""
        self._counted: dict[tuple[int, int], tuple[str, int]] = {}
        """Attempts that are, with namespace and row."""
        self._covered: dict[str, tuple[int, BoolRow]] = {}
        self._kept: dict[tuple[str, ...], dict[str, IntRow]] = {}
        self._kept_of = _NEVER
        self._bounds: dict[str, Bounds | None] = {}
        self._bounds_of = (_NEVER, _NEVER)

    def __bool__(self) -> bool:
        return bool(self._records)

    # --- what happens ---------------------------------------------------------------------------------------

    def set(self, records: Iterable[ReservationRecord]) -> None:
        """These are all that there are. What their namespaces hold has to be counted anew."""
        self._records = tuple(records)
        size = len(self._agents.version)
        self._held = {one.namespace: np.zeros(size, np.int64) for one in self._records}
        self._counted, self._covered, self._kept, self._bounds = {}, {}, {}, {}

    def hold(self, namespace: str, row: int, key: int, attempt: int) -> None:
        """The agent in this row has been given this attempt."""
        if namespace in self._held and (key, attempt) not in self._counted:
            self._counted[key, attempt] = namespace, row
            self._count(namespace, row, 1)

    def release(self, key: int, attempt: int) -> None:
        """It is with no agent any more. One that was not counted is fine."""
        counted = self._counted.pop((key, attempt), None)
        if counted is not None:
            self._count(*counted, -1)

    # --- what follows ---------------------------------------------------------------------------------------

    def counts(self, key: int, attempt: int) -> bool:
        """Whether this attempt is among what its namespace holds."""
        return (key, attempt) in self._counted

    def bounds(self, namespace: str, now_s: float) -> Bounds | None:
        """Where work of this namespace may begin; None where it may everywhere."""
        if not self._records:
            return None
        now_ms = round(now_s * 1_000)
        if self._bounds_of != (now_ms, self._agents.latest_version):
            self._bounds, self._bounds_of = {}, (now_ms, self._agents.latest_version)
        if namespace not in self._bounds:
            self._bounds[namespace] = self._bound(namespace, now_ms)
        return self._bounds[namespace]

    def lacks(self, namespace: str, now_s: float) -> IntRow | None:
        """By row, how many of the slots that are kept for it a namespace does not hold; None if there can be
        none."""
        kept = self._in_force(round(now_s * 1_000)).get(namespace)
        return None if kept is None else np.maximum(kept - self._held_by(namespace), 0)

    def keeps(self, namespace: str, row: int, now_s: float) -> bool:
        """Whether slots of this agent are kept for a namespace."""
        kept = self._in_force(round(now_s * 1_000)).get(namespace) if self._records else None
        return kept is not None and kept.item(row) > 0

    def slot_for(self, namespace: str, row: int, now_s: float, more: int = 0) -> str:
        """What its next attempt on this agent counts for of the slots that are kept for a namespace there, in
        words; "" if all are in use. It holds `more` attempts than are counted."""
        spec = self._agents.specs[row]
        if spec is None or namespace not in self._held:
            return ""
        before = self._held_by(namespace).item(row) + more
        for one, slots in keepers_of(spec, self._records, round(now_s * 1_000)):
            if one.namespace != namespace:
                continue
            if before < slots:
                whose = f"reservation {one.id} keeps for namespace {namespace}"
                return f"one of the {slots} slots that {whose}, of which {before} were in use"
            before -= slots
        return ""

    def covered_by(self, one: ReservationRecord) -> int:
        """How many agents a reservation is of, which need not be among those that are set."""
        if one in self._records:
            return int(np.count_nonzero(self._covers(one)))
        return sum(spec is not None and one.covers(spec) for spec in self._agents.specs)

    def next_change_s(self, now_s: float) -> float | None:
        """When the next one begins or ends, if one does."""
        now_ms = round(now_s * 1_000)
        times = [at for one in self._records for at in (one.begin_ms, one.end_ms) if at > now_ms]
        return min(times) / 1_000 if times else None

    def of_others(self, namespace: str, row: int, until_s: float, now_s: float) -> list[ReservationRecord]:
        """Those of other namespaces that keep slots of this agent at any time until then, the next first."""
        now_ms, until_ms, spec = round(now_s * 1_000), round(until_s * 1_000), self._agents.specs[row]
        found = [
            one
            for one in self._records
            if one.namespace != namespace
            and one.begin_ms <= until_ms
            and not one.over(now_ms)
            and spec is not None
            and one.covers(spec)
        ]
        return sorted(found, key=lambda one: (max(one.begin_ms, now_ms), one.created))

    def _bound(self, namespace: str, now_ms: int) -> Bounds | None:
        others = [one for one in self._records if one.namespace != namespace and not one.over(now_ms)]
        if not others:
            return None
        later = sorted({one.begin_ms for one in others if one.begin_ms > now_ms})
        bound = self._bound_at
        return Bounds(
            bound(namespace, now_ms),
            [((at_ms - now_ms) / 1_000, bound(namespace, at_ms)) for at_ms in later],
        )

    def _bound_at(self, namespace: str, at_ms: int) -> Bound:
        size = self._agents.size
        wanted, aside = np.zeros(size, np.int64), np.zeros(size, np.int64)
        for other, kept in self._in_force(at_ms).items():
            if other != namespace:
                wanted += kept
                aside += np.maximum(kept - self._held_by(other), 0)
        return Bound(np.where(wanted > 0, self._room() - aside, UNBOUNDED), aside)

    def _in_force(self, at_ms: int) -> dict[str, IntRow]:
        """By namespace and row the slots that are kept at this time, as `core.reservations.kept_of`."""
        if self._kept_of != self._agents.latest_version:
            self._kept, self._kept_of = {}, self._agents.latest_version
        records = [one for one in self._records if one.in_force(at_ms)]
        names = tuple([one.id for one in records])
        if names not in self._kept:
            left = self._room()
            kept: dict[str, IntRow] = {}
            for one in records:
                slots = np.where(
                    self._covers(one), left if one.slots is None else np.minimum(one.slots, left), 0
                )
                kept[one.namespace] = kept.get(one.namespace, 0) + slots
                left = left - slots
            self._kept[names] = kept
        return self._kept[names]

    def _room(self) -> IntRow:
        size = self._agents.size
        return np.maximum(np.minimum(self._agents.slots[:size], self._agents.credit[:size]), 0)

    def _covers(self, one: ReservationRecord) -> BoolRow:
        """Looks at those agents alone that have changed."""
        agents = self._agents
        seen, before = self._covered.get(one.id, (_NEVER, _NO_ROWS))
        if seen != agents.latest_version:
            covered = np.zeros(agents.size, np.bool_)
            covered[: len(before)] = before
            for row in (agents.version[: agents.size] > seen).nonzero()[0].tolist():
                spec = agents.specs[row]
                covered[row] = spec is not None and one.covers(spec)
            self._covered[one.id] = agents.latest_version, covered
        return self._covered[one.id][1]

    def _held_by(self, namespace: str) -> IntRow:
        held = self._held[namespace]
        if len(held) < self._agents.size:
            held = np.pad(held, (0, len(self._agents.version) - len(held)))
            self._held[namespace] = held
        return held[: self._agents.size]

    def _count(self, namespace: str, row: int, sign: int) -> None:
        self._held_by(namespace)[row] += sign
        self._bounds = {}


class Barrier:
    """Where tasks of one profile may not begin, because slots are kept for others. They take at most
    `stretch` times what is expected, if that is known, and their timeout."""

    def __init__(self, bounds: Bounds, profile: TaskProfile, stretch: float | None) -> None:
        self._bounds = bounds
        self._amounts = demand_of(profile).amounts
        self._stretch = stretch
        self._timeout_s = profile.timeout_ms / 1_000

    def room(self, ledger: Ledger, seconds: FloatRow, rows: Rows = ALL_ROWS) -> IntRow:
        """How many more may begin on these rows, where each should take so long."""
        bound = self._bounds.over(self.longest_s(seconds), rows)
        room = bound.most - ledger.held[rows]
        for column, amount in self._amounts:
            left = ledger.free[rows, column] - set_aside(ledger, column, bound.aside, rows)
            room = np.where(bound.aside > 0, np.minimum(room, left // amount), room)
        return room

    def bound(self, seconds: FloatRow) -> Bound:
        """That on every row, where each should take so long."""
        return self._bounds.over(self.longest_s(seconds))

    def longest_s(self, seconds: FloatRow) -> FloatRow:
        """What one takes at most that should take so long."""
        if self._stretch is None:
            return np.full_like(seconds, self._timeout_s)
        longest: FloatRow = np.minimum(seconds * self._stretch, self._timeout_s)
        return longest


def set_aside(ledger: Ledger, column: int, slots: IntRow, rows: Rows = ALL_ROWS) -> IntRow:
    """Of one resource of these rows, the part that so many of their slots stand for."""
    total = ledger.agents.total[: ledger.agents.size, column][rows]
    aside: IntRow = total * slots // ledger.slots[rows]
    return aside
