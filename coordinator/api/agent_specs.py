"""What an agent says of itself, from the wire, within bounds: every node keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from coordinator.api import convert
from coordinator.config import LimitsSection
from coordinator.core.model import AgentSpec
from coordinator.errors import InvalidRequest, LimitExceeded
from quorumflow_proto.v1 import agent_pb2

MAX_NAME_CHARS: Final = 256
"""Characters of an agent's ids, and of each name that it gives."""

MAX_NAMES: Final = 1_000
"""Names of one kind that an agent gives: types, capabilities, labels, tools, limits, groups, ..."""

MAX_DATA: Final = 10_000
"""Data items and locations that an agent names."""

MAX_SPEED: Final = 1_000.0
"""Highest speed, relative to other agents."""

MAX_BUSY_WATTS: Final = 1_000_000.0
"""Highest power of one busy slot."""


def spec_from_hello(hello: agent_pb2.Hello, limits: LimitsSection) -> AgentSpec:
    """What the agent is. Raises InvalidRequest, or LimitExceeded for what is out of bounds."""
    if not all(0 < len(one) <= MAX_NAME_CHARS for one in (hello.agent_id, hello.instance_id)):
        raise InvalidRequest(f"agent_id and instance_id must have 1 to {MAX_NAME_CHARS} characters")
    credit = max(hello.credit, hello.slots)
    if not 0 < hello.slots <= credit <= limits.max_slots:
        raise LimitExceeded(
            f"agent {hello.agent_id!r} offers {hello.slots} slots and a credit of {credit}; "
            f"allowed: 1 <= slots <= credit <= {limits.max_slots} (limits.max_slots)",
            setting="limits.max_slots",
            limit=limits.max_slots,
            value=credit,
        )
    return AgentSpec(
        agent_id=hello.agent_id,
        instance_id=hello.instance_id,
        slots=hello.slots,
        credit=credit,
        task_types=_sorted("task_types", hello.task_types) or ("*",),
        capabilities=_capabilities(hello),
        resources=convert.resources_from_proto(hello.resources),
        labels=_labels(hello),
        zone=_bounded("zone", (hello.zone,))[0],
        tools=_sorted("tools", hello.tools),
        permissions=_sorted("permissions", hello.permissions),
        environments=_sorted("environments", hello.environments),
        protocols=_sorted("protocols", hello.protocols),
        cached_models=_sorted("cached_models", hello.cached_models),
        speed=_speed(hello),
        busy_watts=_busy_watts(hello),
        tool_limits=_at_once("tool_limits", hello.tool_limits),
        model_limits=_at_once("model_limits", hello.model_limits),
        data=_bounded("data", tuple(sorted(hello.data)), "MAX_DATA", MAX_DATA),
        groups=_sorted("groups", hello.groups),
    )


def _capabilities(hello: agent_pb2.Hello) -> tuple[tuple[str, int], ...]:
    _bounded("capabilities", tuple(one.name for one in hello.capabilities))
    return convert.capabilities(hello.capabilities)


def _labels(hello: agent_pb2.Hello) -> tuple[tuple[str, str], ...]:
    _bounded("labels", tuple(hello.labels))
    _bounded("labels", tuple(hello.labels.values()))
    return convert.pairs(hello.labels)


def _speed(hello: agent_pb2.Hello) -> float:
    # NaN compares false, and is refused with the rest.
    if not hello.HasField("speed") or 0 < hello.speed <= MAX_SPEED:
        return hello.speed if hello.HasField("speed") else 1.0
    raise LimitExceeded(
        f"agent {hello.agent_id!r} says that its speed is {hello.speed}; allowed: above 0, at most "
        f"{MAX_SPEED:g}, where 1 is the speed of a usual agent",
        setting="MAX_SPEED",
        limit=MAX_SPEED,
        value=hello.speed,
    )


def _busy_watts(hello: agent_pb2.Hello) -> float:
    if 0 <= hello.busy_watts <= MAX_BUSY_WATTS:
        return hello.busy_watts
    raise LimitExceeded(
        f"agent {hello.agent_id!r} says that a busy slot takes {hello.busy_watts} W; allowed: 0 (not "
        f"known) to {MAX_BUSY_WATTS:g}",
        setting="MAX_BUSY_WATTS",
        limit=MAX_BUSY_WATTS,
        value=hello.busy_watts,
    )


def _at_once(kind: str, limits: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    none = next((name for name, limit in limits.items() if limit < 1), None)
    if none is not None:
        raise InvalidRequest(f"{kind} of {none!r} is 0; a limit is 1 or more, and there need be none")
    _bounded(kind, tuple(limits))
    return tuple(sorted(limits.items()))


def _sorted(kind: str, names: Iterable[str]) -> tuple[str, ...]:
    return _bounded(kind, tuple(sorted(names)))


def _bounded(
    kind: str, names: tuple[str, ...], setting: str = "MAX_NAMES", most: int = MAX_NAMES
) -> tuple[str, ...]:
    if len(names) > most:
        raise LimitExceeded(
            f"the agent has {len(names)} {kind}, at most {most} are kept ({setting}); name those that tasks "
            "ask for",
            setting=setting,
            limit=most,
            value=len(names),
        )
    longest = max(map(len, names), default=0)
    if longest > MAX_NAME_CHARS:
        raise LimitExceeded(
            f"a name among the agent's {kind} has {longest} characters, at most {MAX_NAME_CHARS} are kept",
            setting="MAX_NAME_CHARS",
            limit=MAX_NAME_CHARS,
            value=longest,
        )
    return names
