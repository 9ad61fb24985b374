"""What a simulated client or agent is given in place of a machine."""

from __future__ import annotations

import random
from typing import Any, cast

import grpc.aio

from agent_sdk._load import Meter
from agent_sdk._surroundings import Surroundings
from chaos.sim.host_loop import HostLoop
from chaos.sim.network import Network
from chaos.sim.rpc_channel import SimChannel
from quorumflow_proto.v1 import agent_pb2


def sdk_surroundings(process: HostLoop, network: Network) -> Surroundings:
    """For code that runs in `process`."""
    rng = random.Random(process.rng.random())
    return Surroundings(
        open_channel=lambda address: cast(grpc.aio.Channel, SimChannel(network, process, address)),
        new_id=lambda: f"{rng.getrandbits(128):032x}",
        now_ns=lambda: int(process.time() * 1e9),
        meter=lambda _: cast(Meter, DrawnLoad(rng)),
        rng=rng,
    )


class DrawnLoad:
    """A Meter that makes its figures up."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def news(self, queued: int, running: int) -> Any:
        """As `Meter.news`."""
        if self._rng.random() < 0.5:
            return None
        return agent_pb2.LoadReport(
            cpu=self._rng.random(), memory=self._rng.random(), queued=queued, running=running
        )

    def forget_reported(self) -> None:
        """As `Meter.forget_reported`."""
