"""What an agent says of itself when it opens a session."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import psutil

from agent_sdk import _encode
from agent_sdk._dag import Resources
from agent_sdk.errors import InvalidRequest
from quorumflow_proto.v1 import agent_pb2, common_pb2

MAX_SPEED: Final = 1_000.0
MAX_LIMIT: Final = (1 << 32) - 1
_NAMES: Final = (
    "tools",
    "permissions",
    "environments",
    "protocols",
    "cached_models",
    "data",
    "groups",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`slots` attempts run at once, `queue` more may wait. Keeps copies. Raises InvalidRequest for what no
    agent can be."""

    agent_id: str
    slots: int
    queue: int
    capabilities: Mapping[str, int]
    resources: Resources
    labels: Mapping[str, str]
    zone: str
    tools: Sequence[str]
    permissions: Sequence[str]
    environments: Sequence[str]
    protocols: Sequence[str]
    cached_models: Sequence[str]
    speed: float
    busy_watts: float
    tool_limits: Mapping[str, int]
    model_limits: Mapping[str, int]
    data: Sequence[str]
    groups: Sequence[str]

    def __post_init__(self) -> None:
        if self.slots < 1 or self.queue < 0:
            raise InvalidRequest(
                f"slots is {self.slots}, queue is {self.queue}; slots must be 1 or more, queue 0 or more"
            )
        # NaN compares false, and is refused with the rest.
        if not 0 < self.speed <= MAX_SPEED or not 0 <= self.busy_watts < math.inf:
            raise InvalidRequest(
                f"speed is {self.speed}, busy_watts is {self.busy_watts}; speed must be above 0 and at most "
                f"{MAX_SPEED:g}, busy_watts 0 or more"
            )
        for field in ("tool_limits", "model_limits"):
            for name, limit in getattr(self, field).items():
                if not 1 <= limit <= MAX_LIMIT:
                    raise InvalidRequest(f"{field} of {name!r} is {limit}; it must be 1 to {MAX_LIMIT}")
        for field in ("capabilities", "labels", "tool_limits", "model_limits"):
            object.__setattr__(self, field, dict(getattr(self, field)))
        for field in _NAMES:
            object.__setattr__(self, field, tuple(getattr(self, field)))

    @property
    def credit(self) -> int:
        """Attempts that it takes in all."""
        return self.slots + self.queue

    def hello(
        self, instance_id: str, last_epoch: int, held: Iterable[agent_pb2.Fence], task_types: Iterable[str]
    ) -> agent_pb2.Hello:
        """The first message of a session, and what a change of the agent says. `instance_id` tells a
        reconnect from a restart."""
        return agent_pb2.Hello(
            agent_id=self.agent_id,
            instance_id=instance_id,
            last_epoch=last_epoch,
            held=held,
            slots=self.slots,
            credit=self.credit,
            task_types=sorted(task_types),
            capabilities=[
                common_pb2.Capability(name=name, level=level) for name, level in self.capabilities.items()
            ],
            resources=_encode.resources(self.resources),
            labels=self.labels,
            zone=self.zone,
            sdk_version=sdk_version(),
            tools=self.tools,
            permissions=self.permissions,
            environments=self.environments,
            protocols=self.protocols,
            cached_models=self.cached_models,
            speed=self.speed,
            busy_watts=self.busy_watts,
            tool_limits=self.tool_limits,
            model_limits=self.model_limits,
            data=self.data,
            groups=self.groups,
            takes_acks_with_work=True,
        )


def machine_resources() -> Resources:
    """All cores and memory of this machine."""
    return Resources(cores=psutil.cpu_count() or 1, memory_bytes=psutil.virtual_memory().total)


@cache
def sdk_version() -> str:
    """Of the installed distribution; "source" when run from a checkout."""
    try:
        return importlib.metadata.version("quorumflow")
    except importlib.metadata.PackageNotFoundError:
        return "source"
