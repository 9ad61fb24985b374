"""What a node does while its disk is nearly full: it leaves leading to others before the disk is full, and
where all are in the same plight the cluster goes on with what it has begun and takes on nothing new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from coordinator.consensus.port import Abstention, Consensus, PeerStatus, Role
from coordinator.core.commands import Command, KvPut, StageDag, SubmitDag
from coordinator.defects import Defects
from coordinator.errors import CoordinatorError, OutOfSpace

NEW_WORK: Final = (SubmitDag, StageDag, KvPut)
"""Commands that only add to what is stored, at somebody's wish."""

_MARGIN: Final = 1.25
"""So much more than the least must be free before a node counts itself well again."""

_RETRY_MS: Final = 5_000

_log = structlog.get_logger(__name__)


class SpaceGuard:
    """Looks at the free space every `check_s` seconds; below `least` bytes (0: never) the node is `low`.

    `changed` is called whenever that changes; `known` says whether a command has been carried out already.
    """

    def __init__(
        self,
        free_bytes: Callable[[], int],
        consensus: Consensus,
        changed: Callable[[], None],
        known: Callable[[Command], bool],
        defects: Defects,
        *,
        least: int,
        check_s: float,
    ) -> None:
        self._measure = free_bytes
        self._consensus = consensus
        self._changed = changed
        self._known = known
        self._defects = defects
        self._least = least
        self._check_s = check_s
        self._watching: asyncio.Task[None] | None = None
        self.free = 0
        """Bytes, as of the last look."""
        self.low = False
        self.refuses = False
        """Whether new work is refused: this node leads, and nobody with more space can."""

    def start(self) -> None:
        """Look now, and from now on. Raises OSError if the disk does not say what is free."""
        self.look()
        self._watching = self._defects.begin("free_space", self._watch())

    def stop(self) -> None:
        """Look no more."""
        if self._watching is not None:
            self._watching.cancel()

    def look(self) -> None:
        """Measure, and judge."""
        self.free = self._measure()
        low = self.free < self._least * (_MARGIN if self.low else 1.0)
        if low is not self.low:
            self.low = low
            how = "leaves leading to others" if low else "may lead again"
            _log.warning(f"disk space: this node {how}", free_bytes=self.free, min_free_bytes=self._least)
            self._changed()

    def admit(self, command: Command) -> None:
        """Raises OutOfSpace if the command is new work, no retry, and there is no room for it."""
        if self.refuses and isinstance(command, NEW_WORK) and not self._known(command):
            raise OutOfSpace(
                f"the cluster's disks are nearly full: the leader's has {self.free} bytes free, and needs "
                f"{self._least} (setting limits.min_free_bytes). What has begun goes on, and so do reads; "
                "nothing new is taken. Free space, or delete what is not needed.",
                retry_after_ms=_RETRY_MS,
                setting="limits.min_free_bytes",
                limit=self._least,
                value=self.free,
            )

    async def _watch(self) -> None:
        while True:
            with self._defects.turn("free_space"):
                self.refuses = self.low and self._leads() and not await self._hand_over()
            await asyncio.sleep(self._check_s)
            with self._defects.turn("free_space"):
                self.look()

    def _leads(self) -> bool:
        return self._consensus.status().role is Role.LEADER

    async def _hand_over(self) -> bool:
        """Let somebody with more space lead; returns whether it came about."""
        able = [peer for peer in self._consensus.status().peers if _able(peer)]
        if not able:
            return False
        try:
            await self._consensus.transfer_leadership(max(able, key=lambda peer: peer.match_index).id)
        except CoordinatorError as error:
            _log.warning("disk space: leadership could not be handed over", why=error.message)
        return not self._leads()


def _able(peer: PeerStatus) -> bool:
    return peer.connected and peer.age_s >= 0 and peer.abstains is Abstention.NONE
