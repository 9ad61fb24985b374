"""Changes of the membership: from one membership to the next. Pure.

Every change is idempotent, so that a retry is safe, and alters at most one voter, so that any majority before
it and any majority after it share a node (Ongaro's thesis, section 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from coordinator.consensus.membership import Member, Membership
from coordinator.errors import AlreadyExists, LimitExceeded, NotFound, WrongState


class Add(msgspec.Struct, frozen=True):
    """A new learner. With `promote` it becomes a voter by itself once it has caught up."""

    id: str
    raft: str
    grpc: str
    promote: bool = False


class Promote(msgspec.Struct, frozen=True):
    """A learner becomes a voter."""

    id: str


class Remove(msgspec.Struct, frozen=True):
    """A member leaves, be it the leader."""

    id: str


class Replace(msgspec.Struct, frozen=True):
    """A member leaves, and another comes as a learner that becomes a voter by itself. `new` may have the
    id of `dead`: a wiped node comes back so, bound to no data folder until it is met."""

    dead: str
    new: Add


class Update(msgspec.Struct, frozen=True):
    """A member has other addresses; "" leaves one as it is."""

    id: str
    raft: str
    grpc: str


Change = Add | Promote | Remove | Replace | Update
Place = tuple[int, int]


def changed(membership: Membership, change: Change, *, limit: int, at: Place) -> Membership:
    """The membership after a change that the entry at that place (term, index) makes; the very same object if
    there is nothing to do.

    Raises:
        NotFound: there is no such member.
        AlreadyExists: an id or an address is another's.
        WrongState: no voter would be left.
        LimitExceeded: there would be more than `limit` members.
    """
    match change:
        case Add():
            return _added(membership, change, limit, at)
        case Promote():
            return _promoted(membership, change.id)
        case Remove():
            return _removed(membership, change.id)
        case Replace():
            return _replaced(membership, change.dead, change.new, limit, at)
        case Update():
            return _updated(membership, change)


def bound(membership: Membership, met: Mapping[str, str]) -> Membership:
    """Members that were not bound to a data folder are bound to the one that was met, by id."""
    unbound = {member.id for member in membership if not member.incarnation and met.get(member.id)}
    if not unbound:
        return membership

    def bind(member: Member) -> Member:
        if member.id not in unbound:
            return member
        return msgspec.structs.replace(member, incarnation=met[member.id])

    return Membership(tuple(map(bind, membership.voters)), tuple(map(bind, membership.learners)))


def _added(membership: Membership, new: Add, limit: int, at: Place) -> Membership:
    known = membership.get(new.id)
    if known is not None and (known.raft, known.grpc) != (new.raft, new.grpc):
        raise AlreadyExists(
            f"{new.id!r} is a member already, at {known.raft} and {known.grpc}; change its addresses with "
            "`coordctl member update`, or choose another id",
            node=new.id,
        )
    if known is not None:
        flagged = membership.is_voter(new.id) or known.promote or not new.promote
        return membership if flagged else _with(membership, msgspec.structs.replace(known, promote=True))
    _refuse_taken(membership, new.id, new.raft, new.grpc)
    members = len(membership.voters) + len(membership.learners)
    if members >= limit:
        raise LimitExceeded(
            f"there are {members} members already, as many as raft.max_members allows",
            limit=limit,
            setting="raft.max_members",
            value=members + 1,
        )
    learner = Member(new.id, new.raft, new.grpc, promote=new.promote, admitted=at)
    return Membership(membership.voters, (*membership.learners, learner))


def _promoted(membership: Membership, member_id: str) -> Membership:
    member = _require(membership, member_id)
    if membership.is_voter(member_id):
        return membership
    voter = msgspec.structs.replace(member, promote=False)
    return Membership((*membership.voters, voter), _without(membership.learners, member_id))


def _removed(membership: Membership, member_id: str) -> Membership:
    if membership.get(member_id) is None:
        return membership
    voters = _without(membership.voters, member_id)
    if not voters:
        raise WrongState(
            f"{member_id!r} is the only voter; add and promote another one before it leaves", node=member_id
        )
    return Membership(voters, _without(membership.learners, member_id))


def _replaced(membership: Membership, dead: str, new: Add, limit: int, at: Place) -> Membership:
    leaves = membership.get(dead)
    if leaves is None or (dead == new.id and not leaves.incarnation and not membership.is_voter(dead)):
        if membership.get(new.id) is None:
            raise NotFound(
                f"there is no member {dead!r} to replace; there are {_names(membership)}. "
                f"`coordctl member add {new.id}` adds a node in nobody's place",
                node=dead,
            )
        return _added(membership, new, limit, at)
    new = msgspec.structs.replace(new, promote=True)
    present = membership.get(new.id)
    if dead != new.id and present is not None and membership.is_voter(new.id):
        raise WrongState(
            f"{new.id!r} is a voter already; `coordctl member remove {dead}` alone does it", node=new.id
        )
    return _added(_removed(membership, dead), new, limit, at)


def _updated(membership: Membership, change: Update) -> Membership:
    member = _require(membership, change.id)
    raft, grpc = change.raft or member.raft, change.grpc or member.grpc
    if (raft, grpc) == (member.raft, member.grpc):
        return membership
    _refuse_taken(membership, change.id, raft, grpc)
    return _with(membership, msgspec.structs.replace(member, raft=raft, grpc=grpc))


def _with(membership: Membership, member: Member) -> Membership:
    """With this member in the place of the one that has its id."""
    return Membership(
        tuple(member if one.id == member.id else one for one in membership.voters),
        tuple(member if one.id == member.id else one for one in membership.learners),
    )


def _without(members: tuple[Member, ...], member_id: str) -> tuple[Member, ...]:
    return tuple(member for member in members if member.id != member_id)


def _require(membership: Membership, member_id: str) -> Member:
    member = membership.get(member_id)
    if member is None:
        raise NotFound(
            f"there is no member {member_id!r}; there are {_names(membership)}. "
            f"`coordctl member add {member_id}` adds it",
            node=member_id,
        )
    return member


def _refuse_taken(membership: Membership, member_id: str, raft: str, grpc: str) -> None:
    for member in membership:
        for address in (raft, grpc):
            if member.id != member_id and address in (member.raft, member.grpc):
                raise AlreadyExists(
                    f"{address} is the address of {member.id!r} already; give {member_id!r} another, or "
                    f"put it in the other's place: `coordctl member replace {member.id} {member_id}`",
                    address=address,
                )


def _names(membership: Membership) -> str:
    return ", ".join(sorted(member.id for member in membership))
