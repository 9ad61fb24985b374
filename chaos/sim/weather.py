"""What single messages between nodes suffer, beside what the network does to connections: worse than TCP, and
Raft must bear it."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from pysyncobj.node import Node

from chaos.sim.host_loop import HostLoop
from chaos.sim.network import Network
from chaos.sim.wire import SimWire
from coordinator.config import NodeConfig
from coordinator.consensus.messages import Message
from coordinator.consensus.tls import AnyPeer
from coordinator.consensus.transport import WireTransport

_LATE_S: Final = (0.001, 1.0)
"""The least and the most by which a message that is overtaken comes too late."""


class Harm(NamedTuple):
    """What becomes of single messages on the way from one node to another: shares that are lost, doubled, or
    overtaken by later ones."""

    lost: float = 0.0
    doubled: float = 0.0
    overtaken: float = 0.0


class Weather:
    """The harm on each way, by (source, target), and how often it struck."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.harms: dict[tuple[str, str], Harm] = {}
        self.struck: Counter[str] = Counter()

    def lateness_s(self) -> float:
        """By how much a message comes too late: often a little, sometimes in another term."""
        least, most = _LATE_S
        return math.exp(self.rng.uniform(math.log(least), math.log(most)))

    def strikes(self, what: str, share: float) -> bool:
        """Whether it happens to this message."""
        if share and self.rng.random() < share:
            self.struck[what] += 1
            return True
        return False


class ExposedTransport(WireTransport):
    """The product's links on the simulated network, out in the weather; `tap` is told of each message with
    its target."""

    def __init__(
        self,
        config: NodeConfig,
        process: HostLoop,
        network: Network,
        rng: random.Random,
        weather: Weather,
        tap: Callable[[str, Message], None],
    ) -> None:
        super().__init__(
            config.node_id,
            cluster=config.cluster_id,
            listen=config.raft_listen,
            advertise=config.myself.raft,
            routes=config.routes,
            settings=config.raft,
            rng=rng,
            trust=AnyPeer(),
            wire=SimWire(process, network),
        )
        self._process = process
        self._weather = weather
        self._tap = tap

    def send(self, node: Node, message: object) -> bool:
        """As `WireTransport.send`, as the weather allows."""
        assert isinstance(message, Message)
        dialler = self._outgoing.get(node.id)
        link = dialler.link if dialler is not None else None
        if link is None:
            return False
        self._tap(node.id, message)
        weather = self._weather
        harm = weather.harms.get((self.me, node.id))
        if harm is None:
            return super().send(node, message)
        if weather.strikes("message_lost", harm.lost):
            return True
        late = partial(self._send_late, link, node, message)
        if weather.strikes("message_overtaken", harm.overtaken):
            self._process.call_later(weather.lateness_s(), late)
            sent = True
        else:
            sent = super().send(node, message)
        if weather.strikes("message_doubled", harm.doubled):
            self._process.call_later(weather.lateness_s(), late)
        return sent

    def _send_late(self, link: object, node: Node, message: Message) -> None:
        """On the connection that it was meant for, or not at all."""
        dialler = self._outgoing.get(node.id)
        if dialler is not None and dialler.link is link:
            super().send(node, message)
