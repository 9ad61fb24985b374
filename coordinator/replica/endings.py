"""Those who wait for DAGs to end."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable


class Endings:
    """Futures by number of a DAG. Bounded by the calls that a node takes at once."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[asyncio.Future[bool]]] = defaultdict(set)

    async def wait(self, number: int, timeout_s: float) -> bool:
        """Return whether the unfinished DAG of this number has ended within so long; False also as soon as
        this node may not know."""
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[number].add(ended)
        try:
            async with asyncio.timeout(timeout_s):
                return await ended
        except TimeoutError:
            return False
        finally:
            self._waiting[number].discard(ended)
            if not self._waiting[number]:
                del self._waiting[number]

    def ended(self, numbers: Iterable[int]) -> None:
        """These DAGs have ended, and that is stored."""
        for number in numbers:
            self._tell(number, ended=True)

    def interrupt(self) -> None:
        """The state is another, or this node no longer leads."""
        for number in self._waiting:
            self._tell(number, ended=False)

    def _tell(self, number: int, *, ended: bool) -> None:
        for waiting in self._waiting.get(number, ()):
            if not waiting.done():
                waiting.set_result(ended)
