"""What handlers tell, from whichever thread they run in, brought to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Final

from agent_sdk._dag import Task
from agent_sdk._ledger import Attempt, Ledger, News
from agent_sdk._outcome import check_size
from agent_sdk._spawn import Spawns
from agent_sdk.errors import InvalidRequest, WrongState
from quorumflow_proto.v1 import agent_pb2

PROGRESS_INTERVAL_S: Final = 0.1
"""Progress of one attempt is told no more often than this; the latest counts."""
NOTE_CHARS: Final = 500
DEFAULT_MAX_RESULT_BYTES: Final = 256 << 10
"""Until the coordinator has said how much it takes."""


class Reporter:
    """Belongs to the running loop. `max_result_bytes` bounds results and checkpoints, as the coordinator
    says."""

    def __init__(self, ledger: Ledger, spawns: Spawns) -> None:
        self.max_result_bytes = DEFAULT_MAX_RESULT_BYTES
        self._ledger = ledger
        self._spawns = spawns
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()

    def progress(self, attempt: Attempt, fraction: float, note: str) -> None:
        """Keep the latest; one report is due at a time."""
        if not 0.0 <= fraction <= 1.0:
            raise InvalidRequest(f"progress is {fraction}; it must be from 0 to 1")
        attempt.progress = agent_pb2.Progress(fraction=fraction, note=note[:NOTE_CHARS])
        if not attempt.progress_is_due:
            attempt.progress_is_due = True
            self._loop.call_soon_threadsafe(
                self._loop.call_later, PROGRESS_INTERVAL_S, self._ledger.tell, attempt, News.PROGRESS
            )

    def checkpoint(self, attempt: Attempt, state: bytes) -> None:
        """Have the checkpoint reported; the latest counts. Raises ResultTooLarge."""
        check_size("checkpoint", len(state), self.max_result_bytes)
        attempt.checkpoint = bytes(state)
        self._loop.call_soon_threadsafe(self._ledger.tell, attempt, News.CHECKPOINT)

    async def spawn(self, attempt: Attempt, tasks: Sequence[Task]) -> None:
        """Add tasks to the attempt's DAG; see `Spawns.add`."""
        await self._spawns.add(attempt, tasks)

    def spawn_from_thread(self, attempt: Attempt, tasks: Sequence[Task]) -> None:
        """`spawn` for a handler that runs in a thread. Raises WrongState in the event loop, which it would
        block."""
        if threading.get_ident() == self._loop_thread:
            raise WrongState(
                "spawn() would block the event loop: in an async handler use await spawn_async()"
            )
        asyncio.run_coroutine_threadsafe(self.spawn(attempt, tasks), self._loop).result()
