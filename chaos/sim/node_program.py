"""What runs on a node's machine: the real node with the services that clients and agents call, on the
simulated disk, network and clocks."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Final, Protocol

import msgspec

from chaos.sim.disk import LOG_FOLDER, Disk
from chaos.sim.host_loop import HostLoop
from chaos.sim.machine import Machine
from chaos.sim.moves import draw_move
from chaos.sim.network import Network
from chaos.sim.rpc_server import SimServer
from chaos.sim.weather import ExposedTransport, Weather
from chaos.sim.worker import SimWorker
from coordinator.api.methods import Methods
from coordinator.api.server import add_services
from coordinator.config import NodeConfig
from coordinator.consensus.journal import FAMILIES
from coordinator.consensus.messages import Message
from coordinator.errors import CoordinatorError
from coordinator.replica.node import Node
from coordinator.replica.surroundings import Surroundings

_STOP_GRACE_S: Final = 1.0
_DISK_BYTES: Final = 1 << 40


class Observer(Protocol):
    """Whoever watches what nodes do."""

    def observe(self, node: Node, process: HostLoop) -> None:
        """A new node is about to start."""

    def sent(self, node: Node, target: str, message: Message) -> None:
        """A node sends a message to another."""


class NodeProgram:
    """Runs one node on its machine, again and again."""

    def __init__(
        self,
        config: NodeConfig,
        machine: Machine,
        disk: Disk,
        network: Network,
        weather: Weather,
        observer: Observer,
    ) -> None:
        self.config = config
        self.machine = machine
        self.disk = disk
        self.node: Node | None = None
        """The node of the present process, once it has loaded its state."""
        self.last_words: CoordinatorError | None = None
        """What the last process stopped itself for, if it did."""
        self.moved = False
        """Others reach it at another port than at first."""
        self._network = network
        self._weather = weather
        self._observer = observer
        self._stopping: asyncio.Event | None = None
        machine.on_death.append(self._died)

    def wipe(self, *, waits: bool) -> None:
        """Its disk is empty from now on. `waits`: it is told to join, if it was not before."""
        self.machine.crash(silent=True)
        self.disk.wipe()
        self.config = msgspec.structs.replace(self.config, join=waits or self.config.join)

    def move(self) -> None:
        """From its next start on, the others reach it at another port."""
        self.machine.crash(silent=False)
        self.moved = True
        here = self.config.myself
        port = self.config.raft_port + 1
        there = msgspec.structs.replace(here, raft=f"{here.id}:{port}")
        members = tuple(there if member is here else member for member in self.config.members)
        self.config = msgspec.structs.replace(self.config, raft_port=port, members=members)

    def boot(self) -> None:
        """Start the node's process."""
        self.last_words = None
        self.machine.boot(self._run)

    def ask_to_stop(self) -> None:
        """As SIGTERM does."""
        if self.machine.process is not None and self._stopping is not None:
            self.machine.process.post(self._stopping.set)

    def hand_over(self, to: str | None) -> None:
        """Have the node give leadership to that one, or to whichever it chooses."""
        process, node = self.machine.process, self.node
        if process is not None and node is not None:
            process.post(lambda: process.create_task(_hand_over(node, to)))

    def move_work(self, rng: random.Random) -> None:
        """Have the node, if it leads, move something that an agent holds."""
        process, node = self.machine.process, self.node
        if process is not None and node is not None:
            process.post(lambda: _move_work(node, rng))

    async def _run(self) -> None:
        process = self.machine.process
        assert process is not None
        stopping = self._stopping = asyncio.Event()
        try:
            node = Node(self.config, self._surroundings(process))
            self.node = node
            self._observer.observe(node, process)
            await node.start()
            methods = Methods()
            add_services(node, methods)
            server = SimServer(self._network, process, methods)
            await server.start()
            node.failed.add_done_callback(lambda _: stopping.set())
            await stopping.wait()
            await node.stop()
            await server.stop(_STOP_GRACE_S)
            if node.failed.done():
                node.failed.result()
        except CoordinatorError as error:
            self.last_words = error
            self.machine.trace.note(self.machine.name, f"stops: {error.reason}")

    def _surroundings(self, process: HostLoop) -> Surroundings:
        config, disk = self.config, self.disk
        rng = random.Random(process.rng.random())
        return Surroundings(
            open_log=lambda: disk.open(LOG_FOLDER, FAMILIES),
            open_home=disk.home,
            links=ExposedTransport(config, process, self._network, rng, self._weather, self._sent),
            worker=partial(self._worker, process, rng),
            now=process.time,
            wall_ms=self.machine.wall_ms,
            rng=rng,
            free_bytes=lambda: 0 if disk.faults.full else _DISK_BYTES,
        )

    def _worker(self, process: HostLoop, rng: random.Random, name: str, brief_s: float = 0.0) -> SimWorker:
        del name
        return SimWorker(process, self.disk.faults, rng, brief_s)

    def _sent(self, target: str, message: Message) -> None:
        if self.node is not None:
            self._observer.sent(self.node, target, message)

    def _died(self, process: HostLoop, silent: bool) -> None:
        self.node = None
        self._network.died(process, silent)


def _move_work(node: Node, rng: random.Random) -> None:
    leader = node.leadership.leader
    move = draw_move(node.applier.newest, rng)
    if leader is not None and move is not None:
        leader.propose(move)


async def _hand_over(node: Node, to: str | None) -> None:
    try:
        await node.consensus.transfer_leadership(to)
    except CoordinatorError as error:
        # Nobody can take over now, or somebody has already.
        del error
