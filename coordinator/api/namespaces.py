"""Namespaces, between the wire and the state."""

from __future__ import annotations

from typing import Final

from coordinator.core.commands import SetNamespace
from coordinator.core.namespaces import NamespaceRecord, Quotas, Usage
from coordinator.core.state import State
from coordinator.errors import InvalidRequest
from coordinator.scheduling.costs.policies import Policies, check_of_work
from quorumflow_proto.v1 import operator_pb2 as pb

_QUOTAS: Final = ("attempts", "milli_cores", "memory_bytes", "gpu_memory_bytes", "tasks")
_GREATEST_QUOTA: Final = (1 << 63) - 1


def settings_from_proto(request: pb.SetNamespaceRequest, known: Policies) -> SetNamespace:
    """What is to be set, the policy being one of those known. Raises InvalidRequest."""
    given = {}
    for quota in _QUOTAS:
        if request.quotas.HasField(quota):
            given[quota] = value = getattr(request.quotas, quota)
            if value > _GREATEST_QUOTA:
                raise InvalidRequest(
                    f"the quota {quota} is to be {value}; allowed: 0 to {_GREATEST_QUOTA}", quota=quota
                )
    if request.HasField("policy"):
        check_of_work(request.policy, known)
    return SetNamespace(
        request.request_id,
        request.name,
        request.weight if request.HasField("weight") else None,
        request.policy if request.HasField("policy") else None,
        Quotas(**given),
        tuple(request.lifted),
    )


def names_of(state: State) -> list[str]:
    """Namespaces that have settings or unfinished DAGs, in order."""
    return sorted(state.namespaces.settings.keys() | state.namespaces.usage.keys())


def namespace_to_proto(state: State, name: str, share: float) -> pb.NamespaceView:
    """A namespace as an operator sees it; `share` is what the leader says of it."""
    record = state.namespaces.settings.get(name) or NamespaceRecord(name)
    usage = state.namespaces.usage.get(name) or Usage()
    quotas = {quota: getattr(record.quotas, quota) for quota in _QUOTAS}
    return pb.NamespaceView(
        name=name,
        weight=record.weight,
        quotas=pb.Quotas(**{quota: limit for quota, limit in quotas.items() if limit is not None}),
        policy=record.policy,
        dags=usage.dags,
        tasks=usage.tasks,
        attempts=usage.attempts,
        milli_cores=usage.milli_cores,
        memory_bytes=usage.memory_bytes,
        gpu_memory_bytes=usage.gpu_memory_bytes,
        share=share,
    )
