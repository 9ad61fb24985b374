"""The network between machines: how long a message takes, which ways are open, and the connections.

A connection carries messages in order, as TCP does: on a way that is cut they wait, and are sent again when
it opens, unless one of the ends gives up first. A connection that breaks loses what is under way.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from chaos.sim.host_loop import HostLoop
from chaos.sim.scheduler import Scheduler

SILENCE_S: Final = 3.0
"""An end that hears nothing from the other's kernel for so long gives the connection up."""

CONNECT_TIMEOUT_S: Final = 1.0
_SYN_RETRY_S: Final = 0.25
_SPREAD: Final = 0.4
"""How much delays vary: the standard deviation of their logarithm."""
_RESEND_S: Final = 0.2
"""The longest until what waited for a way is sent again."""

Pair = tuple[str, str]


def _always() -> bool:
    """Nobody gives up."""
    return True


class Dialling(NamedTuple):
    """What a process wants to hear of its call: the end of the connection, or why there is none within
    `patience_s`. Nothing if it is not `wanted` any more."""

    opened: Callable[[End], None]
    failed: Callable[[str], None]
    patience_s: float = CONNECT_TIMEOUT_S
    wanted: Callable[[], bool] = _always


class End:
    """One process's end of a connection. Its callbacks run in the process."""

    def __init__(self, network: Network, process: HostLoop) -> None:
        self.process = process
        self.peer: End = self
        self.open = True
        self.on_message: Callable[[Any], None] = _ignore
        self.on_closed: Callable[[], None] = _ignore
        self._network = network
        self._arrives_s = 0.0
        self._under_way: deque[tuple[str, Any]] = deque()
        self._stalled = 0
        """Deliveries that found no way."""

    def send(self, message: object) -> None:
        """Have a message delivered after those before it; lost if the connection breaks first. It must
        never change."""
        if self.open and not self.process.ended:
            self._forward(("message", message))

    @property
    def backlog(self) -> int:
        """The length of what waits for a way to open, if there is none."""
        if not self._stalled:
            return 0
        return sum(len(message) for what, message in self._under_way if what == "message")

    def close(self) -> None:
        """End the connection: the other side hears of it after what was sent before."""
        if self.open and not self.process.ended:
            self.open = False
            self._network.forget(self)
            self._forward(("close", None))

    def lost(self) -> None:
        """This end learns that the connection is gone."""
        if self.open:
            self.open = False
            self._network.forget(self)
            self.process.post(self._notice_loss)

    def hang_up(self) -> None:
        """The process has died, and its kernel tells the other side."""
        self.open = False
        self._network.forget(self)
        self._forward(("close", None))

    def resume(self) -> None:
        """The way is open again: send what did not get through."""
        stalled, self._stalled = self._stalled, 0
        if stalled:
            again_s = self._network.scheduler.now + self._network.rng.uniform(0.0, _RESEND_S)
            self._arrives_s = max(self._arrives_s, again_s)
        for _ in range(stalled):
            self._deliver_later()

    def _forward(self, item: tuple[str, Any]) -> None:
        self._under_way.append(item)
        self._deliver_later()

    def _deliver_later(self) -> None:
        network = self._network
        arrives_s = network.scheduler.now + network.delay(self.process.name, self.peer.process.name)
        self._arrives_s = max(arrives_s, self._arrives_s + 1e-9)
        network.scheduler.at(self._arrives_s, self._deliver)

    def _deliver(self) -> None:
        """The first of what is under way arrives, if there is a way."""
        network, there = self._network, self.peer
        if not network.is_open(self.process.name, there.process.name):
            self._stalled += 1
            return
        what, message = self._under_way.popleft()
        if what == "close":
            there.process.post(there._hear_the_end)
        elif there.open:
            there.process.post(there._take, message)
        else:
            # A kernel answers with a reset what is sent to a connection that it does not know.
            network.scheduler.after(network.delay(there.process.name, self.process.name), self._refused)

    def _refused(self) -> None:
        if self._network.is_open(self.peer.process.name, self.process.name):
            self.lost()

    def _hear_the_end(self) -> None:
        """After what has arrived before, also if the process had no time for that yet."""
        if self.open:
            self.open = False
            self._network.forget(self)
            self.on_closed()

    def _notice_loss(self) -> None:
        # Looked up now: a process that was paused may learn of a connection and of its end at once.
        self.on_closed()

    def _take(self, message: object) -> None:
        if self.open:
            self.on_message(message)


