"""What runs on the operator's machine: the real client, with which members are added, promoted, removed,
replaced and moved. Every change is asked for again until it is settled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from agent_sdk import AsyncClient, QuorumflowError
from agent_sdk.errors import NotFound
from agent_sdk.types import MemberStatus
from chaos.sim.losses import Losses
from chaos.sim.machine import Machine
from chaos.sim.network import Network
from chaos.sim.sdk_surroundings import sdk_surroundings
from coordinator.consensus.membership import Member

VOTER: Final = "voter"
_LONGEST_PAUSE_S: Final = 0.2
_TIMEOUT_S: Final = 1.0

Listed = tuple[MemberStatus, ...]
Work = Callable[[], Awaitable[None]]


class OperatorProgram:
    """Changes go on side by side, as with several people at work: the cluster must sort them out."""

    def __init__(
        self,
        machine: Machine,
        network: Network,
        endpoints: list[str],
        losses: Losses,
        where: Callable[[str], Member],
    ) -> None:
        """`where` tells at what addresses a node is now."""
        self.machine = machine
        self.busy = 0
        """Changes that are not settled yet."""
        self.admitting: set[str] = set()
        """Nodes that are to become members by them."""
        self._network = network
        self._endpoints = endpoints
        self._losses = losses
        self._where = where
        self._rng = random.Random(machine.rng.random())
        self._client: AsyncClient | None = None
        machine.on_death.append(network.died)

    def boot(self) -> None:
        """Start the operator's process."""
        self.machine.boot(self._run)

    def add(self, member: Member) -> None:
        """Make a new node a voter: by itself once it has caught up, if the member says so, or by asking for
        it."""

        async def work() -> None:
            await self._settle(
                lambda client: client.members.add(*self._place(member.id), promote=member.promote)
            )
            if not member.promote:
                await self._settle(
                    lambda client: client.members.promote(member.id),
                    hopeless=lambda: member.id in self._losses.damaged,
                )
            self.admitting.discard(member.id)

        self.admitting.add(member.id)
        self._begin(f"adds {member.id}", work)

    def remove(self, member_id: str) -> None:
        """Remove a member."""

        async def work() -> None:
            await self._settle(lambda client: client.members.remove(member_id))

        self._losses.leaving.add(member_id)
        self._begin(f"removes {member_id}", work)

    def replace(self, former: str, new: Member) -> None:
        """Put a new node in the place of one that is lost, or is not."""

        async def work() -> None:
            await self._settle(lambda client: client.members.replace(former, *self._place(new.id)))
            self.admitting.discard(new.id)

        self.admitting.add(new.id)
        self._losses.leaving.add(former)
        self._begin(f"replaces {former} by {new.id}", work)

    def readmit(self, member: Member) -> None:
        """Put a node whose disk was wiped in the place of itself. `member` is what it was: a look at the
        list tells whether that is done, which the refusal of a repetition does not."""

        async def replace(client: AsyncClient) -> Listed:
            listed = await client.members.list()
            if any(one.id == member.id and one.incarnation == member.incarnation for one in listed):
                listed = await client.members.replace(member.id, *self._place(member.id))
            return listed

        async def work() -> None:
            await self._settle(replace)

        self._begin(f"readmits {member.id}", work)

    def update(self, member_id: str) -> None:
        """Tell the cluster where a member that has moved is to be reached."""

        async def work() -> None:
            await self._settle(
                lambda client: client.members.update(member_id, raft=self._where(member_id).raft)
            )
            self._losses.moving.discard(member_id)

        self._losses.moving.add(member_id)
        self._begin(f"updates {member_id}", work)

    async def _run(self) -> None:
        process = self.machine.process
        assert process is not None
        surroundings = sdk_surroundings(process, self._network)
        async with AsyncClient(self._endpoints, timeout_s=_TIMEOUT_S, surroundings=surroundings) as client:
            self._client = client
            await asyncio.Event().wait()

    def _begin(self, what: str, work: Work) -> None:
        process = self.machine.process
        assert process is not None
        self.busy += 1
        self.machine.trace.note(self.machine.name, what)
        process.post(lambda: process.create_task(self._carry_out(what, work)))

    async def _carry_out(self, what: str, work: Work) -> None:
        try:
            await work()
        finally:
            self.busy -= 1
        self.machine.trace.note(self.machine.name, f"{what}: settled")

    async def _settle(
        self,
        change: Callable[[AsyncClient], Awaitable[Listed]],
        hopeless: Callable[[], bool] = lambda: False,
    ) -> None:
        """Ask until the answer is that it is done, or that there is nothing to do it to."""
        while not hopeless():
            assert self._client is not None
            try:
                await change(self._client)
                return
            except NotFound as refusal:
                self.machine.trace.note(self.machine.name, f"is told: {refusal.message}")
                return
            except QuorumflowError as error:
                self.machine.trace.note(self.machine.name, f"is told: {error.reason}")
            await asyncio.sleep(self._rng.uniform(0.0, _LONGEST_PAUSE_S))

    def _place(self, node_id: str) -> tuple[str, str, str]:
        here = self._where(node_id)
        return node_id, here.raft, here.grpc
