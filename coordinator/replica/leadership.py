"""Taking and giving up leadership.

Elected is not yet serving: first everything that earlier terms committed must be applied here (a
barrier), then what the leader keeps in memory is rebuilt from the state. What it keeps is never stored;
losing leadership just drops it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from coordinator.consensus.port import Consensus, Role
from coordinator.defects import Defects
from coordinator.errors import CoordinatorError, NotLeader
from coordinator.replica.applier import Applier
from coordinator.replica.clock import TermClock
from coordinator.replica.leader import Leader
from coordinator.replica.proposer import Proposer
from coordinator.replica.sessions import Sessions

_PAUSE_S: Final = 0.5
"""Before leadership is given to another node, which may fail as this one did: not many times a second."""

_log = structlog.get_logger(__name__)


class Leadership:
    """Follows the node's role, and makes it serve as the leader while it is one. `make_leader` is given the
    defects of the term; `address_of` gives a node's gRPC address."""

    def __init__(
        self,
        applier: Applier,
        proposer: Proposer,
        sessions: Sessions,
        clock: TermClock,
        make_leader: Callable[[Defects], Leader],
        address_of: Callable[[str], str],
        defects: Defects,
    ) -> None:
        self._applier = applier
        self._proposer = proposer
        self._sessions = sessions
        self._clock = clock
        self._make_leader = make_leader
        self._address_of = address_of
        self._defects = defects
        self._consensus: Consensus | None = None
        self._term = 0
        self._known_leader: str | None = None
        self._leader: Leader | None = None
        self._serving: asyncio.Future[Leader] | None = None
        self._take_over_task: asyncio.Task[None] | None = None
        self._resigning: asyncio.Task[None] | None = None

    def attach(self, consensus: Consensus) -> None:
        """What the barrier is asked of."""
        self._consensus = consensus

    def on_role(self, role: Role, term: int, leader: str | None) -> None:
        """The node's role, term or known leader has changed."""
        self._known_leader = leader
        if role is Role.LEADER:
            if term != self._term or self._serving is None:
                self._revoke()
                self._term = term
                self._serving = asyncio.get_running_loop().create_future()
                defects = self._defects.within(partial(self.give_up, term))
                taking_over = self._take_over(term, self._serving, defects)
                self._take_over_task = defects.begin("take_over", taking_over)
        elif self._serving is not None:
            self._revoke()

    @property
    def leader(self) -> Leader | None:
        """The leader's loops, if this node serves as the leader."""
        return self._leader

    async def serving(self) -> Leader:
        """The leader's loops, as soon as this node, being elected, serves. Raises NotLeader."""
        if self._serving is None:
            raise self.not_leader()
        return await asyncio.shield(self._serving)

    def not_leader(self) -> NotLeader:
        """The error that tells a caller where to go."""
        known = self._known_leader or ""
        return NotLeader(known, self._address_of(known) if known else "")

    def give_up(self, term: int | None = None) -> None:
        """Serve no longer in this term, or in whichever it is, and let another node lead: what this one has
        in memory is not to be trusted."""
        if term not in (None, self._term) or self._serving is None:
            return
        self._known_leader = None
        self._revoke()
        self._resigning = self._defects.begin("resigning", self._resign(self._term))

    def stop(self) -> None:
        """The node goes down."""
        self._revoke()
        if self._resigning is not None:
            self._resigning.cancel()

    async def _resign(self, term: int) -> None:
        assert self._consensus is not None
        await asyncio.sleep(_PAUSE_S)
        await self._consensus.resign(term)

    async def _take_over(self, term: int, serving: asyncio.Future[Leader], defects: Defects) -> None:
        assert self._consensus is not None
        try:
            await self._applier.wait_applied(await self._consensus.read_index())
        except CoordinatorError as error:
            _log.info("leadership lost before it began", term=term, why=error.reason)
            self.give_up(term)
            return
        self._clock.anchor(self._applier.state.machine.now_ms)
        self._sessions.term = term
        self._leader = self._make_leader(defects)
        self._applier.on_push, self._applier.on_effects = self._leader.on_push, self._leader.on_effects
        # Agents and clients are served from here on; the queues fill while they come.
        serving.set_result(self._leader)
        _log.info("leading", term=term, applied=self._applier.applied.index)
        await self._leader.rebuild()

    def _revoke(self) -> None:
        serving, self._serving = self._serving, None
        if self._take_over_task is not None:
            self._take_over_task.cancel()
            self._take_over_task = None
        if serving is None:
            return
        error = self.not_leader()
        self._applier.on_push = self._applier.on_effects = None
        if self._leader is not None:
            self._leader.stop()
            self._leader = None
            _log.info("no longer leading", term=self._term, leader=self._known_leader)
        if not serving.done():
            serving.set_exception(error)
            serving.exception()
        self._sessions.revoke(error)
        self._proposer.revoke(error)
        self._applier.interrupt_watchers()
