"""A node's links to the others, as consensus is given them: PySyncObj's transport seam with a beginning and
an end."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping

from pysyncobj.transport import Transport

from coordinator.consensus.admission import Gate


class Links(Transport):
    """Delivers messages to named nodes or loses them, and says when a way to one opens or closes. Nothing is
    opened before `start`, so that no peer can come before the callbacks are set."""

    counters: Counter[str]
    on_read: Callable[[], None]
    """Called when all that had arrived on a link has been handed over as messages."""

    @property
    @abstractmethod
    def bound_port(self) -> int:
        """The port on which other nodes reach this one."""

    @abstractmethod
    async def start(self) -> None:
        """Listen, and begin to reach the others. Raises StartFailed."""

    @abstractmethod
    def abort(self) -> None:
        """Close every link; nothing is called back any more."""

    @abstractmethod
    async def close(self) -> None:
        """`abort`, and wait until nothing runs any more."""

    @abstractmethod
    def attach(self, gate: Gate) -> None:
        """`gate` decides who may be at the other end of a link; called once, before `start`."""

    @abstractmethod
    def reach(self, peers: Mapping[str, str]) -> None:
        """Keep links to these nodes, by id and "host:port", from now on. Links to others close, but for a
        stranger's that the gate lets in: a way back to it is kept for as long as it calls."""
