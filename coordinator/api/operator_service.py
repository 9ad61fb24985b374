"""gRPC for operators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.metadata import version
from itertools import islice
from typing import Final

from coordinator import errors
from coordinator.api import convert, decisions, groups
from coordinator.api.errors import streaming, unary
from coordinator.api.forecasts import check_filter, page_of
from coordinator.api.membership import change_from_proto, kind_of, lag_of, members_to_proto
from coordinator.api.namespaces import names_of, namespace_to_proto, settings_from_proto
from coordinator.api.reservations import command_from_proto, found_in, reservation_to_proto
from coordinator.api.turnstile import Turnstile
from coordinator.consensus.port import Abstention, PeerStatus, Role, Status
from coordinator.core.commands import DrainAgent, RemoveReservation, UnsetNamespace
from coordinator.core.model import STATES, Agent, AgentState, Drain
from coordinator.core.outcome import AgentChanged, Done, NamespaceSet, ReservationSet
from coordinator.replica.node import Node
from coordinator.scheduling.load.overload import LoadView
from quorumflow_proto.v1 import common_pb2, operator_pb2_grpc
from quorumflow_proto.v1 import operator_pb2 as pb

_VERSION: Final = version("quorumflow")

_SILENT_S: Final = 1.0
"""A member not heard of for this long is shown as unreachable."""

_SHOWN_IN_A_TURN: Final = 64
"""Agents that are described in a turn of the event loop, for whomever: each takes it some 100 us."""


class OperatorService(operator_pb2_grpc.OperatorServiceServicer):
    """OperatorService on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._shown = Turnstile(_SHOWN_IN_A_TURN)

    @unary
    async def ClusterStatus(self, request: pb.ClusterStatusRequest) -> pb.ClusterStatusReply:
        del request
        await self._node.leadership.serving()
        status = self._node.consensus.status()
        state = self._node.applier.state
        counts = [0] * STATES
        for dag in state.dags.values():
            counts = [total + one for total, one in zip(counts, dag.counts, strict=True)]
        return pb.ClusterStatusReply(
            leader_id=status.id,
            leader_address=self._node.address_of(status.id),
            term=status.term,
            commit_index=status.commit_index,
            nodes=[self._myself(status), *(self._peer(status, peer) for peer in status.peers)],
            tasks=convert.counts_to_proto(counts),
            unfinished_dags=len(state.dags),
            agents=sum(agent.record.state is AgentState.CONNECTED for agent in state.agents.values()),
            cluster_id=self._node.config.cluster_id,
        )

    @unary
    async def NodeStatus(self, request: pb.NodeStatusRequest) -> pb.NodeStatusReply:
        del request
        status, leader = self._node.consensus.status(), self._node.leadership.leader
        # Less than all that waits, while a new leader still fills its queues.
        queued = {} if leader is None else {"queued_tasks": float(leader.placement.waiting)}
        return pb.NodeStatusReply(
            node=self._myself(status),
            term=status.term,
            commit_index=status.commit_index,
            leader_id=status.leader or "",
            leader_address=self._node.address_of(status.leader) if status.leader else "",
            cluster_id=self._node.config.cluster_id,
            counters={
                **{name: float(value) for name, value in status.counters.items()},
                "suspicious_loads": float(self._node.sessions.suspicious),
                **queued,
                **self._node.stages.counters(),
                **{f"defects_{work}": float(count) for work, count in self._node.defects.counts.items()},
            },
        )

    @unary
    async def ListAgents(self, request: pb.ListAgentsRequest) -> pb.ListAgentsReply:
        await self._node.read(allow_stale=False)
        agents = self._node.applier.state.agents
        size = min(
            request.page_size or self._node.config.limits.page_size, self._node.config.limits.page_size
        )
        names = sorted(name for name in agents if name > request.page_token)
        page = list(islice(names, size))
        views = []
        for name in page:
            await self._shown.enter()
            # Some may be forgotten in between.
            if (agent := self._node.applier.state.agents.get(name)) is not None:
                views.append(self._agent(agent))
        return pb.ListAgentsReply(agents=views, next_page_token=page[-1] if len(names) > size else "")

    @unary
    async def ListGroups(self, request: pb.ListGroupsRequest) -> pb.ListGroupsReply:
        placement = (await self._node.leadership.serving()).placement
        most = self._node.config.limits.page_size
        return groups.page_of(placement.groups(), request, min(request.page_size or most, most))

    @unary
    async def GetForecasts(self, request: pb.GetForecastsRequest) -> pb.GetForecastsReply:
        forecasting = (await self._node.leadership.serving()).forecasting
        check_filter(request)
        known = forecasting.known(request.agent_id if request.HasField("agent_id") else None, request.series)
        most = self._node.config.limits.page_size
        return page_of(forecasting, known, request, min(request.page_size or most, most))

    @unary
    async def ListNamespaces(self, request: pb.ListNamespacesRequest) -> pb.ListNamespacesReply:
        await self._node.leadership.serving()
        await self._node.read(allow_stale=False)
        if request.name:
            return pb.ListNamespacesReply(namespaces=[self._namespace(request.name)])
        most = self._node.config.limits.page_size
        size = min(request.page_size or most, most)
        names = [name for name in names_of(self._node.applier.state) if name > request.page_token]
        page = names[:size]
        return pb.ListNamespacesReply(
            namespaces=[self._namespace(name) for name in page],
            next_page_token=page[-1] if len(names) > size else "",
        )

    @unary
    async def SetNamespace(self, request: pb.SetNamespaceRequest) -> pb.NamespaceView:
        reply = await self._node.propose(
            settings_from_proto(request, self._node.plugins.policies), NamespaceSet
        )
        return self._namespace(reply.record.name)

    @unary
    async def UnsetNamespace(self, request: pb.UnsetNamespaceRequest) -> pb.NamespaceView:
        await self._node.propose(UnsetNamespace(request.request_id, request.name), Done)
        return self._namespace(request.name)

    @unary
    async def ListReservations(self, request: pb.ListReservationsRequest) -> pb.ListReservationsReply:
        placement = (await self._node.leadership.serving()).placement
        await self._node.read(allow_stale=False)
        found = found_in(self._node.applier.state, request.id)
        return pb.ListReservationsReply(reservations=[reservation_to_proto(one, placement) for one in found])

    @unary
    async def SetReservation(self, request: pb.SetReservationRequest) -> pb.ReservationView:
        reply = await self._node.propose(command_from_proto(request), ReservationSet)
        placement = (await self._node.leadership.serving()).placement
        return reservation_to_proto(reply.record, placement)

    @unary
    async def RemoveReservation(self, request: pb.RemoveReservationRequest) -> pb.RemoveReservationReply:
        expect = request.expect if request.HasField("expect") else None
        await self._node.propose(RemoveReservation(request.request_id, request.id, expect), Done)
        return pb.RemoveReservationReply()

    @unary
    async def ListDecisions(self, request: pb.ListDecisionsRequest) -> pb.ListDecisionsReply:
        leader = await self._node.leadership.serving()
        most = self._node.config.limits.page_size
        size = min(request.page_size or most, most)
        return await decisions.page_of(leader.placement.decisions, request, self._node.sessions.term, size)

    @unary
    async def DrainAgent(self, request: pb.DrainAgentRequest) -> pb.DrainAgentReply:
        command = DrainAgent(request.request_id, request.agent_id, request.undo)
        reply = await self._node.propose(command, AgentChanged)
        agent = self._node.applier.state.agents.get(request.agent_id)
        # A retry may come when the agent is no longer known.
        return pb.DrainAgentReply(state=reply.state.name if agent is None else self._state_name(agent))

    @unary
    async def DrainNode(self, request: pb.DrainNodeRequest) -> pb.DrainNodeReply:
        if request.node_id == self._node.config.node_id:
            return pb.DrainNodeReply(leader_id=await self._node.drain(undo=request.undo))
        address = self._node.address_of(request.node_id)
        if not address:
            known = ", ".join(member.id for member in self._node.members)
            raise errors.NotFound(f"node {request.node_id!r} is not a member; there are {known}")
        raise errors.WrongState(
            f"this is node {self._node.config.node_id!r}, and only {request.node_id!r} itself can do that: "
            f"ask it at {address}",
            address=address,
        )

    @unary
    async def ListMembers(self, request: pb.ListMembersRequest) -> pb.MembersReply:
        del request
        await self._node.consensus.read_index()
        return pb.MembersReply(members=members_to_proto(self._node.consensus.status()))

    @unary
    async def ChangeMembers(self, request: pb.ChangeMembersRequest) -> pb.MembersReply:
        await self._node.consensus.change_membership(change_from_proto(request))
        return pb.MembersReply(members=members_to_proto(self._node.consensus.status()))

    @unary
    async def TransferLeadership(self, request: pb.TransferLeadershipRequest) -> pb.TransferLeadershipReply:
        consensus = self._node.consensus
        if request.target == self._node.config.node_id and consensus.status().role is Role.LEADER:
            return pb.TransferLeadershipReply(leader_id=request.target)
        return pb.TransferLeadershipReply(
            leader_id=await consensus.transfer_leadership(request.target or None)
        )

    @streaming
    async def Backup(self, request: pb.BackupRequest) -> AsyncIterator[pb.BackupPart]:
        async for piece in self._node.backups.stream(request.at_least):
            yield pb.BackupPart(data=piece)

    def _myself(self, status: Status) -> pb.NodeView:
        return pb.NodeView(
            id=status.id,
            role=status.role.value,
            grpc_address=self._node.address_of(status.id),
            raft_address=self._node.member(status.id).raft,
            applied_index=status.applied.index,
            digest=status.applied.digest.hex(),
            draining=self._node.draining,
            version=_VERSION,
            last_log_index=status.last_index,
            free_bytes=self._node.space.free,
            low_on_space=self._node.space.low,
            refuses_work=self._node.space.refuses,
            kind=kind_of(status, status.id),
        )

    def _peer(self, status: Status, peer: PeerStatus) -> pb.NodeView:
        heard = 0 <= peer.age_s < _SILENT_S
        return pb.NodeView(
            id=peer.id,
            role=Role.FOLLOWER.value if heard else "unreachable",
            grpc_address=self._node.address_of(peer.id),
            raft_address=self._node.member(peer.id).raft,
            applied_index=peer.applied.index,
            digest=peer.applied.digest.hex(),
            last_log_index=peer.match_index,
            draining=peer.abstains is Abstention.DRAINED,
            low_on_space=peer.abstains is Abstention.NO_SPACE,
            differs_at=peer.differs_at,
            kind=kind_of(status, peer.id),
            lag=lag_of(status, peer),
        )

    def _namespace(self, name: str) -> pb.NamespaceView:
        leader = self._node.leadership.leader
        share = 0.0 if leader is None else leader.placement.share_of(name)
        return namespace_to_proto(self._node.applier.state, name, share)

    def _agent(self, agent: Agent) -> pb.AgentView:
        record, spec = agent.record, agent.record.spec
        state = self._node.applier.state
        held = [(state.task(key), number) for key, number in agent.held.items()]
        attempts = [task.live_attempt(number) for task, number in held if task is not None]
        leader = self._node.leadership.leader
        load = leader.placement.load_of(spec.agent_id) if leader is not None else LoadView()
        return pb.AgentView(
            agent_id=spec.agent_id,
            state=self._state_name(agent),
            session_epoch=record.epoch,
            slots=spec.slots,
            credit=spec.credit,
            held=len(agent.held) + len(record.stopping),
            running=sum(attempt is not None and attempt.started_ms > 0 for attempt in attempts),
            completed=agent.stats.completed,
            failed=agent.stats.failed,
            task_types=spec.task_types,
            capabilities=[common_pb2.Capability(name=name, level=level) for name, level in spec.capabilities],
            resources=convert.resources_to_proto(spec.resources),
            labels=dict(spec.labels),
            zone=spec.zone,
            cpu=agent.load.cpu,
            memory=agent.load.memory,
            since_ms=record.since_ms,
            speed=spec.speed,
            busy_watts=spec.busy_watts,
            tool_limits=dict(spec.tool_limits),
            model_limits=dict(spec.model_limits),
            data=spec.data,
            groups=spec.groups,
            load_score=load.load,
            overloaded=load.overloaded,
            network=load.network,
            gpu=load.gpu,
        )

    @staticmethod
    def _state_name(agent: Agent) -> str:
        if agent.record.state is AgentState.CONNECTED:
            if agent.record.drain is not Drain.NONE:
                return "DRAINING"
            return "RUNNING" if agent.held else "IDLE"
        return "STOPPED" if agent.record.state is AgentState.STOPPED else "UNREACHABLE"
