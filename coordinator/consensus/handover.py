"""Handing leadership over (Ongaro's thesis, section 3.10)."""

from __future__ import annotations

import math

from coordinator.consensus.messages import TimeoutNow
from coordinator.consensus.peer import Peer
from coordinator.consensus.port import Abstention
from coordinator.consensus.seam import SyncObjSeam
from coordinator.errors import CoordinatorError, NotFound, WrongState


class HandOver:
    """One leader's attempts to let another voter take over. While there is one under way it takes no more
    proposals, and whoever was chosen is asked to stand once it has every entry."""

    def __init__(self, node: SyncObjSeam, peers: dict[str, Peer]) -> None:
        """`peers` are the followers by id, as they are at any time."""
        self._node = node
        self._peers = peers
        self._offered_s = -math.inf
        self.target: str | None = None
        """Who is to take over."""

    def begin(self, target: str | None) -> str:
        """Choose `target`, or the most caught-up follower; returns its id.

        Raises:
            NotFound: the target is no member.
            WrongState: there is nobody to take over, or the target is not a voter or cannot be reached.
        """
        reachable = self._reachable()
        if target is not None and target not in reachable:
            raise self._cannot_lead(target)
        if not reachable:
            raise WrongState(
                "there is no other voter connected that could take over leadership; see `coordctl member "
                "list`, and start one or add and promote one"
            )
        self.target = target or self._most_caught_up(reachable)
        return self.target

    def end(self) -> None:
        """It did not come about in time: take proposals again."""
        self.target = None

    def offer(self, now: float) -> None:
        """Ask the one who was chosen to stand, now and then until it does."""
        if self.target is not None and now >= self._offered_s + self._node.settings.heartbeat_s:
            self._offered_s = now
            self._node.send(self.target, TimeoutNow(self._node.term))

    def abdicate(self) -> None:
        """This node stops, and can write no more: whoever has most of the log stands at once, rather than
        when it misses the leader."""
        reachable = self._reachable()
        if reachable:
            self._node.send(self._most_caught_up(reachable), TimeoutNow(self._node.term))

    def _reachable(self) -> list[str]:
        return [peer_id for peer_id in self._node.other_voters if self._node.connected(peer_id)]

    def _most_caught_up(self, peer_ids: list[str]) -> str:
        """Of those that do not leave leadership to others, if there are any."""
        peers = self._peers
        willing = [peer_id for peer_id in peer_ids if peers[peer_id].abstains is Abstention.NONE]
        return max(willing or peer_ids, key=lambda peer_id: peers[peer_id].progress.match)

    def _cannot_lead(self, target: str) -> CoordinatorError:
        membership = self._node.configuration.membership
        if membership.get(target) is None:
            names = ", ".join(sorted(member.id for member in membership))
            return NotFound(f"{target!r} cannot take over: there are {names}", node=target)
        if not membership.is_voter(target):
            return WrongState(
                f"{target!r} cannot take over: it is a learner. `coordctl member promote {target}` makes it "
                "a voter once it has caught up",
                target=target,
            )
        if target == self._node.me:
            return WrongState(f"{target!r} leads already", target=target)
        return WrongState(
            f"{target!r} cannot take over: it is not connected. See that it runs and can be reached, or name "
            "another voter, or none",
            target=target,
        )
