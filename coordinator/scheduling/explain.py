"""Why a task waits: the predicates that place, asked one by one (E10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec
import numpy as np

from coordinator.core.model import TaskProfile
from coordinator.core.namespaces import DEFAULT_NAMESPACE
from coordinator.core.reservations import ReservationRecord
from coordinator.scheduling.agents.feasibility import ROOM, STANDING, Needs, fitting, needs_of
from coordinator.scheduling.agents.groups import Groups
from coordinator.scheduling.agents.ledger import Ledger
from coordinator.scheduling.agents.reserved import RESERVED
from coordinator.scheduling.agents.rows import BoolRow, IntRow
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.plans.claims import QUOTA
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.graphs import Expected

NEAR_MISSES: Final = 5
"""Agents that lack one thing, in one explanation."""

GROUPS_SHOWN: Final = 20
"""Groups in one explanation, the largest."""


_RESERVED_LOOKED_AT: Final = 64
"""Agents whose slots are kept for others, for the one of them that has them back first."""

_NEVER_MS: Final = 1 << 62


class Refusal(msgspec.Struct, frozen=True):
    """A predicate and the `agents` that it refuses, counted. `example` is one of them, if possible one that
    nothing else refuses; `detail` says what the best of these lack."""

    reason: str
    agents: int
    example: str
    detail: str


class NearMiss(msgspec.Struct, frozen=True):
    """An agent that lacks one thing alone, and how much of it."""

    agent: str
    reason: str
    detail: str


class GroupView(msgspec.Struct, frozen=True):
    """The agents of a group: how many there are, could ever take the task and could now, and how many are
    refused for which reason. `groups_of` says which are an agent's; "" is that of agents without any."""

    name: str
    agents: int
    capable: int
    feasible: int
    refused: dict[str, int]


class Explanation(msgspec.Struct, frozen=True):
    """Of the `agents` known, `capable` ones could ever take the task and `feasible` ones could now. Refusals
    for what an agent is come first; those for what is free count capable agents only. One agent may be
    refused for several reasons. `unblocked_by` are the single changes that would each let it go, and
    `lost_s` is when the last agent went that could have taken it, as far as is known."""

    agents: int
    capable: int
    feasible: int
    refusals: list[Refusal]
    summary: str
    near_misses: list[NearMiss] = []
    groups: list[GroupView] = []
    unblocked_by: list[str] = []
    lost_s: float = 0.0

    @property
    def impossible(self) -> bool:
        """No agent that is known could ever take it."""
        return not self.capable


def explain(
    profile: TaskProfile,
    snapshot: Snapshot,
    hint: int = 0,
    kept: Expected | None = None,
    quota: str = "",
    now_s: float | None = None,
    namespace: str = DEFAULT_NAMESPACE,
) -> Explanation:
    """Where a task of this profile could go, and what stands in the way elsewhere. `hint` is what the client
    says of how long it takes (`Task.hint`): it decides on the room in queues. `kept` is the place that the
    last plan keeps for it. `quota` says which one of its `namespace` it would break. With the time,
    `unblocked_by` says when a slot should be free, and slots that are kept for others count."""
    agents = snapshot.agents
    ledger = Ledger(agents, snapshot.look_ahead)
    needs = needs_of(profile)
    task_s = snapshot.work_s(profile, 0, hint)
    known = agents.present[: agents.size]
    standing = _standing(needs, agents)
    passing = [
        _Verdict(one.reason, one.holds(profile, task_s, ledger), partial(one.detail, profile, ledger))
        for one in (*ROOM, *fitting(profile, agents))
    ]
    if now_s is not None:
        passing += _kept_off(profile, hint, snapshot, ledger, now_s, namespace)
    capable = _accepted(known, standing)
    feasible = _accepted(capable, passing)
    refusals = [*_refusals(known, standing, agents), *_refusals(capable, passing, agents)]
    counts = (int(known.sum()), int(capable.sum()), int(feasible.sum()))
    summary = _summary(*counts, refusals)
    if quota and capable.any():
        refusals.append(Refusal(QUOTA, counts[1], "", quota))
        return Explanation(counts[0], counts[1], 0, refusals, f"it waits for its quota: {quota}")
    if kept is not None and capable.any():
        where = agents.agent_id(kept.row)
        summary = f"it waits for agent {where}, where it should have ended in {kept.seconds:.1f} s; {summary}"
    everything = [*passing, *standing] if capable.any() else [*standing, *passing]
    misses = _missed(known, everything) or _missed(known, standing)
    return Explanation(
        *counts,
        refusals,
        summary,
        near_misses=_near_misses(misses, agents),
        groups=_groups(capable, feasible, [*standing, *passing], snapshot.groups.renew()),
        unblocked_by=[] if feasible.any() else _unblocking(misses, snapshot, now_s),
        lost_s=0.0 if capable.any() else snapshot.departed.latest(needs),
    )


class _Verdict(NamedTuple):
    """What a predicate says of every row, and how it describes the best of some that it refuses."""

    reason: str
    holds: BoolRow
    detail: Callable[[IntRow], str]


def _standing(needs: Needs, agents: AgentTable) -> list[_Verdict]:
    everywhere = slice(0, agents.size)
    return [
        _Verdict(one.reason, one.holds(needs, agents, everywhere), partial(one.detail, needs, agents))
        for one in STANDING
    ]


