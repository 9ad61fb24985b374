"""What a node needs of the machine that it runs on: disks, links, threads, clocks and chance.

Nothing else in a node touches any of them, so that a simulator which provides its own runs the very same
node.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from coordinator.config import NodeConfig
from coordinator.consensus.journal import FAMILIES
from coordinator.consensus.links import Links
from coordinator.consensus.tls import AnyPeer, Certificates, NoPeer, Trust, identity
from coordinator.consensus.transport import WireTransport
from coordinator.consensus.worker import ThreadWorker, Worker
from coordinator.forecast.settings import ForecastSettings
from coordinator.plugins import Plugins, wanted
from coordinator.replica.clock import wall_ms
from coordinator.replica.slow_models import ModelProcess, SlowModels, check_installed
from coordinator.storage.engine import Engine, RocksEngine
from coordinator.storage.state_home import FolderHome, StateHome


class Surroundings(NamedTuple):
    """`now` gives monotonic seconds, `wall_ms` Unix time in milliseconds; `worker` makes a worker by its name
    and what is brief to it; `free_bytes` says how much more the disks take; `slow_models` runs the models
    that `forecast.extras` names; `plugins` are the families and policies that are known."""

    open_log: Callable[[], Engine]
    open_home: Callable[[], StateHome]
    links: Links
    worker: Callable[[str, float], Worker]
    now: Callable[[], float]
    wall_ms: Callable[[], int]
    rng: random.Random
    free_bytes: Callable[[], int]
    slow_models: SlowModels | None = None
    plugins: Plugins = Plugins()


def this_machine(config: NodeConfig) -> Surroundings:
    """RocksDB below the data folder, TCP, threads, and the system's clocks. Raises ConfigError if this node's
    certificate is of no use, a model's library is not there, or a plug-in is broken."""
    data = Path(config.data_dir)
    rng = random.Random()  # noqa: S311 - jitter, not a secret
    return Surroundings(
        open_log=lambda: RocksEngine(data / "log", FAMILIES),
        open_home=lambda: FolderHome(data / "state"),
        links=WireTransport(
            config.node_id,
            cluster=config.cluster_id,
            listen=config.raft_listen,
            advertise="" if config.raft_port == 0 else config.myself.raft,
            routes=config.routes,
            settings=config.raft,
            rng=rng,
            trust=_trust(config),
        ),
        worker=ThreadWorker,
        now=time.monotonic,
        wall_ms=wall_ms,
        rng=rng,
        free_bytes=lambda: _free_bytes(data),
        slow_models=_slow_models(config.forecast),
        plugins=wanted(config.scheduling),
    )


def _slow_models(section: ForecastSettings) -> SlowModels | None:
    check_installed(section.models)
    return ModelProcess() if section.enabled and section.models else None


def _trust(config: NodeConfig) -> Trust:
    """What `config.tls` says about those at the other end of a link. Raises ConfigError."""
    tls = config.tls
    if tls.mode == "off":
        return AnyPeer()
    if not tls.cert:
        return NoPeer()
    return Certificates(
        Path(tls.ca),
        Path(tls.cert),
        Path(tls.key),
        me=identity(config.cluster_id, config.node_id),
        warn_days=tls.warn_days,
    )


def _free_bytes(data: Path) -> int:
    """What is free where the log and the state lie, which may be on disks of their own."""
    places = [os.statvfs(place) for place in (data, data / "log", data / "state")]
    return min(place.f_bavail * place.f_frsize for place in places)
