"""What an agent says of itself when it opens a session."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import psutil

from agent_sdk import _encode
from agent_sdk._dag import Resources
from quorumflow_proto.v1 import agent_pb2, common_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`slots` attempts run at once, `queue` more may wait."""

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

    @property
    def credit(self) -> int:
        """Attempts that it takes in all."""
        return self.slots + self.queue

    def hello(
        self, instance_id: str, last_epoch: int, held: Iterable[agent_pb2.Fence], task_types: Iterable[str]
    ) -> agent_pb2.Hello:
        """The first message of a session. `instance_id` tells a reconnect from a restart."""
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
