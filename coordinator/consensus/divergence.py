"""Whether the nodes' states are the same, as their leader sees it. Pure.

Every answer of a follower names the last entry that it applied, and the rolling digest of its state there;
the leader knows its own digest after each of the last entries. A difference never mends itself, since each
digest is rolled on from the one before: looking at some entries finds it as surely as looking at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from coordinator.errors import StateDiverged


class Finding(NamedTuple):
    """Two states were last seen equal after entry `equal` (0: never in this term), and first seen to differ
    after entry `different`."""

    equal: int
    different: int


class Judgement(NamedTuple):
    """Who must stop: these followers, and the leader itself if `leader_too`."""

    followers: list[str]
    leader_too: bool


class Comparison:
    """One leader's comparison of its state with that of each follower, in one term."""

    def __init__(self, patience_s: float) -> None:
        """Followers that have reported nothing comparable are waited for so long before one that differs is
        judged without them."""
        self._patience_s = patience_s
        self._equal: dict[str, int] = {}
        self._different: dict[str, int] = {}
        self._since_s = math.inf

    @property
    def found(self) -> bool:
        """Whether any follower differs."""
        return bool(self._different)

    def report(self, follower: str, index: int, theirs: bytes, own: bytes | None, now: float) -> None:
        """A follower has applied `index` and names the digest there; `own` is this node's, None if it is not
        known."""
        if own is None:
            return
        if own == theirs:
            self._equal[follower] = index
            self._different.pop(follower, None)
        elif follower not in self._different:
            self._different[follower] = index
            self._since_s = min(self._since_s, now)
        if not self._different:
            self._since_s = math.inf

    def forget(self, follower: str) -> None:
        """It is no member any more, or its data folder is another one."""
        self._equal.pop(follower, None)
        self._different.pop(follower, None)

    def finding(self, follower: str) -> Finding | None:
        """What is known of a follower that differs."""
        different = self._different.get(follower)
        return None if different is None else Finding(self._equal.get(follower, 0), different)

    def judge(self, voters: Iterable[str], now: float) -> Judgement | None:
        """Who must stop; None while the others are waited for. `voters` are the followers that vote.

        Whoever agrees with most of those that could be compared goes on. Where the leader and its like are
        as many as those that differ, nobody can tell who is right, and nobody goes on.
        """
        worst = max(self._different.values())
        differ = [voter for voter in voters if voter in self._different]
        agree = [voter for voter in voters if voter not in differ and self._equal.get(voter, 0) >= worst]
        silent = [voter for voter in voters if voter not in differ and voter not in agree]
        if silent and now < self._since_s + self._patience_s:
            return None
        alike = 1 + len(agree)
        if alike > len(differ):
            return Judgement(list(self._different), leader_too=False)
        return Judgement([] if alike < len(differ) else list(self._different), leader_too=True)

    def error(self, me: str) -> StateDiverged:
        """Why the leader stops."""
        others = sorted(self._different)
        found = Finding(max(self._equal.get(other, 0) for other in others), min(self._different.values()))
        return diverged(me, ", ".join(others), found)


def diverged(me: str, others: str, found: Finding) -> StateDiverged:
    """The error of a node whose state is not that of `others`."""
    equal = f"they were last seen equal after entry {found.equal}" if found.equal else "never seen equal"
    return StateDiverged(
        f"the state of {me} differs from that of {others} after entry {found.different}; {equal}. No "
        "majority is known to agree with this node, so it stops. Keep its folder for those who look for the "
        "cause, and replace the node; if all nodes have stopped, restore a backup.",
        node=me,
        others=others,
        last_equal=found.equal,
        first_different=found.different,
    )
