"""Submission of a DAG: in one message while it is small, in parts beyond that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent_sdk._channels import Node
from quorumflow_proto.v1 import client_pb2, common_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitSettings:
    """A DAG of more tasks or bytes than this is sent in parts, each within the same bounds (a single task may
    be larger, up to the server's message limit)."""

    tasks_per_message: int = 1_000
    bytes_per_message: int = 1 << 20


class Submission:
    """One DAG on its way, under one request id. `send` may be repeated."""

    def __init__(self, spec: common_pb2.DagSpec, request_id: str, settings: SubmitSettings) -> None:
        self._spec = spec
        self._request_id = request_id
        self._settings = settings
        self._streamed = (
            len(spec.tasks) > settings.tasks_per_message or spec.ByteSize() > settings.bytes_per_message
        )

    async def send(self, node: Node, timeout_s: float) -> client_pb2.SubmitDagReply:
        """One try at one node."""
        if self._streamed:
            return await node.client.SubmitDagStream(self.parts(), timeout=timeout_s)
        request = client_pb2.SubmitDagRequest(request_id=self._request_id, dag=self._spec)
        return await node.client.SubmitDag(request, timeout=timeout_s)

    def parts(self) -> Iterator[client_pb2.SubmitDagPart]:
        """The header with the first tasks, then the other tasks in their order."""
        tasks = self._spec.tasks
        part = client_pb2.SubmitDagPart(request_id=self._request_id, header=self._header())
        first, size = 0, part.ByteSize()
        for at, task in enumerate(tasks):
            task_size = task.ByteSize()
            full = at - first == self._settings.tasks_per_message
            if at > first and (full or size + task_size > self._settings.bytes_per_message):
                part.tasks.extend(tasks[first:at])
                yield part
                part, first, size = client_pb2.SubmitDagPart(), at, 0
            size += task_size
        part.tasks.extend(tasks[first:])
        yield part

    def _header(self) -> common_pb2.DagSpec:
        spec = self._spec
        return common_pb2.DagSpec(
            dag_id=spec.dag_id,
            namespace=spec.namespace,
            name=spec.name,
            labels=spec.labels,
            metadata=spec.metadata,
            failure_policy=spec.failure_policy,
            priority=spec.priority,
            deadline_ms=spec.deadline_ms,
            policy=spec.policy,
        )
