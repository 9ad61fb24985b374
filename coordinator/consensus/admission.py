"""Whom a node lets call it: one rule, for links of every kind. Pure.

A stranger may be a member that was added after this node's log ends, so the newer configuration is
right. A member is the one data folder that the configuration binds its id to: a folder that was wiped has
forgotten its votes and its entries, and must come back as a new member.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

from coordinator.consensus.membership import Configuration, Name


class Credentials(msgspec.Struct, frozen=True, array_like=True):
    """What a node says of itself when a link begins: its id, its data folder, and the place of the newest
    configuration that it knows."""

    node: Name
    incarnation: Name
    place: tuple[int, int]


class Refusal(NamedTuple):
    """Why somebody is not welcome. `final` if the configuration that says so is committed."""

    reason: str
    final: bool


class Gate(Protocol):
    """What links ask the node that they belong to."""

    @property
    def credentials(self) -> Credentials:
        """What to say of it at the beginning of a link."""

    def judge(self, peer: Credentials) -> Refusal | None:
        """Whether to let that node be at the other end of a new link; None if it is welcome."""

    def keeps(self, peer: Credentials) -> bool:
        """Whether a link that was made with that node may stay."""

    def refused(self, peer: str, refusal: Refusal) -> None:
        """A peer does not let this node in."""


def objection(newest: Configuration, *, committed: bool, peer: Credentials) -> Refusal | None:
    """Why `peer` is not welcome with a node whose newest configuration is `newest`; None if it is."""
    if peer.place > newest.place:
        return None
    member = newest.membership.get(peer.node)
    if member is None:
        return Refusal(
            f"{peer.node} is not a member of the cluster (configuration at entry {newest.index}): it was "
            f"removed, or has not been added. `coordctl member add {peer.node}` adds a node, which starts "
            "with an empty data folder and join=true",
            committed,
        )
    if member.incarnation not in ("", peer.incarnation):
        return Refusal(
            f"{peer.node} is bound to another data folder (incarnation {member.incarnation}, not "
            f"{peer.incarnation}; configuration at entry {newest.index}): its disk was wiped or exchanged, "
            "and with it went what it had promised the others. "
            f"`coordctl member replace {peer.node} {peer.node}` admits the new folder as a learner",
            committed,
        )
    return None
