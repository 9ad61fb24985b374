"""The agents of a snapshot, by row: arrays for what is counted, columns for what is looked up by name.

Rows are reused. A row's `version` changes whenever what the agent *is* changes (it comes, goes, or opens a
session with another specification), not with what it holds; caches over rows renew only those that changed
since. Columns (the level of one capability, who has one tool, ...) are made when a task first asks for them,
and maintained from then on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from heapq import heappop, heappush
from typing import Final

import msgspec
import numpy as np

from coordinator.core.model import AgentLoad, AgentSpec, Resources, TaskProfile
from coordinator.families.registry import Families
from coordinator.scheduling.agents.rows import AgentRows, BoolRow, IntRow
from coordinator.scheduling.agents.standing import Standing

COLUMNS_KEPT: Final = 4_096
"""Columns kept; beyond them all are dropped and made anew as they are asked for."""

NAMES: Final[Mapping[str, Callable[[AgentSpec], Collection[object]]]] = {
    "type": lambda spec: spec.task_types,
    "label": lambda spec: spec.labels,
    "tool": lambda spec: spec.tools,
    "permission": lambda spec: spec.permissions,
    "environment": lambda spec: spec.environments,
    "protocol": lambda spec: spec.protocols,
    "model": lambda spec: spec.cached_models,
    "data": lambda spec: (*spec.data, spec.agent_id, spec.zone),
}
"""Kinds of names that an agent has; a label is a pair."""

LIMITS: Final[Mapping[str, Callable[[AgentSpec], tuple[tuple[str, int], ...]]]] = {
    "tool": lambda spec: spec.tool_limits,
    "model": lambda spec: spec.model_limits,
}
"""Kinds of names that an agent may bound the tasks of."""

Use = tuple[str, str]
"""A tool or model: a key of `LIMITS`, and a name."""

UNBOUNDED: Final = 1 << 62

NO_RESOURCES: Final = Resources()


def resource_vector(resources: Resources) -> IntRow:
    """In the order of `RESOURCE_FIELDS`."""
    return np.array(msgspec.structs.astuple(resources), np.int64)


def uses_of(profile: TaskProfile) -> tuple[Use, ...]:
    """The tool and the model that a task of this profile uses."""
    needs = profile.requirements.needs
    if not needs.tool and not needs.model:
        return ()
    return tuple((kind, name) for kind, name in (("tool", needs.tool), ("model", needs.model)) if name)


def load_score(load: AgentLoad) -> float:
    """The higher of CPU and memory. Anything but a fraction counts as fully loaded."""
    score = max(load.cpu, load.memory)
    return score if 0 <= score <= 1 else 1.0


class Held(msgspec.Struct, frozen=True):
    """An attempt that an agent holds, and its expected duration in seconds."""

    profile: TaskProfile
    seconds: float


class AgentTable(AgentRows):
    """What is known of the agents of each row beside what is counted. `refusing` says why an agent takes
    nothing new, "" where it does."""

    def __init__(self, families: Families | None = None) -> None:
        super().__init__()
        self.families = families or Families()
        self.rows: dict[str, int] = {}
        self.specs: list[AgentSpec | None] = []
        self.refusing: list[str] = []
        self.held_attempts: list[dict[tuple[int, int], Held]] = []
        self.latest_version = 0
        self.latest_touch = 0
        self._vacant: list[int] = []
        self._levels: dict[str, IntRow] = {}
        self._flags: dict[tuple[str, object], BoolRow] = {}
        self._groups: dict[str, IntRow] = {}
        self._users: dict[Use, IntRow] = {}
        self._limits: dict[Use, IntRow] = {}
        self._bounding: Counter[Use] = Counter()
        """How many agents bound the tasks of each tool and model."""
        self._standing = Standing(self)

    def agent_id(self, row: int) -> str:
        """Of the agent in this row, "" if it is vacant."""
        return self.ids[row]

    def put(self, spec: AgentSpec, epoch: int, refusing: str = "") -> None:
        """Add an agent or renew what is known of it; what it holds stays."""
        row = self.rows.get(spec.agent_id)
        if row is None:
            row = self._new_row(spec.agent_id)
        self.epochs[row] = epoch
        self.refusing[row] = refusing
        self.accepting[row] = not refusing
        self._standing.changed(row)
        if spec == self.specs[row]:
            return
        self._count_limits(row, -1)
        self.specs[row] = spec
        self._count_limits(row, 1)
        self.slots[row] = max(1, spec.slots)
        self.credit[row] = spec.credit
        self.speed[row] = spec.speed
        self.busy_watts[row] = spec.busy_watts
        self.free[row] -= self.total[row]
        self.total[row] = resource_vector(spec.resources)
        self.free[row] += self.total[row]
        self._fill_columns(row)
        self._bump(row)

    def remove(self, agent_id: str) -> None:
        """Forget an agent and what it holds; one that is not there is fine."""
        row = self.rows.pop(agent_id, None)
        if row is None:
            return
        self._count_limits(row, -1)
        self.specs[row] = None
        self.ids[row] = ""
        self.refusing[row] = ""
        self.held_attempts[row] = {}
        self.present[row] = self.accepting[row] = False
        self.held[row] = 0
        for array in (self.held_s, self.load, self.latency_ms, self.total, self.free):
            array[row] = 0
        for column in (*self._groups.values(), *self._users.values()):
            column[row] = 0
        heappush(self._vacant, row)
        self._standing.changed(row)
        self._bump(row)

    def hold(self, agent_id: str, key: int, attempt: int, profile: TaskProfile, seconds: float) -> None:
        """The agent has been given this attempt, which is expected to last `seconds`. Doing so twice changes
        nothing."""
        row = self.rows.get(agent_id)
        if row is None or (key, attempt) in self.held_attempts[row]:
            return
        self.held_attempts[row][key, attempt] = Held(profile, seconds)
        self._account(row, profile, 1)
        self.held_s[row] += seconds
        self._standing.changed(row)

    def release(self, agent_id: str, key: int, attempt: int) -> None:
        """The agent has it no more. One that it did not hold is fine."""
        row = self.rows.get(agent_id)
        held = self.held_attempts[row].pop((key, attempt), None) if row is not None else None
        if row is None or held is None:
            return
        self._account(row, held.profile, -1)
        # Floats do not add up exactly: an idle agent must have no work at all.
        self.held_s[row] = self.held_s[row] - held.seconds if self.held_attempts[row] else 0.0
        self._standing.changed(row)

    def set_load(self, agent_id: str, load: AgentLoad) -> None:
        """What the agent measured; `load_score` is what counts."""
        row = self.rows.get(agent_id)
        if row is None:
            return
        self.load[row] = load_score(load)
        self.latency_ms[row] = load.latency_ms if load.latency_ms >= 0 else 0.0
        self._touch(row)

    def standing(self) -> Standing:
        """How the agents stand now."""
        return self._standing.renew()

    def levels(self, capability: str) -> IntRow:
        """Per row the level of this capability, -1 without it."""
        column = self._levels.get(capability)
        if column is None:
            column = self._levels[capability] = np.full(len(self.version), -1, np.int64)
            for row, spec in self._known():
                column[row] = dict(spec.capabilities).get(capability, -1)
            self._bound_columns()
        return column

    def flags(self, kind: str, name: object) -> BoolRow:
        """Per row whether the agent has this name among those of `kind`, a key of `NAMES`."""
        column = self._flags.get((kind, name))
        if column is None:
            column = self._flags[kind, name] = np.zeros(len(self.version), np.bool_)
            for row, spec in self._known():
                column[row] = name in NAMES[kind](spec)
            self._bound_columns()
        return column

    def groups(self, name: str) -> IntRow:
        """Per row the attempts held whose tasks belong to this anti-affinity group."""
        column = self._groups.get(name)
        if column is None:
            column = self._groups[name] = np.zeros(len(self.version), np.int64)
            for row in self.rows.values():
                attempts = self.held_attempts[row].values()
                column[row] = sum(name in held.profile.requirements.anti_affinity for held in attempts)
            self._bound_columns()
        return column

    def users(self, use: Use) -> IntRow:
        """Per row the attempts held that use this tool or model."""
        column = self._users.get(use)
        if column is None:
            column = self._users[use] = np.zeros(len(self.version), np.int64)
            for row in self.rows.values():
                attempts = self.held_attempts[row].values()
                column[row] = sum(use in uses_of(held.profile) for held in attempts)
            self._bound_columns()
        return column

    def limits(self, use: Use) -> IntRow:
        """Per row how many attempts that use this tool or model the agent takes, `UNBOUNDED` where it does
        not say."""
        column = self._limits.get(use)
        if column is None:
            column = self._limits[use] = np.full(len(self.version), UNBOUNDED, np.int64)
            for row, spec in self._known():
                column[row] = _limit(spec, use)
            self._bound_columns()
        return column

    def bounded(self, uses: tuple[Use, ...]) -> tuple[Use, ...]:
        """Those of the tools and models that any agent bounds."""
        return tuple(use for use in uses if use in self._bounding) if self._bounding else ()

    def _count_limits(self, row: int, sign: int) -> None:
        spec = self.specs[row]
        if spec is None or not (spec.tool_limits or spec.model_limits):
            return
        for kind, limits in LIMITS.items():
            for name, _ in limits(spec):
                self._bounding[kind, name] += sign
                if not self._bounding[kind, name]:
                    del self._bounding[kind, name]

    def _known(self) -> list[tuple[int, AgentSpec]]:
        return [(row, spec) for row, spec in enumerate(self.specs) if spec is not None]

    def _account(self, row: int, profile: TaskProfile, sign: int) -> None:
        self.held[row] += sign
        requirements = profile.requirements
        if requirements.resources != NO_RESOURCES:
            self.free[row] -= sign * resource_vector(requirements.resources)
        for group in requirements.anti_affinity:
            if group in self._groups:
                self._groups[group][row] += sign
        uses = uses_of(profile)
        for use in uses:
            if use in self._users:
                self._users[use][row] += sign
        if uses:
            self._touch(row)

    def _new_row(self, agent_id: str) -> int:
        if self._vacant:
            row = heappop(self._vacant)
        else:
            row = self.size
            if self.add_row():
                self._drop_columns()
            self.specs.append(None)
            self.refusing.append("")
            self.held_attempts.append({})
        self.rows[agent_id] = row
        self.ids[row] = agent_id
        self.present[row] = True
        return row

    def _fill_columns(self, row: int) -> None:
        spec = self.specs[row]
        assert spec is not None
        levels = dict(spec.capabilities)
        for capability, level_column in self._levels.items():
            level_column[row] = levels.get(capability, -1)
        for (kind, name), flag_column in self._flags.items():
            flag_column[row] = name in NAMES[kind](spec)
        for use, limit_column in self._limits.items():
            limit_column[row] = _limit(spec, use)

    def _bound_columns(self) -> None:
        by_name = len(self._levels) + len(self._flags) + len(self._groups)
        if by_name + len(self._users) + len(self._limits) > COLUMNS_KEPT:
            self._drop_columns()

    def _drop_columns(self) -> None:
        self._levels, self._flags, self._groups, self._users, self._limits = {}, {}, {}, {}, {}

    def _bump(self, row: int) -> None:
        self.latest_version += 1
        self.version[row] = self.latest_version
        self._touch(row)

    def _touch(self, row: int) -> None:
        self.latest_touch += 1
        self.touched[row] = self.latest_touch


def _limit(spec: AgentSpec, use: Use) -> int:
    kind, name = use
    return dict(LIMITS[kind](spec)).get(name, UNBOUNDED)
