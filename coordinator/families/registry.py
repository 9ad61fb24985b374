"""The families that a node knows, and the calls into them.

Families may be other people's code: what raises or answers nonsense is named in `faults`, and does no harm
beyond its own tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from coordinator.core.model import Requirements, TaskFamily, TaskProfile
from coordinator.errors import InvalidRequest, PluginFailed
from coordinator.families.built_in import ALL, MIXED_LOAD
from coordinator.families.family import Agents, BoolRow, Family, FloatRow, Offers
from coordinator.families.load_weights import LoadWeights

LONGEST_SETUP_S: Final = 86_400.0
"""What a family says that a task costs beside its work counts as no more."""

NO_FAMILY: Final = Family(name=TaskFamily.UNSPECIFIED.name.lower())
"""That of tasks which name none."""


class Families:
    """By name. Every node of a cluster should know the same: the one that leads asks its own."""

    def __init__(self, families: Iterable[Family] = ALL) -> None:
        """Raises PluginFailed where two have the same name."""
        self._by_name = {NO_FAMILY.name: NO_FAMILY}
        for family in families:
            if family.name in self._by_name:
                raise PluginFailed(f"there are two families named {family.name!r}", name=family.name)
            self._by_name[family.name] = family
        self._of_six = {family: self._by_name.get(family.name.lower()) for family in TaskFamily}
        self.faults: dict[str, str] = {}
        """By family, what went wrong when it was last asked."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all that a task may name."""
        return tuple(name for name in self._by_name if name != NO_FAMILY.name)

    def named(self, name: str) -> Family:
        """The family of this name. Raises InvalidRequest."""
        family = self._by_name.get(name)
        if family is None:
            raise InvalidRequest(
                f"there is no task family {name!r}: give one of {', '.join(self.names)}, or install its "
                "plug-in on every node",
                family=name,
            )
        return family

    def of(self, profile: TaskProfile) -> Family | None:
        """That of a task; None if this node does not know it."""
        name = profile.family_name
        return self._by_name.get(name) if name else self._of_six[profile.family]

    def load_weights(self, family: TaskFamily, name: str = "") -> LoadWeights:
        """Those of the LoadScore for tasks of one of the six, or of a plug-in's family of this name that is
        like it: its own, if it has any."""
        named, like = self._by_name.get(name), self._of_six[family]
        for one in (named, like):
            if one is not None and one.load is not None:
                return one.load
        return MIXED_LOAD

    def check(self, family: Family, requirements: Requirements) -> str:
        """What the family has against these requirements, "" if nothing. Raises PluginFailed."""
        try:
            return family.check(requirements)
        except Exception as error:
            raise PluginFailed(
                f"the family {family.name!r} failed to check a task: {error!r}", name=family.name
            ) from error

    def takes(self, name: str, requirements: Requirements, offers: Offers, like: BoolRow) -> BoolRow:
        """Which of these agents, in the shape of `like`, the family of a plug-in allows; none of them if it
        is not known, or fails."""
        family = self._by_name.get(name)
        if family is None:
            return np.zeros_like(like)
        if family.takes is None:
            return np.ones_like(like)
        try:
            row = np.asarray(family.takes(requirements, offers), np.bool_)
        except Exception as error:
            self.faults[name] = f"its `takes` failed: {error!r}"
            return np.zeros_like(like)
        if row.shape != like.shape:
            self.faults[name] = f"its `takes` gave an array of shape {row.shape}, not {like.shape}"
            return np.zeros_like(like)
        return row

    def refusal(self, name: str) -> str:
        """Why agents do not get the tasks of a plug-in's family."""
        if name not in self._by_name:
            return f"the family {name} is not installed on the leader, which knows {', '.join(self.names)}"
        return f"the family {name} does not allow them" + (
            f": {self.faults[name]}" if name in self.faults else ""
        )

    def setup_s(self, family: Family, requirements: Requirements, agents: Agents) -> FloatRow | None:
        """What a task costs on each of these agents beside its work, 0 to `LONGEST_SETUP_S`; None where there
        is no such cost, or the family fails."""
        if family.setup_s is None:
            return None
        try:
            row = family.setup_s(requirements, agents)
            if row is None:
                return None
            seconds = np.nan_to_num(np.asarray(row, np.float64), nan=0.0)
        except Exception as error:
            self.faults[family.name] = f"its `setup_s` failed: {error!r}"
            return None
        return np.clip(seconds, 0.0, LONGEST_SETUP_S)
