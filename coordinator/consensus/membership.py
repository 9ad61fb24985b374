"""Who belongs to the cluster, and where in the log that is written. Pure.

A configuration is an entry of the log that carries the whole membership, and a node goes by the newest one in
its own log, committed or not (Ongaro's thesis, section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from coordinator.errors import UnknownFormat

Name = Annotated[str, msgspec.Meta(max_length=253)]
Address = Annotated[str, msgspec.Meta(max_length=320)]


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A node of the cluster. Its identity is `id`; addresses ("host:port") may change.

    `incarnation` names the one data folder that may speak for it, "" until it has been met. A learner with
    `promote` becomes a voter as soon as it has caught up. `admitted` is the place (term, index) of the entry
    with which it came, zeros for a founder: another one that comes under its id has another.
    """

    id: Name
    raft: Address
    grpc: Address
    incarnation: Name = ""
    promote: bool = False
    admitted: tuple[int, int] = (0, 0)


class Membership(msgspec.Struct, frozen=True, array_like=True):
    """The voters, a majority of which decides, and the learners, which receive everything and do not
    count."""

    voters: tuple[Member, ...] = ()
    learners: tuple[Member, ...] = ()

    def __iter__(self) -> Iterator[Member]:
        yield from self.voters
        yield from self.learners

    def get(self, member_id: str) -> Member | None:
        """The member with this id, if there is one."""
        for members in (self.voters, self.learners):
            for member in members:
                if member.id == member_id:
                    return member
        return None

    def is_voter(self, member_id: str) -> bool:
        """Whether this node counts."""
        return any(voter.id == member_id for voter in self.voters)

    def reached_by(self, member_id: str) -> tuple[Member, ...]:
        """Whom a node keeps links to: everybody else, learners too, and whatever it is itself. If it was
        removed while it was away, the learners that it knew may be the only ones left to tell it."""
        return tuple(member for member in self if member.id != member_id)

    def continues(self, former: Membership, member_id: str) -> bool:
        """Whether a member is the one that it was in `former`, and was not replaced since, however often."""
        old, new = former.get(member_id), self.get(member_id)
        return old is not None and new is not None and old.admitted == new.admitted


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """A membership and the place of its entry. That of a folder's first start, which all nodes of a new
    cluster share, stands at the empty entry that every log begins with; that of a node which waits to be
    added stands before it."""

    index: int
    term: int
    membership: Membership

    @property
    def place(self) -> tuple[int, int]:
        """Of two logs' newest configurations the later one has the higher place, as with the logs themselves
        (Raft, section 5.4.1)."""
        return self.term, self.index


def founding(membership: Membership) -> Configuration:
    """The configuration of a folder that has none yet; an empty membership waits to be added."""
    return Configuration(1 if membership.voters else 0, 0, membership)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Membership).decode


def to_payload(membership: Membership) -> bytes:
    """What an entry of the log carries."""
    return _encode(membership)


def from_payload(payload: bytes, index: int) -> Membership:
    """The membership in the entry at `index`. Raises UnknownFormat."""
    try:
        return _decode(payload)
    except msgspec.MsgspecError as error:
        raise UnknownFormat(
            f"entry {index} of the log holds a configuration that this program cannot read: {error}; "
            "upgrade it",
            index=index,
        ) from error
