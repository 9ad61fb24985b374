"""Members and their changes on the wire."""

from __future__ import annotations

from typing import Final

import msgspec

from coordinator.addresses import Id, parse_address
from coordinator.consensus.changes import Add, Change, Promote, Remove, Replace, Update
from coordinator.consensus.port import PeerStatus, Status
from coordinator.errors import InvalidRequest
from quorumflow_proto.v1 import operator_pb2 as pb

VOTER: Final = "voter"
LEARNER: Final = "learner"


def kind_of(status: Status, node_id: str) -> str:
    """Whether a member counts."""
    return VOTER if status.membership.is_voter(node_id) else LEARNER


def change_from_proto(request: pb.ChangeMembersRequest) -> Change:
    """The change that is asked for. Raises InvalidRequest."""
    match request.WhichOneof("change"):
        case "add":
            return _add(request.add, "add")
        case "promote":
            return Promote(_id(request.promote, "promote"))
        case "remove":
            return Remove(_id(request.remove, "remove"))
        case "replace":
            return Replace(
                _id(request.replace.dead, "replace.dead"), _add(request.replace.new, "replace.new")
            )
        case "update":
            update = request.update
            given = {"raft_address": update.raft_address, "grpc_address": update.grpc_address}
            for name, address in given.items():
                if address:
                    _address(address, f"update.{name}")
            return Update(_id(update.id, "update.id"), update.raft_address, update.grpc_address)
        case _:
            raise InvalidRequest("the request names no change: add, promote, remove, replace or update")


def members_to_proto(status: Status) -> list[pb.MemberView]:
    """All members as the leader sees them, voters first."""
    peers = {peer.id: peer for peer in status.peers}
    return [
        pb.MemberView(
            id=member.id,
            kind=kind_of(status, member.id),
            raft_address=member.raft,
            grpc_address=member.grpc,
            incarnation=member.incarnation,
            promote=member.promote,
            leader=member.id == status.id,
            lag=lag_of(status, peers[member.id]) if member.id in peers else 0,
            connected=member.id == status.id or peers[member.id].connected,
        )
        for member in status.membership
    ]


def lag_of(status: Status, peer: PeerStatus) -> int:
    """How many entries a member lacks."""
    return max(0, status.last_index - peer.match_index)


def _add(member: pb.NewMember, field: str) -> Add:
    return Add(
        _id(member.id, f"{field}.id"),
        _address(member.raft_address, f"{field}.raft_address"),
        _address(member.grpc_address, f"{field}.grpc_address"),
        member.promote,
    )


def _id(text: str, field: str) -> str:
    try:
        return msgspec.convert(text, Id)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"{field} is {text!r}; allowed: 1 to 63 letters, digits, '.', '_' and '-', and it begins with "
            "one of the first two",
            field=field,
        ) from error


def _address(text: str, field: str) -> str:
    try:
        if parse_address(text)[1] == 0:
            raise ValueError(text)
    except ValueError as error:
        raise InvalidRequest(
            f"{field} is {text!r}; allowed: host:port, as others reach it", field=field
        ) from error
    return text
