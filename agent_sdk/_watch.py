"""Watching events through changes of leader, without gaps or repeats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, Final, TypeAlias, TypeVar

import grpc.aio

from agent_sdk import _views
from agent_sdk._channels import Node
from agent_sdk._leader import LeaderCalls
from agent_sdk.errors import QuorumflowError, Unavailable, from_rpc_error
from agent_sdk.types import Event
from quorumflow_proto.v1 import client_pb2

HELD_S: Final = 5.0
"""A stream that lasted so long was served, even if it had nothing to say: a dead peer is noticed sooner."""


Reply = TypeVar("Reply")
Stream: TypeAlias = "grpc.aio.UnaryStreamCall[Any, Reply]"


async def replies(calls: LeaderCalls, stream: Callable[[Node], Stream[Reply]]) -> AsyncGenerator[Reply, None]:
    """What the leader streams, through changes of leader: whenever a stream breaks, `stream` begins another
    one, after what has been seen.

    Raises:
        RevisionCompacted: the events asked for are no longer kept. DeadlineExceeded: no leader serves the
        watch within the client's time limit. What the leader refuses it with.
    """
    loop = asyncio.get_running_loop()
    pursuit = calls.pursuit()
    while True:
        node, began = pursuit.node, loop.time()
        call = stream(node)
        failure: QuorumflowError = Unavailable("the node ended the watch")
        try:
            async for reply in call:
                pursuit.progressed()
                calls.stay_informed(node)
                yield reply
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
        finally:
            call.cancel()
        if loop.time() - began > HELD_S:
            pursuit.progressed()
        await pursuit.failed(node.address, failure)


class Cursor:
    """How far a watch has come.

    A reply's `revision` says that everything up to it has been sent; events beyond it belong to a revision of
    which more may follow. When the stream breaks there, the new one begins after the last complete revision,
    and what has been handed out beyond it is skipped: the order of events within a revision is the same on
    every node.
    """

    def __init__(self, from_revision: int) -> None:
        self._complete = from_revision - 1
        self._beyond: list[int] = []
        self._to_skip: list[int] = []

    def resume(self) -> int:
        """The revision from which to ask, now that a stream begins."""
        self._to_skip = self._beyond.copy()
        return self._complete + 1

    def take(self, reply: client_pb2.WatchReply) -> list[client_pb2.Event]:
        """The events of a reply that have not been handed out yet."""
        new = [event for event in reply.events if not self._is_known(event.revision)]
        self._complete = max(self._complete, reply.revision)
        self._beyond = self._after([*self._beyond, *(event.revision for event in new)])
        self._to_skip = self._after(self._to_skip)
        return new

    def _is_known(self, revision: int) -> bool:
        if self._to_skip and self._to_skip[0] == revision:
            del self._to_skip[0]
            return True
        return revision <= self._complete

    def _after(self, revisions: Iterable[int]) -> list[int]:
        return [revision for revision in revisions if revision > self._complete]


class Watch:
    """The events of one DAG, or of all (`dag_id` empty), from a revision on; with `dags_only` no events of
    tasks."""

    def __init__(self, calls: LeaderCalls, dag_id: str, from_revision: int, dags_only: bool = False) -> None:
        self._calls = calls
        self._dag_id = dag_id
        self._dags_only = dags_only
        self._cursor = Cursor(from_revision)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Raises what `replies` does."""
        parts = replies(self._calls, lambda node: node.client.Watch(self._request()))
        try:
            async for reply in parts:
                for wire in self._cursor.take(reply):
                    if (event := _views.event(wire)) is not None:
                        yield event
        finally:
            await parts.aclose()

    def _request(self) -> client_pb2.WatchRequest:
        return client_pb2.WatchRequest(
            from_revision=self._cursor.resume(), dag_id=self._dag_id, dags_only=self._dags_only
        )
