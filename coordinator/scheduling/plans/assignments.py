"""Why an agent was given a task (E10): what the task costs there, term by term, and on the best others.

A `Witness` takes that down while a plan is made, from the very terms that decide; of few choices where there
are many, since it takes longer than to choose. `would_go` asks the same of a task at any other time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from coordinator.core.commands import Choice
from coordinator.core.kinds import kind_of
from coordinator.core.model import TaskProfile
from coordinator.scheduling.agents.feasibility import ROOM, fitting
from coordinator.scheduling.agents.ledger import Ledger
from coordinator.scheduling.agents.reserved import RESERVED
from coordinator.scheduling.agents.rows import BoolRow, FloatRow
from coordinator.scheduling.costs.terms import Term
from coordinator.scheduling.learning.expectation import Expectation
from coordinator.scheduling.snapshot import Snapshot

RUNNERS_UP: Final = 4
"""Other agents in one explanation."""

OUT_OF_REACH: Final = 2
"""Of these, at most so many that would have cost less and could not be had."""

SECONDS: Final = "s"
SHARES: Final = "slots"
_TYPICAL: Final = "costs less, but tasks that go together take agents in the order that a typical one gives"
_TAIL: Final = 1.2816
"""Standard deviations beyond which a tenth lies."""


class Part(msgspec.Struct, frozen=True, gc=False):
    """A term of a cost on one agent."""

    name: str
    weight: float
    value: float

    @property
    def product(self) -> float:
        """What it adds to the cost."""
        return self.weight * self.value


class Candidate(msgspec.Struct, frozen=True):
    """An agent with what the task costs there; `lost` says why another one has it, "" of the chosen."""

    agent: str
    cost: float
    parts: list[Part]
    lost: str


class Assignment(msgspec.Struct, frozen=True):
    """A choice. `candidates` begin with the chosen agent, of `considered` ones that could ever take the task;
    costs are in `unit`. It should take `low_s` to `high_s`, in four cases of five, and `expected_s` in the
    mean. What is not `recorded` is how it would be decided at `at_s`, the choice itself being older.
    `reserved` says which slot that is kept for its namespace it has, "" if none."""

    key: int
    attempt: int
    at_s: float
    policy: str
    unit: str
    how: str
    considered: int
    expected_s: float
    low_s: float
    high_s: float
    candidates: list[Candidate]
    recorded: bool = True
    reserved: str = ""

    @property
    def agent(self) -> str:
        """Who has got the task."""
        return self.candidates[0].agent


class How(NamedTuple):
    """Which agent of which is taken, in words, and why one is not among them."""

    chosen: str
    passed_over: str


class Look(msgspec.Struct, frozen=True):
    """How the agents stand for a task just before it is placed: `costs` are the sum of `terms`, infinite
    where the task could never go; `within` are those that are chosen from, of `considered` that could ever
    take it. `policy` is that of the task, "" for the witness's; `barred` are those whose free slots are kept
    for others, None if none can be."""

    profile: TaskProfile
    key: int
    attempt: int
    hint: int
    terms: list[Term]
    costs: FloatRow
    within: BoolRow
    considered: int
    how: How
    task_s: float
    policy: str = ""
    barred: BoolRow | None = None


class Witness:
    """Takes down up to `left` more choices by the policy of this name."""

    __slots__ = ("_at_s", "_policy", "_recorded", "_unit", "left", "taken")

    def __init__(
        self,
        policy: str = "",
        at_s: float = 0.0,
        left: int = 0,
        unit: str = SECONDS,
        *,
        recorded: bool = True,
    ) -> None:
        self._policy = policy
        self._at_s = at_s
        self._unit = unit
        self._recorded = recorded
        self.left = left
        self.taken: list[Assignment] = []

    def keep(self, look: Look, row: int, snapshot: Snapshot, ledger: Ledger) -> None:
        """The task of this look has been placed on this row."""
        self.left -= 1
        lasts = lasting(snapshot, look.profile, look.key, look.hint, row)
        others = [
            _candidate(look, other, snapshot, _why_not(look, other, row, ledger))
            for other in _others(look, row)
        ]
        assignment = Assignment(
            key=look.key,
            attempt=look.attempt,
            at_s=self._at_s,
            policy=look.policy or self._policy,
            unit=self._unit,
            how=look.how.chosen,
            considered=look.considered,
            expected_s=lasts.seconds,
            low_s=lasts.quantile(-_TAIL),
            high_s=lasts.quantile(_TAIL),
            candidates=[_candidate(look, row, snapshot, ""), *others],
            recorded=self._recorded,
        )
        self.taken.append(assignment)

    def keep_first(self, look: Look, given: Sequence[Choice], snapshot: Snapshot, ledger: Ledger) -> None:
        """The same, if the task is among these."""
        choice = next((one for one in given if one.key == look.key), None)
        if choice is not None:
            self.keep(look, snapshot.agents.rows[choice.agent], snapshot, ledger)

    def note_reserved(self, choices: Sequence[Choice], snapshot: Snapshot, now_s: float) -> None:
        """Say of those taken down which slots that are kept for their namespaces they have, once all choices
        are made: what its namespace got there before it has the slots first."""
        if not self.taken or not snapshot.reserved:
            return
        at = {(one.key, one.attempt): number for number, one in enumerate(self.taken)}
        given: Counter[tuple[str, int]] = Counter()
        for choice in choices:
            graph, row = snapshot.graphs.of(choice.key), snapshot.agents.rows[choice.agent]
            if graph is None:
                continue
            namespace = graph.owner.namespace
            if (number := at.get((choice.key, choice.attempt))) is not None:
                slot = snapshot.reserved.slot_for(namespace, row, now_s, given[namespace, row])
                self.taken[number] = msgspec.structs.replace(self.taken[number], reserved=slot)
            given[namespace, row] += 1


def lasting(snapshot: Snapshot, profile: TaskProfile, key: int, hint: int, row: int) -> Expectation:
    """How long a task should take on an agent."""
    work = snapshot.work(profile, key, hint)
    log_speed, spread = snapshot.estimates.log_pace(kind_of(profile, hint), row)
    return Expectation.of(work.log_mean - log_speed, float(np.hypot(work.sigma, spread)), known=work.known)


def _candidate(look: Look, row: int, snapshot: Snapshot, lost: str) -> Candidate:
    parts = [Part(term.name, term.weight, term.value(row)) for term in look.terms]
    return Candidate(snapshot.agents.agent_id(row), sum(part.product for part in parts), parts, lost)


def _others(look: Look, row: int) -> list[int]:
    """The cheapest of the other agents: of those that could be had, and few of those that could not."""
    costs = look.costs.copy()
    costs[row] = np.inf
    cheaper = costs < look.costs.item(row)
    beyond = _cheapest(np.where(cheaper & ~look.within, costs, np.inf), OUT_OF_REACH)
    costs[~look.within] = np.inf
    return beyond + _cheapest(costs, RUNNERS_UP - len(beyond))


def _cheapest(costs: FloatRow, most: int) -> list[int]:
    rows = np.arange(len(costs)) if len(costs) <= most else np.argpartition(costs, most - 1)[:most]
    found: list[int] = rows[costs[rows].argsort(kind="stable")].tolist()
    return [row for row in found if costs.item(row) < np.inf]


def _why_not(look: Look, other: int, chosen: int, ledger: Ledger) -> str:
    more = look.costs.item(other) - look.costs.item(chosen)
    within = look.within.item(other)
    if within and more >= 0:
        most = max(look.terms, key=lambda term: term.at(other) - term.at(chosen))
        return f"costs {more:.3g} more, most of it by its {most.name}" if more else "costs as much"
    rows = np.array([other])
    for predicate in (*ROOM, *fitting(look.profile, ledger.agents)):
        if not predicate.holds(look.profile, look.task_s, ledger).item(other):
            return f"{predicate.reason}: {predicate.detail(look.profile, ledger, rows)}"
    if look.barred is not None and look.barred.item(other):
        return f"{RESERVED}: its free slots are kept for other namespaces"
    return _TYPICAL if within else look.how.passed_over
