"""Tasks that running attempts add to their own DAG, until the coordinator has recorded them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from agent_sdk._dag import Task
from agent_sdk._encode import task_spec
from agent_sdk._ledger import Attempt
from agent_sdk.errors import (
    LimitExceeded,
    QueueFull,
    QuorumflowError,
    TaskCancelled,
    Unavailable,
    from_detail,
)
from quorumflow_proto.v1 import agent_pb2

SPAWN_BYTES: Final = 1 << 20
"""Largest request; what is more has to be added in several."""
RETRY_S: Final = 0.1
"""Least pause before a request that was refused for the moment is sent again in the same session."""


class _Waiting:
    def __init__(self, request: agent_pb2.Spawn) -> None:
        self.request = request
        self.answer: asyncio.Future[QuorumflowError | None] = asyncio.get_running_loop().create_future()


class Spawns:
    """The requests under way. Each carries an id of its own, so that a new session can send it again."""

    def __init__(self, on_news: Callable[[], None], new_id: Callable[[], str]) -> None:
        self._on_news = on_news
        self._new_id = new_id
        self._waiting: dict[str, _Waiting] = {}
        self._unsent: dict[str, _Waiting] = {}

    async def add(self, parent: Attempt, tasks: Sequence[Task]) -> None:
        """Return when the tasks are recorded. Raises what the coordinator refuses them with, LimitExceeded
        when they are more than fits into one request, TaskCancelled when the parent is stopped meanwhile."""
        if not tasks:
            return
        waiting = _Waiting(_request(self._new_id(), parent, tasks))
        spawn_id = waiting.request.spawn_id
        self._waiting[spawn_id] = waiting
        self._send(spawn_id)
        stopped = asyncio.create_task(parent.stopped.wait())
        awaited: set[asyncio.Future[Any]] = {waiting.answer, stopped}
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            self._waiting.pop(spawn_id, None)
            self._unsent.pop(spawn_id, None)
        if not waiting.answer.done():
            raise TaskCancelled(f"the attempt was stopped while it added tasks: {parent.stop_reason}")
        if (refusal := waiting.answer.result()) is not None:
            raise refusal

    def answered(self, reply: agent_pb2.SpawnReply) -> None:
        """The coordinator has recorded or refused a request; one that it refused for the moment is sent
        again."""
        waiting = self._waiting.get(reply.spawn_id)
        if waiting is None or waiting.answer.done():
            return
        refusal = from_detail(reply.error, Unavailable) if reply.HasField("error") else None
        if isinstance(refusal, Unavailable | QueueFull):
            delay_s = max(refusal.retry_after_ms / 1000, RETRY_S)
            asyncio.get_running_loop().call_later(delay_s, self._send, reply.spawn_id)
        else:
            waiting.answer.set_result(refusal)

    def send_all_again(self) -> None:
        """A new session has begun."""
        self._unsent = self._waiting.copy()
        self._on_news()

    def take(self) -> agent_pb2.Spawn | None:
        """The next request to send, if any."""
        if not self._unsent:
            return None
        return self._unsent.pop(next(iter(self._unsent))).request

    def _send(self, spawn_id: str) -> None:
        if spawn_id in self._waiting:
            self._unsent[spawn_id] = self._waiting[spawn_id]
            self._on_news()


def _request(spawn_id: str, parent: Attempt, tasks: Sequence[Task]) -> agent_pb2.Spawn:
    request = agent_pb2.Spawn(
        spawn_id=spawn_id, parent=parent.assignment.fence, tasks=[task_spec(task) for task in tasks]
    )
    if (size := request.ByteSize()) > SPAWN_BYTES:
        raise LimitExceeded(
            f"{len(tasks)} tasks of {size} bytes in all exceed the limit of {SPAWN_BYTES} bytes: "
            "add them in several calls",
            fields={"limit": str(SPAWN_BYTES), "setting": "SPAWN_BYTES", "value": str(size)},
        )
    return request