def _kept_off(
    profile: TaskProfile, hint: int, snapshot: Snapshot, ledger: Ledger, now_s: float, namespace: str
) -> list[_Verdict]:
    """Whether free slots are kept for other namespaces; nothing if none are anywhere."""
    barrier = snapshot.barrier(namespace, profile, 0, hint, now_s)
    if barrier is None:
        return []
    agents = snapshot.agents
    seconds = snapshot.work_s(profile, 0, hint) * snapshot.prices.renew().inverse_speed(profile.family)
    longest_s = barrier.longest_s(seconds)

    def of_others(row: int) -> ReservationRecord:
        return snapshot.reserved.of_others(namespace, row, now_s + longest_s.item(row), now_s)[0]

    def detail(refused: IntRow) -> str:
        rows: list[int] = refused[:_RESERVED_LOOKED_AT].tolist()
        row = min(rows, key=lambda one: of_others(one).end_ms or _NEVER_MS)
        return _keeps(of_others(row), agents.agent_id(row), longest_s.item(row), now_s)

    return [_Verdict(RESERVED, barrier.room(ledger, seconds) > 0, detail)]


def _keeps(one: ReservationRecord, agent_id: str, longest_s: float, now_s: float) -> str:
    slots = "all slots" if one.slots is None else f"{one.slots} slots"
    keeps = f"reservation {one.id} keeps {slots} of {agent_id} for namespace {one.namespace}"
    if (in_s := one.begin_ms / 1_000 - now_s) > 0:
        return f"{keeps} in {in_s:.1f} s, and the task may take {longest_s:.1f} s"
    end = f" for another {one.end_ms / 1_000 - now_s:.1f} s" if one.end_ms else ", without end"
    return keeps + end


def _accepted(among: BoolRow, verdicts: Sequence[_Verdict]) -> BoolRow:
    rows: BoolRow = np.logical_and.reduce([among, *(verdict.holds for verdict in verdicts)])
    return rows


def _refusals(among: BoolRow, verdicts: Sequence[_Verdict], agents: AgentTable) -> list[Refusal]:
    result = []
    for verdict in verdicts:
        refused = among & ~verdict.holds
        if refused.any():
            others = [other for other in verdicts if other is not verdict]
            narrowly = np.flatnonzero(_accepted(refused, others))
            nearest = narrowly if len(narrowly) else np.flatnonzero(refused)
            example = agents.agent_id(int(nearest[0]))
            result.append(Refusal(verdict.reason, int(refused.sum()), example, verdict.detail(nearest)))
    return result


def _missed(among: BoolRow, verdicts: Sequence[_Verdict]) -> list[tuple[_Verdict, IntRow]]:
    """By predicate, those whom nothing else refuses."""
    missed = []
    for verdict in verdicts:
        others = [other for other in verdicts if other is not verdict]
        rows = np.flatnonzero(_accepted(among & ~verdict.holds, others))
        if len(rows):
            missed.append((verdict, rows))
    return missed


def _near_misses(missed: Sequence[tuple[_Verdict, IntRow]], agents: AgentTable) -> list[NearMiss]:
    each = max(NEAR_MISSES // max(len(missed), 1), 1)
    return [
        NearMiss(agents.agent_id(int(row)), verdict.reason, verdict.detail(np.array([row])))
        for verdict, rows in missed[:NEAR_MISSES]
        for row in rows[:each]
    ]


def _unblocking(
    missed: Sequence[tuple[_Verdict, IntRow]], snapshot: Snapshot, now_s: float | None
) -> list[str]:
    changes = []
    for verdict, rows in missed:
        change = f"{len(rows)} x {verdict.reason}: {verdict.detail(rows)}"
        if verdict.reason == "capacity" and now_s is not None:
            waits = snapshot.running.waits(now_s)[rows]
            agent_id = snapshot.agents.agent_id(int(rows[waits.argmin()]))
            change += f"; {agent_id} should have a slot free in {waits.min():.1f} s"
        changes.append(change)
    return changes


def _groups(
    capable: BoolRow, feasible: BoolRow, verdicts: Sequence[_Verdict], groups: Groups
) -> list[GroupView]:
    """The largest first."""
    largest = sorted(zip((-groups.sizes).tolist(), groups.names, range(len(groups)), strict=True))
    views = []
    for _, name, number in largest[:GROUPS_SHOWN]:
        rows = groups.of(number)
        counts = {one.reason: len(rows) - int(one.holds[rows].sum()) for one in verdicts}
        refused = {reason: count for reason, count in counts.items() if count}
        views.append(GroupView(name, len(rows), int(capable[rows].sum()), int(feasible[rows].sum()), refused))
    return views


def _summary(agents: int, capable: int, feasible: int, refusals: Sequence[Refusal]) -> str:
    if feasible:
        return f"{feasible} of {agents} agents can take it: it waits for its turn"
    if not agents:
        return "no agent is known"
    reasons = "; ".join(f"{refusal.agents} x {refusal.reason}: {refusal.detail}" for refusal in refusals)
    if not capable:
        return f"impossible: none of the {agents} agents known could ever take it ({reasons})"
    return f"none of the {capable} agents that could take it can do so now ({reasons})"
