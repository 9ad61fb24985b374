"""Work that may wait until something more urgent has been done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Unhurried:
    """Pieces of work in the order in which they came: done at once, or put off while there is a hurry."""

    def __init__(self) -> None:
        self._hurries = False
        self._put_off: list[Callable[[], None]] = []

    @contextmanager
    def hurry(self) -> Iterator[None]:
        """Put off what comes meanwhile, until `catch_up`."""
        self._hurries = True
        try:
            yield
        finally:
            self._hurries = False

    def do(self, work: Callable[[], None]) -> None:
        """Now, or by the next `catch_up`."""
        if self._hurries:
            self._put_off.append(work)
        else:
            work()

    def catch_up(self) -> None:
        """Do what was put off."""
        put_off, self._put_off = self._put_off, []
        for work in put_off:
            work()
