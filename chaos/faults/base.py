"""What all faults have in common: where they strike, what they need, and what they leave to be healed."""

from __future__ import annotations

import enum
import random
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from agent_sdk import Client
from chaos.harness.clocks import Clocks
from chaos.harness.disks import Disks
from chaos.harness.fleet import Fleet
from chaos.harness.network import Network
from coordinator.cli.local_cluster import LocalCluster
from coordinator.errors import Unavailable, WrongState

Seconds = Annotated[float, Meta(ge=0, le=3_600)]
Count = Annotated[int, Meta(ge=1, le=1_000)]
Share = Annotated[float, Meta(ge=0, le=0.9)]
Milliseconds = Annotated[float, Meta(ge=0, le=60_000)]

WAIT_S: Final = 30.0
"""How long a step of a drill may take before the drill is given up."""


class Need(enum.Enum):
    """What a fault cannot do without."""

    PROCESSES = "control of the nodes' processes"
    LINKS = "links between the nodes that can be cut"
    DELAY = "links between the nodes that can be delayed"
    CLOCKS = "clocks that can be set"
    DISKS = "disks that can be filled"


@dataclass
class Site:
    """Where faults strike. What is None is beyond the drill's reach, as for a cluster that it did not
    start. `known_endpoints` are those that clients and agents are given."""

    known_endpoints: Sequence[str]
    client: Client
    fleet: Fleet
    rng: random.Random
    cluster: LocalCluster | None = None
    network: Network | None = None
    clocks: Clocks | None = None
    disks: Disks | None = None
    struck: dict[str, int] = field(default_factory=dict)
    """How often each node was a target."""

    @property
    def endpoints(self) -> Sequence[str]:
        """The gRPC addresses of the nodes that there are now."""
        return self.known_endpoints if self.cluster is None else self.cluster.endpoints

    @property
    def nodes(self) -> list[str]:
        """The ids of the nodes."""
        if self.cluster is not None:
            return list(self.cluster.nodes)
        return [node.id for node in self.client.cluster_status().nodes]

    @property
    def processes(self) -> LocalCluster:
        """The nodes' processes. Raises WrongState."""
        if self.cluster is None:
            raise _lacking(Need.PROCESSES)
        return self.cluster

    @property
    def links(self) -> Network:
        """The links between the nodes. Raises WrongState."""
        if self.network is None:
            raise _lacking(Need.LINKS)
        return self.network

    def leader(self) -> str:
        """Who leads, as long as all is well. Raises DeadlineExceeded."""
        return self.client.cluster_status().leader

    def choose(self, target: str) -> str:
        """The node that `target` means: "leader", "follower", "any", "next" (those struck least first), or
        its id. Raises WrongState for an id that there is not."""
        nodes = self.nodes
        if target == "leader":
            chosen = self.leader()
        elif target == "follower":
            leader = self.leader()
            chosen = self.rng.choice([node for node in nodes if node != leader])
        elif target == "any":
            chosen = self.rng.choice(nodes)
        elif target == "next":
            chosen = min(nodes, key=lambda node: self.struck.get(node, 0))
        elif target in nodes:
            chosen = target
        else:
            raise WrongState(f"there is no node {target!r} to strike; there are {', '.join(nodes)}")
        self.struck[chosen] = self.struck.get(chosen, 0) + 1
        return chosen


@dataclass(frozen=True, kw_only=True)
class Wound:
    """What a fault did. `at_ms` is when (Unix ms), `nodes` and `agents` whom it hit; `leader` whether the
    leader lost its majority or its life by it, `majority` whether a majority of nodes that work stays
    connected. What is asked after `in_effect_ms` (by default `at_ms`) meets it. `heal` undoes it, and may be
    called once; then `whole` (by default `nodes`) have to catch up."""

    at_ms: int
    in_effect_ms: int = 0
    heal: Callable[[], None]
    nodes: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    leader: bool = False
    majority: bool = True
    note: str = ""
    problem: str = ""
    """What did not go as it should while it was struck."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="fault"):
    """One kind of fault, as a plan tells it. How long it lasts is drawn between the two numbers of
    `hold_s`, and `weight` is its share among those that a track draws from."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    hold_s: tuple[Seconds, Seconds] = (0.5, 2.0)
    weight: Count = 1

    @property
    def kind(self) -> str:
        """Its name in plans and reports."""
        return str(self.__struct_config__.tag)

    @property
    def all_needs(self) -> frozenset[Need]:
        """`needs`, and what its fields ask for."""
        return self.needs

    @abstractmethod
    def strike(self, site: Site) -> Wound:
        """Do it. Raises WrongState where it cannot be done, Unavailable if it did not come about."""

    def hold(self, rng: random.Random) -> float:
        """How many seconds it lasts this time."""
        return rng.uniform(*self.hold_s)


class Periodic:
    """Does something again and again in a thread, until it is stopped."""

    def __init__(self, act: Callable[[int], None], pause_s: float) -> None:
        self._act = act
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let it end; returns when it has."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        turn = 0
        while not self._stopping.wait(self._pause_s):
            turn += 1
            self._act(turn)


def now_ms() -> int:
    """Unix time in ms, of the clock that leaders and agents stamp with."""
    return time.time_ns() // 1_000_000


def await_event(what: str, look: Callable[[], bool], timeout_s: float = WAIT_S, poll_s: float = 0.01) -> None:
    """Return as soon as `look` is true. Raises Unavailable if it is not in time."""
    deadline = time.monotonic() + timeout_s
    while not look():
        if time.monotonic() > deadline:
            raise Unavailable(f"waited {timeout_s} s in vain until {what}")
        time.sleep(poll_s)


def _lacking(need: Need) -> WrongState:
    return WrongState(f"this fault needs {need.value}, which the drill has not got", need=need.value)
