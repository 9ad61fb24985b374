"""A running agent: its parts put together, and its orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent_sdk._channels import Nodes
from agent_sdk._effects import EffectsFile
from agent_sdk._executor import Executor, Handler
from agent_sdk._gathering import Gathering
from agent_sdk._gauges import Gauges
from agent_sdk._leader import Leader
from agent_sdk._ledger import Ledger
from agent_sdk._profile import Profile
from agent_sdk._reporter import Reporter
from agent_sdk._session import Farewell, Session
from agent_sdk._spawn import Spawns
from agent_sdk._surroundings import Surroundings

SETTLE_S: Final = 5.0
"""How long a leaving agent waits for the acknowledgement of its last reports."""
CLOSE_S: Final = 1.0
"""How long it waits for the coordinator to end the stream after its goodbye."""

BEGUN_S: Final = 0.01
"""That an attempt has begun is told once it has run for so long, or up to twice that; of one that ends before
that, the end says when it began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graces:
    """Seconds: for a cancelled coroutine to end by itself, and for what runs to end when the agent leaves."""

    cancel_s: float
    drain_s: float


class Runtime:
    """One life of an agent, from `run` to `stop`. Belongs to the running loop."""

    def __init__(
        self,
        endpoints: Iterable[str],
        profile: Profile,
        handlers: Mapping[str, Handler],
        graces: Graces,
        effects_path: str | Path | None,
        gauges: Gauges | None,
        surroundings: Surroundings,
    ) -> None:
        self._graces = graces
        self._drain_s = graces.drain_s
        self._nodes = Nodes(surroundings.open_channel)
        self._effects = None if effects_path is None else EffectsFile(effects_path, profile.agent_id)
        news, self._acked = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ledger = Ledger(
            on_news=news.set,
            on_begun=self._tell_begun_later,
            on_ack=self._take_answer,
            on_end=self._tell_end,
        )
        spawns = Spawns(on_news=news.set, new_id=surroundings.new_id)
        reporter = Reporter(self._ledger, spawns)
        self._executor = Executor(
            handlers,
            self._ledger,
            reporter,
            slots=profile.slots,
            queue=profile.queue,
            cancel_grace_s=graces.cancel_s,
            effects=self._effects,
            now_ns=surroundings.now_ns,
        )
        self._gathering = Gathering(self._ledger, lambda: self._executor.queued, news.set)
        self._session = Session(
            Leader(endpoints),
            self._nodes,
            profile,
            news=news,
            ledger=self._ledger,
            spawns=spawns,
            reporter=reporter,
            executor=self._executor,
            gauges=gauges,
            surroundings=surroundings,
        )
        self._stop_asked = asyncio.Event()
        self._hurry = asyncio.Event()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until `ask_to_stop`. Raises what the coordinator refuses this agent with."""
        session = asyncio.create_task(self._session.run())
        stop_asked = asyncio.create_task(self._stop_asked.wait())
        try:
            await asyncio.wait({session, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
            if not session.done():
                await self._wind_down(session)
            if session.done():
                session.result()
        finally:
            session.cancel()
            stop_asked.cancel()
            await asyncio.gather(session, stop_asked, return_exceptions=True)
            await self._executor.abandon()
            await self._nodes.close()
            if self._effects is not None:
                self._effects.close()
            self._ended.set()

    def change(self, profile: Profile) -> None:
        """The agent is something else from now on. From any thread."""
        self._loop.call_soon_threadsafe(self._session.change, profile)

    def ask_to_stop(self, grace_s: float | None) -> None:
        """Begin to leave: what waits is handed back, what runs has `grace_s` to end. Asked again: at once."""
        if self._stop_asked.is_set():
            self._hurry.set()
        elif grace_s is not None:
            self._drain_s = grace_s
        self._stop_asked.set()

    async def ended(self) -> None:
        """Return when `run` has."""
        await self._ended.wait()

    def _tell_end(self) -> None:
        self._gathering.ended()

    def _take_answer(self) -> None:
        self._acked.set()
        self._gathering.answered()

    def _tell_begun_later(self) -> None:
        self._loop.call_later(BEGUN_S, self._ledger.tell_begun)

    async def _wind_down(self, session: asyncio.Task[None]) -> None:
        self._session.say(Farewell.DRAINING)
        self._executor.drain()
        await self._until(self._executor.idle.wait(), self._drain_s)
        await self._executor.abandon()
        await self._until(self._settled(), SETTLE_S)
        self._session.say(Farewell.GONE)
        await asyncio.wait({session}, timeout=CLOSE_S)

    async def _settled(self) -> None:
        while not self._ledger.settled:
            self._acked.clear()
            await self._acked.wait()

    async def _until(self, condition: Coroutine[Any, Any, object], timeout_s: float) -> None:
        """Wait for the condition, for at most `timeout_s` and not beyond the second request to stop."""
        awaited = [asyncio.ensure_future(condition), asyncio.create_task(self._hurry.wait())]
        try:
            await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in awaited:
                one.cancel()
            await asyncio.gather(*awaited, return_exceptions=True)
