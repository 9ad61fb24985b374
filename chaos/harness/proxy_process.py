"""The proxies in a process of their own: a drill that is busy with its load must not be what delays
links."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterable, Mapping
from multiprocessing.connection import Connection
from typing import Final, Literal

from chaos.harness.network import Link, Manner, Shape
from chaos.harness.proxies import Proxies
from coordinator.errors import Unavailable

_END_S: Final = 5.0

Order = tuple[Literal["cut", "mend", "shape", "reset"], tuple[object, ...]]


class ProxyProcess:
    """Implements `Network`, as `Proxies` does, there. Its methods may be called from any thread; they raise
    Unavailable if the process has died."""

    def __init__(self, addresses: Mapping[str, str], *, seed: int = 0) -> None:
        # A fork would copy the locks that other threads hold.
        context = multiprocessing.get_context("spawn")
        self._here, self._there = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._there, dict(addresses), seed), daemon=True)
        self._lock = threading.Lock()
        self._routes: dict[Link, str] = {}

    def start(self) -> None:
        """Listen for every link."""
        self._process.start()
        # Only the process holds its end now: when it dies, this side hears of it.
        self._there.close()
        self._routes = self._answer()

    def close(self) -> None:
        """Close every connection and end the process."""
        self._here.close()
        if self._process.pid is not None:
            self._process.join(_END_S)
            self._process.kill()

    def route(self, link: Link) -> str:
        """Where `link.source` finds `link.target`, as "host:port"."""
        return self._routes[link]

    def cut(self, links: Iterable[Link], manner: Manner) -> None:
        """See `Network`."""
        self._order(("cut", (list(links), manner)))

    def mend(self, links: Iterable[Link]) -> None:
        """See `Network`."""
        self._order(("mend", (list(links),)))

    def shape(self, links: Iterable[Link], shape: Shape) -> None:
        """See `Network`."""
        self._order(("shape", (list(links), shape)))

    def reset(self, links: Iterable[Link]) -> None:
        """See `Network`."""
        self._order(("reset", (list(links),)))

    def _order(self, order: Order) -> None:
        with self._lock:
            try:
                self._here.send(order)
            except OSError as error:
                raise _dead() from error
            self._answer()

    def _answer(self) -> dict[Link, str]:
        try:
            routes: dict[Link, str] = self._here.recv()
        except (EOFError, OSError) as error:
            raise _dead() from error
        return routes


def _dead() -> Unavailable:
    return Unavailable("the process of the proxies has ended; no link can be hurt or mended any more")


def _serve(orders: Connection, addresses: dict[str, str], seed: int) -> None:
    """Carry out what is asked until nobody can ask any more, and answer each time with the routes."""
    # Ctrl-C reaches the whole group of processes, and it is the drill that ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    proxies = Proxies(addresses, seed=seed)
    proxies.start()
    try:
        while True:
            orders.send(proxies.routes)
            name, arguments = orders.recv()
            getattr(proxies, name)(*arguments)
    except (EOFError, OSError):
        # The drill has closed its end, or is gone.
        return
    finally:
        proxies.close()
