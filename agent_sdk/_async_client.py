"""The client for asyncio; `agent_sdk.Client` is its face for code without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self

import grpc.aio

from agent_sdk import _encode, _views
from agent_sdk._channels import CLIENT_KEEPALIVE_MS, Node
from agent_sdk._dag import Dag
from agent_sdk._kv import AsyncKv
from agent_sdk._leader import CALL_TIMEOUT_S, LeaderCalls
from agent_sdk._members import AsyncMembers
from agent_sdk._namespaces import AsyncNamespaces
from agent_sdk._reservations import AsyncReservations
from agent_sdk._submit import Submission, SubmitSettings, Submitting
from agent_sdk._surroundings import Surroundings, this_machine
from agent_sdk._watch import Watch
from agent_sdk.errors import DeadlineExceeded, QuorumflowError, WrongState, from_rpc_error
from agent_sdk.types import (
    FINAL_STATES,
    AgentStatus,
    ClusterStatus,
    DagEvent,
    DagStatus,
    Decision,
    Event,
    Explanation,
    Forecast,
    GroupStatus,
    NodeStatus,
    TaskResult,
    TaskStatus,
)
from quorumflow_proto.v1 import client_pb2, common_pb2, operator_pb2

PAGE_SIZE: Final = 500
POLL_S: Final = 0.2
"""Between two looks at a DAG that cannot be watched."""
FOLLOW_S: Final = 5.0
"""One call waits so long for a decision, and is followed by the next."""
LONGEST_WAIT_S: Final = 10.0
"""One call waits so long for the end of a DAG, and is followed by the next."""
CONFIRM_S: Final = 15.0
"""A wait looks at the DAG itself this often, however quiet the watch is."""


class AsyncClient:
    """Submits DAGs and follows them.

    `endpoints` are "host:port" addresses of some or all nodes. Every call goes to whichever node leads,
    through changes of leader, and raises DeadlineExceeded when none has answered within `timeout_s`; a call
    that the leader refuses raises the refusal, as the tree in `agent_sdk.errors` names it. Belongs to the
    event loop that it is first used in. `surroundings` stand in for this machine in a simulation.
    """

    def __init__(
        self,
        endpoints: str | Iterable[str],
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        submit_settings: SubmitSettings | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._calls = LeaderCalls(endpoints, timeout_s, surroundings or this_machine(CLIENT_KEEPALIVE_MS))
        self._submit_settings = submit_settings or SubmitSettings()
        self._submitting = Submitting()
        self.kv = AsyncKv(self._calls)
        """The replicated key-value space."""
        self.members = AsyncMembers(self._calls)
        """Who belongs to the cluster."""
        self.namespaces = AsyncNamespaces(self._calls)
        """What namespaces may have."""
        self.reservations = AsyncReservations(self._calls)
        """Slots that are kept for namespaces."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; calls under way fail."""
        await self.kv.close()
        await self._submitting.close()
        await self._calls.close()

    # --- DAGs -----------------------------------------------------------------------------------------------

    async def submit(self, dag: Dag, *, request_id: str | None = None) -> str:
        """Submit a DAG; returns its id once it is recorded. With a `request_id` of one's own, a repetition in
        another process is recognised too. Raises InvalidRequest (DagCycle, UnknownDependency, ...) and
        QueueFull."""
        return await self.submit_spec(_encode.dag_spec(dag), request_id=request_id)

    async def submit_spec(self, spec: common_pb2.DagSpec, *, request_id: str | None = None) -> str:
        """`submit` for a DAG in the wire's form."""
        submission = self._submission(spec, request_id)
        reply = await self._calls.call(lambda node, left_s: self._submitting.send(submission, node, left_s))
        return reply.dag_id

    def _submission(self, spec: common_pb2.DagSpec, request_id: str | None) -> Submission:
        return Submission(spec, request_id or self._calls.new_id(), self._submit_settings)

    async def run(
        self, dag: Dag, timeout_s: float | None = None, *, request_id: str | None = None
    ) -> DagStatus:
        """Submit a DAG and wait until it has ended, in whichever state: `submit` and `wait` in one, with half
        of their messages where the DAG is small. Raises as both; a DAG that is recorded goes on whether it is
        waited for or not."""
        submission = self._submission(_encode.dag_spec(dag), request_id)

        def attempt(node: Node, left_s: float) -> Awaitable[client_pb2.DagSubmissionReply]:
            return self._submitting.run(submission, node, left_s, min(self._longest_wait_s, left_s / 2))

        async with _within(timeout_s, f"the DAG of request {submission.request_id!r}"):
            reply = await self._calls.call(attempt)
            if reply.HasField("end"):
                return _views.dag(reply.end.dag, reply.end)
            return await self._wait(reply.done.dag_id)

    async def get(self, dag_id: str, *, allow_stale: bool = False) -> DagStatus:
        """A DAG as it is now (a linearizable read), or with `allow_stale` as whichever node is asked
        knows it. Raises NotFound."""
        return await self._get(client_pb2.GetDagRequest(dag_id=dag_id, allow_stale=allow_stale))

    async def _get(self, request: client_pb2.GetDagRequest) -> DagStatus:
        reply = await self._calls.call(lambda node, left_s: node.client.GetDag(request, timeout=left_s))
        return _views.dag(reply.dag, reply)

    async def list(
        self, *, namespace: str = "", states: Iterable[str] = (), allow_stale: bool = False
    ) -> AsyncIterator[DagStatus]:
        """All DAGs, page by page; of one namespace, in some states. `allow_stale` as in `get`."""
        request = client_pb2.ListDagsRequest(
            namespace=namespace,
            states=_encode.dag_states(states),
            page_size=PAGE_SIZE,
            allow_stale=allow_stale,
        )
        pages = self._calls.pages(request, lambda node, left_s: node.client.ListDags(request, timeout=left_s))
        async for reply in pages:
            for view in reply.dags:
                yield _views.dag(view, reply)

    async def wait(self, dag_id: str, timeout_s: float | None = None) -> DagStatus:
        """Wait until the DAG has ended, in whichever state. Raises DeadlineExceeded after `timeout_s` (None:
        never, as long as some node leads), NotFound."""
        async with _within(timeout_s, f"DAG {dag_id!r}", dag_id=dag_id):
            return await self._wait(dag_id)

    async def _wait(self, dag_id: str) -> DagStatus:
        loop = asyncio.get_running_loop()
        wait_s = self._longest_wait_s
        request = client_pb2.GetDagRequest(dag_id=dag_id, wait_ms=max(1, round(wait_s * 1_000)))
        while True:
            asked_s = loop.time()
            status = await self._get(request)
            if status.finished:
                return status
            if loop.time() - asked_s >= wait_s:
                continue
            # The node did not wait: it is of an earlier version, or has begun to lead while it did.
            try:
                await self._until_end_is_seen(dag_id, status.revision + 1)
            except QuorumflowError:
                # The watch is a short cut; the read above says what is true, and raises what must be.
                await asyncio.sleep(POLL_S)

    @property
    def _longest_wait_s(self) -> float:
        """One call waits so long for an end: its time is not over then."""
        return min(LONGEST_WAIT_S, self._calls.timeout_s / 2)

    async def _until_end_is_seen(self, dag_id: str, from_revision: int) -> None:
        events = Watch(self._calls, dag_id, from_revision, dags_only=True).events()
        try:
            async with asyncio.timeout(CONFIRM_S):
                async for event in events:
                    if isinstance(event, DagEvent) and event.state in FINAL_STATES:
                        return
        except TimeoutError:
            return
        finally:
            await events.aclose()

    async def cancel(self, dag_id: str, reason: str = "", *, request_id: str | None = None) -> str:
        """Cancel a DAG; returns its state. Once this returns no further task of it starts. Raises NotFound,
        WrongState."""
        request = client_pb2.CancelDagRequest(
            request_id=request_id or self._calls.new_id(), dag_id=dag_id, reason=reason
        )
        reply = await self._calls.call(lambda node, left_s: node.client.CancelDag(request, timeout=left_s))
        return _views.dag_state(reply.state)

    # --- tasks ----------------------------------------------------------------------------------------------

    async def tasks(
        self, dag_id: str, *, states: Iterable[str] = (), allow_stale: bool = False
    ) -> AsyncIterator[TaskStatus]:
        """The tasks of a DAG in topological order, page by page; only those in `states`, if given.
        `allow_stale` as in `get`. Raises NotFound."""
        request = client_pb2.ListTasksRequest(
            dag_id=dag_id,
            states=_encode.task_states(states),
            page_size=PAGE_SIZE,
            allow_stale=allow_stale,
        )
        pages = self._calls.pages(
            request, lambda node, left_s: node.client.ListTasks(request, timeout=left_s)
        )
        async for reply in pages:
            for view in reply.tasks:
                yield _views.task(view, reply)

    async def task(self, dag_id: str, task_id: str, *, allow_stale: bool = False) -> TaskStatus:
        """One task with its attempts. `allow_stale` as in `get`. Raises NotFound."""
        request = client_pb2.GetTaskRequest(dag_id=dag_id, task_id=task_id, allow_stale=allow_stale)
        reply = await self._calls.call(lambda node, left_s: node.client.GetTask(request, timeout=left_s))
        return _views.task(reply.task, reply)

    async def result(self, dag_id: str, task_id: str, *, allow_stale: bool = False) -> TaskResult:
        """What a task left. `allow_stale` as in `get`. Raises NotFound; a task that has not ended, or failed,
        is no error here: see `TaskResult.raise_for_state`."""
        request = client_pb2.GetResultRequest(dag_id=dag_id, task_id=task_id, allow_stale=allow_stale)
        reply = await self._calls.call(lambda node, left_s: node.client.GetResult(request, timeout=left_s))
        return _views.result(dag_id, task_id, reply)

    async def cancel_task(
        self, dag_id: str, task_id: str, reason: str = "", *, request_id: str | None = None
    ) -> str:
        """Cancel a task and what depends on it; returns its state. Raises NotFound, WrongState."""
        request = client_pb2.CancelTaskRequest(
            request_id=request_id or self._calls.new_id(), dag_id=dag_id, task_id=task_id, reason=reason
        )
        reply = await self._calls.call(lambda node, left_s: node.client.CancelTask(request, timeout=left_s))
        return _views.task_state(reply.state)

    async def reschedule(
        self, dag_id: str, task_id: str, reason: str = "", *, request_id: str | None = None
    ) -> str:
        """Take a task from its agent, or end its wait for the next attempt; returns its state. Raises
        NotFound, WrongState."""
        request = client_pb2.RescheduleTaskRequest(
            request_id=request_id or self._calls.new_id(), dag_id=dag_id, task_id=task_id, reason=reason
        )
        reply = await self._calls.call(
            lambda node, left_s: node.client.RescheduleTask(request, timeout=left_s)
        )
        return _views.task_state(reply.state)

    async def explain(self, dag_id: str, task_id: str) -> Explanation:
        """Why a task is not running, or where it is. Raises NotFound."""
        request = client_pb2.ExplainTaskRequest(dag_id=dag_id, task_id=task_id)
        reply = await self._calls.call(lambda node, left_s: node.client.ExplainTask(request, timeout=left_s))
        return _views.explanation(reply)

    # --- events ---------------------------------------------------------------------------------------------

    async def watch(self, dag_id: str = "", from_revision: int = 0) -> AsyncGenerator[Event, None]:
        """Events in log order, of one DAG or of all, from a revision or from now (0), without end. Goes on
        through changes of leader without gaps or repeats. Raises RevisionCompacted when the events are no
        longer kept."""
        events = Watch(self._calls, dag_id, from_revision or await self._next_revision()).events()
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()

    async def _next_revision(self) -> int:
        """What "from now" means is fixed before the first stream begins, so that a break of it loses
        nothing."""
        request = client_pb2.ListDagsRequest(page_size=1)
        reply = await self._calls.call(lambda node, left_s: node.client.ListDags(request, timeout=left_s))
        return reply.revision + 1

    # --- the cluster ----------------------------------------------------------------------------------------

    async def cluster_status(self) -> ClusterStatus:
        """The cluster as its leader sees it."""
        request = operator_pb2.ClusterStatusRequest()
        reply = await self._calls.call(
            lambda node, left_s: node.operator.ClusterStatus(request, timeout=left_s)
        )
        return _views.cluster(reply)

    async def node_status(self, endpoint: str) -> NodeStatus:
        """One node as it sees itself, asked once and directly. Raises Unavailable when it does not answer."""
        request = operator_pb2.NodeStatusRequest()
        reply = await self._calls.direct(
            endpoint, lambda node, left_s: node.operator.NodeStatus(request, timeout=left_s)
        )
        return _views.node_itself(reply)

    async def backup(self, endpoint: str) -> AsyncGenerator[bytes, None]:
        """The pieces of a backup file from one node, as fast as they are consumed. It holds everything that
        was acknowledged before this call. Raises Unavailable when the node does not answer, lags, or is lost
        on the way."""
        request = operator_pb2.BackupRequest(at_least=await self._next_revision() - 1)
        stream = self._calls.nodes.at(endpoint).operator.Backup(request)
        try:
            async for part in stream:
                yield part.data
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            stream.cancel()

    async def agents(self) -> AsyncIterator[AgentStatus]:
        """All agents, page by page."""
        request = operator_pb2.ListAgentsRequest(page_size=PAGE_SIZE)
        pages = self._calls.pages(
            request, lambda node, left_s: node.operator.ListAgents(request, timeout=left_s)
        )
        async for reply in pages:
            for view in reply.agents:
                yield _views.agent(view)

    async def groups(self) -> AsyncIterator[GroupStatus]:
        """Agents by group, as the leader's placement sees them, page by page."""
        request = operator_pb2.ListGroupsRequest(page_size=PAGE_SIZE)
        pages = self._calls.pages(
            request, lambda node, left_s: node.operator.ListGroups(request, timeout=left_s)
        )
        async for reply in pages:
            for view in reply.groups:
                yield _views.group(view)

    async def forecasts(
        self, agent_id: str | None = None, *, series: str = "", horizon: str = ""
    ) -> AsyncIterator[Forecast]:
        """Forecasts of load, page by page: of one agent ("": of the cluster itself), one series, one horizon,
        or of all. Raises InvalidRequest for a series or horizon that there is not."""
        request = operator_pb2.GetForecastsRequest(
            agent_id=agent_id, series=series, horizon=horizon, page_size=PAGE_SIZE
        )
        pages = self._calls.pages(
            request, lambda node, left_s: node.operator.GetForecasts(request, timeout=left_s)
        )
        async for reply in pages:
            for view in reply.forecasts:
                yield _views.forecast(view)

    async def decisions(self, *, follow: bool = False) -> AsyncIterator[Decision]:
        """What the leader's placement has decided of late, the oldest first; with `follow` without end. Each
        leader has a log of its own."""
        wait_s = min(FOLLOW_S, self._calls.timeout_s / 2) if follow else 0.0
        request = operator_pb2.ListDecisionsRequest(page_size=PAGE_SIZE, wait_ms=int(wait_s * 1_000))
        until = 0
        while True:
            reply = await self._calls.call(
                lambda node, left_s: node.operator.ListDecisions(request, timeout=left_s)
            )
            for view in reply.decisions:
                if (found := _views.decision(reply.term, view)) is not None:
                    yield found
            until = until or reply.last
            seen = reply.decisions[-1].number if reply.decisions else request.after
            if not follow and (not reply.decisions or seen >= until):
                return
            request.after = seen if reply.decisions or request.term == reply.term else 0
            request.term = reply.term

    async def drain_agent(self, agent_id: str, *, undo: bool = False, request_id: str | None = None) -> str:
        """Give an agent nothing new, or `undo` that; returns its state. Raises NotFound."""
        request = operator_pb2.DrainAgentRequest(
            request_id=request_id or self._calls.new_id(), agent_id=agent_id, undo=undo
        )
        reply = await self._calls.call(lambda node, left_s: node.operator.DrainAgent(request, timeout=left_s))
        return reply.state

    async def drain_node(self, node_id: str, *, undo: bool = False) -> str:
        """Move leadership away from a node and keep it from standing for election, or `undo` that; returns
        the leader's id. Raises NotFound, WrongState if nobody can take over."""
        request = operator_pb2.DrainNodeRequest(node_id=node_id, undo=undo)

        def ask(node: Node, left_s: float) -> Awaitable[operator_pb2.DrainNodeReply]:
            return node.operator.DrainNode(request, timeout=left_s)

        try:
            reply = await self._calls.call(ask)
        except WrongState as refusal:
            if "address" not in refusal.fields:
                raise
            reply = await self._calls.direct(refusal.fields["address"], ask)
        return reply.leader_id


@asynccontextmanager
async def _within(timeout_s: float | None, what: str, **fields: str) -> AsyncIterator[None]:
    """Raises DeadlineExceeded if a DAG is waited for in here for longer."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise DeadlineExceeded(
            f"{what} has not ended within {timeout_s} s; it goes on", fields=fields
        ) from None
