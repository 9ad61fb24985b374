"""Who may take a task: named predicates over agents, the only place where a hard constraint is decided.

Standing predicates compare what a task needs with what agents are; their conjunction is cached per kind of
task and renewed only for agents that changed. Passing ones compare it with what is free now, on a ledger.
Each is vectorised, true where the agent will do, and can say of an agent that will not what is missing. To
add one: a function, and its line in `STANDING` or `FITTING`; plans, statistics and explanations follow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

import msgspec
import numpy as np

from coordinator.core.model import Requirements, Resources, TaskProfile
from coordinator.scheduling.agents.ledger import GROUP, Ledger
from coordinator.scheduling.agents.offers import Offered
from coordinator.scheduling.agents.rows import RESOURCE_FIELDS, BoolRow, IntRow, Rows
from coordinator.scheduling.agents.table import NO_RESOURCES, AgentTable, Use, resource_vector, uses_of

KINDS_KEPT: Final = 10_000
"""Kinds of tasks whose feasible agents are remembered; beyond them all are forgotten and found again."""

REASONS_SHOWN: Final = 5
"""Of those for which agents take nothing new, in one explanation."""

IMPOSSIBLE: Final = "impossible"
"""The reason where no agent that is known could ever take a task."""


class Needs(msgspec.Struct, frozen=True, cache_hash=True):
    """What decides who may ever take a task: profiles that differ in nothing else share it. `family` is that
    of a plug-in, "" for one of the six: they have no hard constraints but those that all tasks have."""

    type: str
    requirements: Requirements
    family: str = ""


class Standing(NamedTuple):
    """A predicate on what agents are. `detail` describes the best of the agents that it refuses, given their
    rows."""

    reason: str
    holds: Callable[[Needs, AgentTable, Rows], BoolRow]
    detail: Callable[[Needs, AgentTable, IntRow], str]


class Passing(NamedTuple):
    """A predicate on what is free, for the profiles that it `concerns`, given which of the tools and models
    that they use some agent bounds. `task_s`, the expected duration, decides on the room in queues. Nothing
    that is booked changes what is `fixed`; of all else `Ledger.fits` says the same for one agent."""

    reason: str
    concerns: Callable[[TaskProfile, tuple[Use, ...]], bool]
    holds: Callable[[TaskProfile, float, Ledger], BoolRow]
    detail: Callable[[TaskProfile, Ledger, IntRow], str]
    fixed: bool = False


@lru_cache(maxsize=KINDS_KEPT)
def needs_of(profile: TaskProfile) -> Needs:
    """The part of a profile that standing predicates look at."""
    return Needs(profile.type, profile.requirements, profile.family_name)


def could_take(needs: Needs, agents: AgentTable, rows: Rows) -> BoolRow:
    """The conjunction of all standing predicates over these rows."""
    result = agents.present[rows].copy()
    for predicate in STANDING:
        result &= predicate.holds(needs, agents, rows)
    return result


def fitting(profile: TaskProfile, agents: AgentTable) -> tuple[Passing, ...]:
    """The predicates of `FITTING` that concern a profile; for most there are none."""
    return _fitting(profile, agents.bounded(uses_of(profile)))


@lru_cache(maxsize=KINDS_KEPT)
def _fitting(profile: TaskProfile, bounded: tuple[Use, ...]) -> tuple[Passing, ...]:
    return tuple(predicate for predicate in FITTING if predicate.concerns(profile, bounded))


@lru_cache(maxsize=KINDS_KEPT)
def fixed(profile: TaskProfile) -> tuple[Passing, ...]:
    """Those of them that nothing booked changes."""
    return tuple(predicate for predicate in _fitting(profile, ()) if predicate.fixed)


def blocked_by(profile: TaskProfile, task_s: float, ledger: Ledger, rows: BoolRow) -> str:
    """Why none of `rows`, those that could ever take the task, can do so now: the reason of the predicate
    after which none are left, `IMPOSSIBLE` where there were none to begin with, "" where one can."""
    if not rows.any():
        return IMPOSSIBLE
    for predicate in (*ROOM, *fitting(profile, ledger.agents)):
        rows = rows & predicate.holds(profile, task_s, ledger)
        if not rows.any():
            return predicate.reason
    return ""


# --- what agents are ----------------------------------------------------------------------------------------


def _handles_type(needs: Needs, agents: AgentTable, rows: Rows) -> BoolRow:
    return agents.flags("type", needs.type)[rows] | agents.flags("type", "*")[rows]


def _has_capabilities(needs: Needs, agents: AgentTable, rows: Rows) -> BoolRow:
    wanted = needs.requirements.capabilities
    return _all([agents.levels(name)[rows] >= level for name, level in wanted], agents.present[rows])


def _best_level(needs: Needs, agents: AgentTable, refused: IntRow) -> str:
    parts = []
    for name, level in needs.requirements.capabilities:
        best = int(agents.levels(name)[refused].max())
        if best < level:
            parts.append(f"needs {name} >= {level}, " + (f"best has {best}" if best >= 0 else "none has it"))
    return "; ".join(parts) or "no agent has all of the capabilities at once"


def _fits_at_all(needs: Needs, agents: AgentTable, rows: Rows) -> BoolRow:
    wanted = needs.requirements.resources
    if wanted == NO_RESOURCES:
        return np.ones_like(agents.present[rows])
    return _fits(wanted, agents.total[rows])


def _largest_total(needs: Needs, agents: AgentTable, refused: IntRow) -> str:
    return _short_of(needs.requirements.resources, agents.total[refused], "has")


def _named(kind: str, wanted: Callable[[Requirements], tuple[Any, ...]]) -> Standing:
    """The agent has every one of the names of this kind that the task wants."""

    def holds(needs: Needs, agents: AgentTable, rows: Rows) -> BoolRow:
        return _all(
            [agents.flags(kind, name)[rows] for name in wanted(needs.requirements)], agents.present[rows]
        )

    def detail(needs: Needs, agents: AgentTable, refused: IntRow) -> str:
        names = wanted(needs.requirements)
        missing = [name for name in names if not agents.flags(kind, name)[refused].all()]
        shown = ", ".join("=".join(name) if isinstance(name, tuple) else name for name in missing)
        return f"needs the {kind} {shown}"

    return Standing(kind, holds, detail)


def _family_takes(needs: Needs, agents: AgentTable, rows: Rows) -> BoolRow:
    like = agents.present[rows]
    if not needs.family:
        return np.ones_like(like)
    return agents.families.takes(needs.family, needs.requirements, Offered(agents, rows), like)


def _optional(name: str) -> tuple[str, ...]:
    return (name,) if name else ()


# --- what is free now ---------------------------------------------------------------------------------------


def _accepts(profile: TaskProfile, task_s: float, ledger: Ledger) -> BoolRow:
    return ledger.accepting


def _refusals(profile: TaskProfile, ledger: Ledger, refused: IntRow) -> str:
    reasons = sorted({ledger.agents.refusing[row] for row in refused})
    more = [f"{len(reasons) - REASONS_SHOWN} more reasons"] if len(reasons) > REASONS_SHOWN else []
    return ", ".join(reasons[:REASONS_SHOWN] + more)


def _has_room(profile: TaskProfile, task_s: float, ledger: Ledger) -> BoolRow:
    return ledger.room(task_s)


def _least_busy(profile: TaskProfile, ledger: Ledger, refused: IntRow) -> str:
    row = int(refused[np.argmin(ledger.held[refused] / ledger.slots[refused])])
    return (
        f"all are busy: {ledger.agents.agent_id(row)} holds {ledger.held[row]} attempts "
        f"with {ledger.slots[row]} slots and a credit of {ledger.credit[row]}"
    )


def _fits_now(profile: TaskProfile, task_s: float, ledger: Ledger) -> BoolRow:
    return _fits(profile.requirements.resources, ledger.free)


def _largest_free(profile: TaskProfile, ledger: Ledger, refused: IntRow) -> str:
    return _short_of(profile.requirements.resources, ledger.free[refused], "has free")


def _is_apart(profile: TaskProfile, task_s: float, ledger: Ledger) -> BoolRow:
    places = [ledger.places((GROUP, name)) > 0 for name in profile.requirements.anti_affinity]
    return _all(places, ledger.accepting)


def _groups_held(profile: TaskProfile, ledger: Ledger, refused: IntRow) -> str:
    wanted = profile.requirements.anti_affinity
    groups = [name for name in wanted if (ledger.places((GROUP, name))[refused] < 1).any()]
    return f"they hold tasks of the group {', '.join(groups)}"


def _answers_in_time(profile: TaskProfile, task_s: float, ledger: Ledger) -> BoolRow:
    return ledger.latency_ms <= profile.requirements.needs.max_latency_ms


def _least_latency(profile: TaskProfile, ledger: Ledger, refused: IntRow) -> str:
    wanted = profile.requirements.needs.max_latency_ms
    return f"needs a latency <= {wanted} ms, the best measured {ledger.latency_ms[refused].min():.1f} ms"


def used_up(use: Use) -> str:
    """The reason of tasks for which no agent takes one more of this tool, model or group."""
    kind, _ = use
    return GROUP if kind == GROUP else f"{kind}_limit"


def _bounded(kind: str) -> Passing:
    """The agent takes one more task of the tool or model that this one uses."""

    def use_of(profile: TaskProfile) -> Use:
        needs = profile.requirements.needs
        return kind, needs.tool if kind == "tool" else needs.model

    def concerns(profile: TaskProfile, bounded: tuple[Use, ...]) -> bool:
        return use_of(profile) in bounded

    def holds(profile: TaskProfile, task_s: float, ledger: Ledger) -> BoolRow:
        has_place: BoolRow = ledger.places(use_of(profile)) > 0
        return has_place

    def detail(profile: TaskProfile, ledger: Ledger, refused: IntRow) -> str:
        use, agents = use_of(profile), ledger.agents
        row = int(refused[np.argmin(agents.users(use)[refused])])
        held, most = agents.users(use)[row], agents.limits(use)[row]
        return f"{agents.agent_id(row)}: {held} of at most {most} tasks of the {kind} {use[1]} at once"

    return Passing(used_up((kind, "")), concerns, holds, detail)


def _fits(wanted: Resources, offered: IntRow) -> BoolRow:
    """What is not wanted may be overdrawn."""
    needed = resource_vector(wanted)
    return cast(BoolRow, ((offered >= needed) | (needed == 0)).all(axis=1))


def _short_of(wanted: Resources, offered: IntRow, has: str) -> str:
    needed = resource_vector(wanted)
    best = offered.max(axis=0)
    parts = [
        f"needs {field} {needed[at]:,}, best {has} {best[at]:,}"
        for at, field in enumerate(RESOURCE_FIELDS)
        if needed[at] > best[at]
    ]
    return "; ".join(parts) or f"no agent {has} all of the resources at once"


def _all(parts: list[Any], like: BoolRow) -> BoolRow:
    """The conjunction; all true, in the shape of `like`, where there is nothing to join."""
    if not parts:
        return np.ones_like(like)
    result: BoolRow = np.logical_and.reduce(parts)
    return result


STANDING: Final = (
    Standing("type", _handles_type, lambda needs, agents, refused: f"no handler for the type {needs.type!r}"),
    Standing("capability", _has_capabilities, _best_level),
    Standing("resources", _fits_at_all, _largest_total),
    _named("label", lambda wanted: wanted.labels),
    _named("tool", lambda wanted: _optional(wanted.needs.tool)),
    _named("permission", lambda wanted: wanted.needs.permissions),
    _named("environment", lambda wanted: _optional(wanted.needs.environment)),
    _named("protocol", lambda wanted: _optional(wanted.needs.protocol)),
    Standing("family", _family_takes, lambda needs, agents, refused: agents.families.refusal(needs.family)),
)
"""Together they decide whether an agent could ever take a task."""

ROOM: Final = (
    Passing("accepting", lambda profile, bounded: True, _accepts, _refusals),
    Passing("capacity", lambda profile, bounded: True, _has_room, _least_busy),
)
"""Whether an agent takes anything at all now: what `Ledger.slot_free` and `Ledger.queue_free` say."""

FITTING: Final = (
    Passing(
        "latency",
        lambda profile, bounded: profile.requirements.needs.max_latency_ms > 0,
        _answers_in_time,
        _least_latency,
        fixed=True,
    ),
    Passing(
        "free_resources",
        lambda profile, bounded: profile.requirements.resources != NO_RESOURCES,
        _fits_now,
        _largest_free,
    ),
    _bounded("tool"),
    _bounded("model"),
    Passing(
        GROUP,
        lambda profile, bounded: bool(profile.requirements.anti_affinity),
        _is_apart,
        _groups_held,
    ),
)
"""Whether this task fits beside what the agent holds."""
