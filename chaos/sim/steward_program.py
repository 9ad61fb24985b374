"""What runs on the steward's machine: the real client, with which weights, policies and quotas of namespaces
are set and unset while work goes on in them, slots are reserved, and agents are drained and taken back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from agent_sdk import AsyncClient, QuorumflowError
from agent_sdk.errors import NotFound
from chaos.sim.client_program import NAMESPACES, POLICIES
from chaos.sim.machine import Machine
from chaos.sim.network import Network
from chaos.sim.sdk_surroundings import sdk_surroundings

_PAUSE_S: Final = 0.4
_LONGEST_PAUSE_S: Final = 0.2
_TIMEOUT_S: Final = 1.0
_LATE_S: Final = 4.0
"""What was asked for and not answered may still come about, until its connection is given up."""
_RESERVATIONS: Final = ("morning", "evening")
_PLENTY_BYTES: Final = 1 << 40


class StewardProgram:
    """Governs until `rest`; then everything is lifted, so that all work may come to its end. `agents` tells
    the names of those that there are."""

    def __init__(
        self, machine: Machine, network: Network, endpoints: list[str], agents: Callable[[], list[str]]
    ) -> None:
        self.machine = machine
        self.busy = True
        """Whether something may be set or drained."""
        self._network = network
        self._endpoints = endpoints
        self._agents = agents
        self._rng = random.Random(machine.rng.random())
        self._resting = False
        self._turn = 0
        machine.on_death.append(network.died)

    def boot(self) -> None:
        """Start the steward's process."""
        self.machine.boot(self._run)

    def rest(self) -> None:
        """Set nothing more, and lift what is set."""
        self._resting = True

    async def _run(self) -> None:
        process = self.machine.process
        assert process is not None
        surroundings = sdk_surroundings(process, self._network)
        async with AsyncClient(self._endpoints, timeout_s=_TIMEOUT_S, surroundings=surroundings) as client:
            while not self._resting:
                await self._try(self._draw(client))
                await asyncio.sleep(self._rng.expovariate(1 / _PAUSE_S))
            await self._lift(client)
            await asyncio.sleep(_LATE_S)
            await self._lift(client)
            self.busy = False
            await asyncio.Event().wait()

    async def _lift(self, client: AsyncClient) -> None:
        for name in NAMESPACES:
            await self._settle(lambda name=name: client.namespaces.unset(name))  # type: ignore[misc]
        for one in _RESERVATIONS:
            await self._settle(lambda one=one: client.reservations.remove(one))  # type: ignore[misc]
        for agent in self._agents():
            await self._settle(lambda agent=agent: client.drain_agent(agent, undo=True))  # type: ignore[misc]

    def _draw(self, client: AsyncClient) -> Awaitable[object]:
        rng, what = self._rng, self._rng.random()
        name = rng.choice(NAMESPACES)
        if what < 0.4:
            return client.namespaces.set(
                name,
                weight=rng.choice((None, 0.1, 1.0, 10.0)),
                policy=rng.choice((None, *POLICIES)),
                quotas=self._quotas(),
            )
        if what < 0.55:
            return client.namespaces.unset(name)
        if what < 0.65:
            return client.reservations.set(rng.choice(_RESERVATIONS), name, slots=rng.choice((None, 1, 2)))
        if what < 0.7:
            return client.reservations.remove(rng.choice(_RESERVATIONS))
        return client.drain_agent(rng.choice(self._agents()), undo=what > 0.8)

    def _quotas(self) -> dict[str, int | None]:
        """Small ones, and one that nobody meets: so no two settings are alike, and a check that does not look
        at every entry is not misled."""
        rng = self._rng
        self._turn += 1
        return {
            "attempts": rng.choice((None, 0, 1, 3)),
            "milli_cores": rng.choice((None, 0, 2_500, 5_000)),
            "tasks": rng.choice((None, None, 3, 20)),
            "gpu_memory_bytes": _PLENTY_BYTES + self._turn,
        }

    async def _try(self, asked: Awaitable[object]) -> bool:
        """Whether it is done, or there is nothing to do it to."""
        try:
            await asked
        except NotFound:
            return True
        except QuorumflowError as error:
            self.machine.trace.note(self.machine.name, f"is told: {error.reason}")
            return False
        return True

    async def _settle(self, ask: Callable[[], Awaitable[object]]) -> None:
        """Ask until it is done."""
        while True:
            if await self._try(ask()):
                return
            await asyncio.sleep(self._rng.uniform(0.0, _LONGEST_PAUSE_S))
