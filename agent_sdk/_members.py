"""Who belongs to the cluster, and changes of that, as a client asks for them."""

from __future__ import annotations

from agent_sdk._leader import LeaderCalls
from agent_sdk._loop_thread import LoopThread
from agent_sdk.types import MemberStatus
from quorumflow_proto.v1 import operator_pb2 as pb

Listed = tuple[MemberStatus, ...]


class AsyncMembers:
    """`AsyncClient.members`. One change at a time; each returns all members once it is committed, and may be
    repeated safely. Addresses are "host:port", as the others reach the node.

    Raises WrongState when a change must not be made now; the message says why and what to do.
    """

    def __init__(self, calls: LeaderCalls) -> None:
        self._calls = calls

    async def list(self) -> Listed:
        """All members, voters first."""
        request = pb.ListMembersRequest()
        reply = await self._calls.call(
            lambda node, left_s: node.operator.ListMembers(request, timeout=left_s)
        )
        return _members(reply)

    async def add(self, node_id: str, raft: str, grpc: str, *, promote: bool = False) -> Listed:
        """Add a learner; with `promote` it becomes a voter by itself once it has caught up. Raises
        AlreadyExists."""
        new = _new(node_id, raft, grpc, promote=promote)
        return await self._change(pb.ChangeMembersRequest(add=new))

    async def promote(self, node_id: str) -> Listed:
        """Make a learner a voter. Raises NotFound, and WrongState while it lags."""
        return await self._change(pb.ChangeMembersRequest(promote=node_id))

    async def remove(self, node_id: str) -> Listed:
        """Remove a member, be it the leader."""
        return await self._change(pb.ChangeMembersRequest(remove=node_id))

    async def replace(self, dead: str, node_id: str, raft: str, grpc: str) -> Listed:
        """Put a new node, or the same one with an empty data folder, in the place of a dead one. Raises
        NotFound."""
        replacement = pb.Replacement(dead=dead, new=_new(node_id, raft, grpc, promote=True))
        return await self._change(pb.ChangeMembersRequest(replace=replacement))

    async def update(self, node_id: str, *, raft: str = "", grpc: str = "") -> Listed:
        """Give a member other addresses; "" leaves one as it is. Raises NotFound, AlreadyExists."""
        update = pb.NewAddresses(id=node_id, raft_address=raft, grpc_address=grpc)
        return await self._change(pb.ChangeMembersRequest(update=update))

    async def transfer(self, target: str = "") -> str:
        """Hand leadership to a voter, or to the most caught-up one; returns who leads then."""
        request = pb.TransferLeadershipRequest(target=target)
        reply = await self._calls.call(
            lambda node, left_s: node.operator.TransferLeadership(request, timeout=left_s)
        )
        return reply.leader_id

    async def _change(self, request: pb.ChangeMembersRequest) -> Listed:
        reply = await self._calls.call(
            lambda node, left_s: node.operator.ChangeMembers(request, timeout=left_s)
        )
        return _members(reply)


class Members:
    """`Client.members`: as `AsyncMembers`, for code without an event loop."""

    def __init__(self, loop: LoopThread, members: AsyncMembers) -> None:
        self._loop = loop
        self._members = members

    def list(self) -> Listed:
        """All members, voters first."""
        return self._loop.run(self._members.list())

    def add(self, node_id: str, raft: str, grpc: str, *, promote: bool = False) -> Listed:
        """Add a learner; with `promote` it becomes a voter by itself once it has caught up."""
        return self._loop.run(self._members.add(node_id, raft, grpc, promote=promote))

    def promote(self, node_id: str) -> Listed:
        """Make a learner a voter."""
        return self._loop.run(self._members.promote(node_id))

    def remove(self, node_id: str) -> Listed:
        """Remove a member, be it the leader."""
        return self._loop.run(self._members.remove(node_id))

    def replace(self, dead: str, node_id: str, raft: str, grpc: str) -> Listed:
        """Put a new node, or the same one with an empty data folder, in the place of a dead one."""
        return self._loop.run(self._members.replace(dead, node_id, raft, grpc))

    def update(self, node_id: str, *, raft: str = "", grpc: str = "") -> Listed:
        """Give a member other addresses; "" leaves one as it is."""
        return self._loop.run(self._members.update(node_id, raft=raft, grpc=grpc))

    def transfer(self, target: str = "") -> str:
        """Hand leadership to a voter, or to the most caught-up one; returns who leads then."""
        return self._loop.run(self._members.transfer(target))


def _new(node_id: str, raft: str, grpc: str, *, promote: bool) -> pb.NewMember:
    return pb.NewMember(id=node_id, raft_address=raft, grpc_address=grpc, promote=promote)


def _members(reply: pb.MembersReply) -> Listed:
    return tuple(
        MemberStatus(
            id=view.id,
            kind=view.kind,
            raft_address=view.raft_address,
            grpc_address=view.grpc_address,
            incarnation=view.incarnation,
            promote=view.promote,
            leader=view.leader,
            lag=view.lag,
            connected=view.connected,
        )
        for view in reply.members
    )