class Network:
    """Ways between machines by their names, listeners by (machine, port), and all connections."""

    def __init__(self, scheduler: Scheduler, rng: random.Random, *, delay_s: float) -> None:
        self.scheduler = scheduler
        self.rng = rng
        self.delay_s = delay_s
        """What a message takes at the median."""
        self.slowness: dict[Pair, float] = {}
        """Factors on the delay."""
        self.silence_s = SILENCE_S
        self._cut: dict[Pair, int] = {}
        self._cut_since_s: dict[Pair, float] = {}
        self._listeners: dict[Pair, tuple[HostLoop, Callable[[End], None]]] = {}
        self._ends: dict[End, None] = {}

    # --- ways -----------------------------------------------------------------------------------------------

    def is_open(self, source: str, target: str) -> bool:
        """Whether messages get from one machine to the other."""
        return not self._cut.get((source, target))

    def delay(self, source: str, target: str) -> float:
        """Seconds that the next message takes."""
        drawn = self.rng.lognormvariate(0.0, _SPREAD) * self.delay_s
        return drawn * self.slowness.get((source, target), 1.0)

    def cut(self, source: str, target: str) -> None:
        """Nothing gets from one to the other until it is mended as often as it was cut."""
        if self.is_open(source, target):
            self._cut_since_s[source, target] = self.scheduler.now
        self._cut[source, target] = self._cut.get((source, target), 0) + 1
        for end in list(self._ends):
            if {end.process.name, end.peer.process.name} == {source, target}:
                self.watch_silence(end)

    def mend(self, source: str, target: str) -> None:
        """Undo one cut."""
        self._cut[source, target] -= 1
        if self.is_open(source, target):
            for end in list(self._ends):
                if (end.process.name, end.peer.process.name) == (source, target):
                    end.resume()

    # --- connections ----------------------------------------------------------------------------------------

    def listen(self, process: HostLoop, port: str, accept: Callable[[End], None]) -> None:
        """Have `accept` called in the process for each connection to this port of its machine."""
        self._listeners[process.name, port] = process, accept

    def close_port(self, process: HostLoop, port: str) -> None:
        """Take no more connections."""
        if self._listeners.get((process.name, port), (None,))[0] is process:
            del self._listeners[process.name, port]

    def dial(self, process: HostLoop, target: str, port: str, dialling: Dialling) -> None:
        """Connect; one of the two is called in the process."""
        self._try_to_dial(process, target, port, dialling, self.scheduler.now + dialling.patience_s)

    def forget(self, end: End) -> None:
        """The end is closed."""
        self._ends.pop(end, None)

    def reset(self, one: str, other: str) -> int:
        """Break every connection between two machines: what is under way is lost. Returns how many ends
        heard of it."""
        doomed = [end for end in self._ends if {end.process.name, end.peer.process.name} == {one, other}]
        for end in doomed:
            self.scheduler.after(self.rng.uniform(0.0, 0.002), end.lost)
        return len(doomed)

    def died(self, process: HostLoop, silent: bool) -> None:
        """A process has ended: its kernel closes its connections, unless it died with it."""
        for key in [key for key, (owner, _) in self._listeners.items() if owner is process]:
            del self._listeners[key]
        for end in [end for end in self._ends if end.process is process]:
            if silent:
                end.open = False
                self.forget(end)
                self.watch_silence(end.peer)
            else:
                end.hang_up()

    def watch_silence(self, end: End) -> None:
        """The end gives up if nothing has changed when it has been quiet for long enough."""
        patience_s = self.silence_s * self.rng.uniform(0.8, 1.2)
        self.scheduler.after(patience_s, lambda: self._give_up(end, patience_s))

    def _give_up(self, end: End, patience_s: float) -> None:
        here, there = end.process.name, end.peer.process.name
        silent_since_s = min(
            (self._cut_since_s[way] for way in ((here, there), (there, here)) if not self.is_open(*way)),
            default=math.inf,
        )
        if not end.peer.open or silent_since_s <= self.scheduler.now - patience_s + 1e-9:
            end.lost()
            self.watch_silence(end.peer)

    def _try_to_dial(
        self, process: HostLoop, target: str, port: str, dialling: Dialling, until: float
    ) -> None:
        here = process.name
        if process.ended or not dialling.wanted():
            return
        if self.scheduler.now >= until:
            process.post(dialling.failed, f"no answer from {target}")
        elif not (self.is_open(here, target) and self.is_open(target, here)):
            self.scheduler.after(
                _SYN_RETRY_S, lambda: self._try_to_dial(process, target, port, dialling, until)
            )
        else:
            self.scheduler.after(
                self.delay(here, target), lambda: self._answer(process, target, port, dialling)
            )

    def _answer(self, process: HostLoop, target: str, port: str, dialling: Dialling) -> None:
        back_s = self.delay(target, process.name)
        listener = self._listeners.get((target, port))
        if process.ended or not dialling.wanted():
            return
        if listener is None:
            refused = f"{target} refuses connections"
            self.scheduler.after(back_s, lambda: process.post(dialling.failed, refused))
            return
        owner, accept = listener
        near, far = End(self, process), End(self, owner)
        near.peer, far.peer = far, near
        self._ends[near] = self._ends[far] = None
        owner.post(accept, far)
        self.scheduler.after(back_s, lambda: _tell(dialling, near, f"{target} has closed the connection"))


def _tell(dialling: Dialling, end: End, otherwise: str) -> None:
    """The call is answered, unless the other side has died since."""
    if end.open:
        end.process.post(dialling.opened, end)
    else:
        end.process.post(dialling.failed, otherwise)


def _ignore(*_: object) -> None:
    """Nobody listens yet."""
