"""Namespaces: their weights, quotas and policies, as an operator sets them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent_sdk._leader import LeaderCalls
from agent_sdk._loop_thread import LoopThread
from agent_sdk.errors import InvalidRequest
from agent_sdk.types import QUOTAS, Namespace
from quorumflow_proto.v1 import operator_pb2 as pb

Listed = tuple[Namespace, ...]


class AsyncNamespaces:
    """`AsyncClient.namespaces`. A namespace needs no making: it is there when a DAG names it, with a weight
    of 1 and without quotas until something is set."""

    def __init__(self, calls: LeaderCalls) -> None:
        self._calls = calls

    async def list(self) -> Listed:
        """All that have settings or unfinished DAGs, by name."""
        found: list[Namespace] = []
        token = ""
        while True:
            reply = await self._page(pb.ListNamespacesRequest(page_token=token))
            found += [_namespace(view) for view in reply.namespaces]
            token = reply.next_page_token
            if not token:
                return tuple(found)

    async def get(self, name: str) -> Namespace:
        """One of them, also if nothing is set for it and nothing in it."""
        reply = await self._page(pb.ListNamespacesRequest(name=name))
        return _namespace(reply.namespaces[0])

    async def set(
        self,
        name: str,
        *,
        weight: float | None = None,
        policy: str | None = None,
        quotas: Mapping[str, int | None] | None = None,
        request_id: str | None = None,
    ) -> Namespace:
        """Set what is given, and leave the rest: the weight, the policy of DAGs that name none ("": the
        cluster's), quotas by name (`QUOTAS`), where None lifts one. Raises InvalidRequest, LimitExceeded."""
        quotas = quotas or {}
        unknown = quotas.keys() - set(QUOTAS)
        if unknown:
            raise InvalidRequest(f"there is no quota {min(unknown)!r}: there are {', '.join(QUOTAS)}")
        given = {quota: limit for quota, limit in quotas.items() if limit is not None}
        if any(limit < 0 for limit in given.values()):
            raise InvalidRequest(f"quotas are 0 or more: {given}")
        request = pb.SetNamespaceRequest(
            request_id=request_id or self._calls.new_id(),
            name=name,
            weight=weight,
            policy=policy,
            quotas=pb.Quotas(**given),
            lifted=_lifted(quotas),
        )
        return _namespace(
            await self._calls.call(lambda node, left_s: node.operator.SetNamespace(request, timeout=left_s))
        )

    async def unset(self, name: str, *, request_id: str | None = None) -> Namespace:
        """Forget all that is set. Raises NotFound if nothing is."""
        request = pb.UnsetNamespaceRequest(request_id=request_id or self._calls.new_id(), name=name)
        return _namespace(
            await self._calls.call(lambda node, left_s: node.operator.UnsetNamespace(request, timeout=left_s))
        )

    async def _page(self, request: pb.ListNamespacesRequest) -> pb.ListNamespacesReply:
        return await self._calls.call(
            lambda node, left_s: node.operator.ListNamespaces(request, timeout=left_s)
        )


class Namespaces:
    """`Client.namespaces`: as `AsyncNamespaces`, for code without an event loop."""

    def __init__(self, loop: LoopThread, namespaces: AsyncNamespaces) -> None:
        self._loop = loop
        self._namespaces = namespaces

    def list(self) -> Listed:
        """All that have settings or unfinished DAGs, by name."""
        return self._loop.run(self._namespaces.list())

    def get(self, name: str) -> Namespace:
        """One of them, also if nothing is set for it and nothing in it."""
        return self._loop.run(self._namespaces.get(name))

    def set(
        self,
        name: str,
        *,
        weight: float | None = None,
        policy: str | None = None,
        quotas: Mapping[str, int | None] | None = None,
        request_id: str | None = None,
    ) -> Namespace:
        """Set what is given, and leave the rest."""
        return self._loop.run(
            self._namespaces.set(name, weight=weight, policy=policy, quotas=quotas, request_id=request_id)
        )

    def unset(self, name: str, *, request_id: str | None = None) -> Namespace:
        """Forget all that is set."""
        return self._loop.run(self._namespaces.unset(name, request_id=request_id))


def _lifted(quotas: Mapping[str, int | None]) -> Iterable[str]:
    return [quota for quota, limit in quotas.items() if limit is None]


def _namespace(view: pb.NamespaceView) -> Namespace:
    return Namespace(
        name=view.name,
        weight=view.weight,
        quotas={quota: getattr(view.quotas, quota) for quota in QUOTAS if view.quotas.HasField(quota)},
        policy=view.policy,
        dags=view.dags,
        tasks=view.tasks,
        attempts=view.attempts,
        milli_cores=view.milli_cores,
        memory_bytes=view.memory_bytes,
        gpu_memory_bytes=view.gpu_memory_bytes,
        share=view.share,
    )
