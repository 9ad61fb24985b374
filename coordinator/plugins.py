"""The plug-ins that are installed beside this node: families of tasks, and placement policies.

A distribution offers them by entry points, as this one does its own; a name may be taken once. What they are
is found out here, where the node starts, and handed on: nothing else looks for plug-ins.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Final, NamedTuple

from coordinator.errors import ConfigError, PluginFailed
from coordinator.families.built_in import ALL as OWN_FAMILIES
from coordinator.families.family import Family
from coordinator.families.registry import Families
from coordinator.scheduling.agents.ledger import Ledger
from coordinator.scheduling.agents.lookahead import LookAhead
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.costs.policies import ALL as OWN_POLICIES
from coordinator.scheduling.costs.policies import Policies, Simple
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.settings import SchedulingSettings

FAMILIES: Final = "quorumflow.families"
"""The group of entry points that name a `Family` each."""

POLICIES: Final = "quorumflow.policies"
"""The group of entry points that name a `Policy`, or a `Simple`, each."""


class Plugins(NamedTuple):
    """What a node goes by; by default what this distribution brings."""

    families: Families = Families()
    policies: Policies = OWN_POLICIES


def installed() -> Plugins:
    """All that is installed. Raises PluginFailed."""
    families = _found(FAMILIES, [family.name for family in OWN_FAMILIES])
    policies = _found(POLICIES, list(OWN_POLICIES))
    return Plugins(
        Families([_family(point) for point in families.values()]),
        {name: _policy(point) for name, point in policies.items()},
    )


def wanted(scheduling: SchedulingSettings) -> Plugins:
    """All that is installed, with the policy that is set among it. Raises PluginFailed, ConfigError."""
    plugins = installed()
    if scheduling.policy not in plugins.policies:
        raise ConfigError(
            f"scheduling.policy is {scheduling.policy!r}; allowed: {', '.join(plugins.policies)}",
            key="scheduling.policy",
            value=scheduling.policy,
        )
    return plugins


def _found(group: str, own: list[str]) -> dict[str, EntryPoint]:
    """The entry points of a group by name, those of this distribution first."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        if point.name in found:
            raise _failed(point, f"{_source(found[point.name])} has that name, too: uninstall one of them")
        found[point.name] = point
    missing = [name for name in own if name not in found]
    if missing:
        raise PluginFailed(
            f"the plug-ins {', '.join(missing)} of {group} are not installed: install quorumflow again",
            group=group,
        )
    return {name: found[name] for name in (*own, *sorted(found.keys() - set(own)))}


def _load(point: EntryPoint) -> object:
    try:
        loaded: object = point.load()
    except Exception as error:
        raise _failed(point, f"it cannot be loaded: {error!r}") from error
    return loaded


def _family(point: EntryPoint) -> Family:
    family = _load(point)
    if not isinstance(family, Family):
        raise _failed(point, f"it is a {type(family).__name__}, not a coordinator.families.family.Family")
    if family.name != point.name:
        raise _failed(point, f"the family calls itself {family.name!r}: use one name for both")
    return family


def _policy(point: EntryPoint) -> Policy | Simple:
    policy = _load(point)
    if isinstance(policy, Policy):
        if policy.name != point.name:
            raise _failed(point, f"the policy calls itself {policy.name!r}: use one name for both")
        return policy
    if not callable(policy):
        raise _failed(point, f"it is a {type(policy).__name__}, neither a Policy nor an objective")
    try:
        objective = policy(Ledger(AgentTable(), LookAhead()), 0)
    except Exception as error:
        raise _failed(point, f"it makes no objective of a round: {error!r}") from error
    if not all(hasattr(objective, name) for name in ("terms", "cost", "draws")):
        raise _failed(point, f"it makes a {type(objective).__name__}, which has no costs")
    simple: Simple = policy
    return simple


def _failed(point: EntryPoint, what: str) -> PluginFailed:
    return PluginFailed(f"the plug-in {_source(point)}: {what}", group=point.group, name=point.name)


def _source(point: EntryPoint) -> str:
    dist = f" of {point.dist.name} {point.dist.version}" if point.dist is not None else ""
    return f"{point.name!r} in {point.group}{dist} ({point.value})"
