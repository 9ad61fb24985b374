"""gRPC for those who submit work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import grpc

from coordinator import errors
from coordinator.api import convert
from coordinator.api.call_streams import CallStream
from coordinator.api.ends import LONGEST_WAIT_S
from coordinator.api.errors import conversing, refuse, streaming, unary, unexpected
from coordinator.api.explained import explanation_to_proto
from coordinator.api.malformed import intact
from coordinator.api.submissions import Submissions, submissions_on
from coordinator.api.watching import Watching
from coordinator.core.commands import CancelDag, CancelTask, RescheduleTask
from coordinator.core.model import DagState, TaskState
from coordinator.core.outcome import DagChanged, DagEvent, Event, TaskChanged, TaskEvent
from coordinator.replica.node import Node
from coordinator.replica.watch import Happening
from quorumflow_proto.v1 import client_pb2 as pb
from quorumflow_proto.v1 import client_pb2_grpc, common_pb2

_InParts = grpc.aio.ServicerContext[pb.SubmitDagPart, pb.SubmitDagReply]
_Streamed = grpc.aio.ServicerContext[pb.DagSubmissions, pb.DagSubmissionReplies]


class ClientService(client_pb2_grpc.ClientServiceServicer):
    """ClientService on one node."""

    def __init__(self, node: Node, watching: Watching) -> None:
        self._node = node
        self._submissions = Submissions(node)
        self._watching = watching

    @unary
    async def SubmitDag(self, request: pb.SubmitDagRequest) -> pb.SubmitDagReply:
        await self._node.leadership.serving()
        header = convert.header_from_proto(request.dag)
        return await self._submissions.submit(request.request_id, header, list(request.dag.tasks))

    @conversing
    async def SubmitDags(self, context: _Streamed) -> None:  # type: ignore[override]
        await CallStream(self._node, context, submissions_on(self._node, self._submissions)).serve()

    async def SubmitDagStream(
        self, request_iterator: AsyncIterator[pb.SubmitDagPart], context: _InParts
    ) -> pb.SubmitDagReply:
        try:
            await self._node.leadership.serving()
            first: pb.SubmitDagPart | None = None
            tasks: list[common_pb2.TaskSpec] = []
            async for message in request_iterator:
                part = intact(message)
                first = first or part
                tasks.extend(part.tasks)
                self._node.config.limits.check("max_dag_tasks", len(tasks), "the number of tasks")
            if first is None:
                raise errors.InvalidRequest("the stream ended before its first part, which holds the header")
            header = convert.header_from_proto(first.header)
            return await self._submissions.submit(first.request_id, header, tasks)
        except errors.CoordinatorError as error:
            await refuse(context, error)
        except Exception as error:
            await refuse(context, unexpected("SubmitDagStream", error))

    @unary
    async def GetDag(self, request: pb.GetDagRequest) -> pb.GetDagReply:
        stale, read = request.allow_stale, None
        if request.wait_ms:
            wait_s = min(request.wait_ms / 1_000, LONGEST_WAIT_S)
            read = await self._node.read_end(request.dag_id, wait_s, allow_stale=stale)
        read = read or await self._node.read(allow_stale=stale)
        record, counts = self._node.queries.dag_record(request.dag_id)
        return pb.GetDagReply(dag=convert.dag_to_proto(record, counts), **read._asdict())

    @unary
    async def ListDags(self, request: pb.ListDagsRequest) -> pb.ListDagsReply:
        read = await self._node.read(allow_stale=request.allow_stale)
        page, token = self._node.queries.dags(
            request.namespace,
            {convert.known(DagState, state) for state in request.states if state},
            request.page_token,
            self._page_size(request.page_size),
        )
        dags = [convert.dag_to_proto(record, counts) for record, counts in page]
        return pb.ListDagsReply(dags=dags, next_page_token=token, **read._asdict())

    @unary
    async def GetTask(self, request: pb.GetTaskRequest) -> pb.GetTaskReply:
        read = await self._node.read(allow_stale=request.allow_stale)
        dag, task = await self._node.queries.task(request.dag_id, request.task_id)
        return pb.GetTaskReply(task=convert.task_to_proto(dag, task), **read._asdict())

    @unary
    async def ListTasks(self, request: pb.ListTasksRequest) -> pb.ListTasksReply:
        read = await self._node.read(allow_stale=request.allow_stale)
        dag, page, token = await self._node.queries.tasks(
            request.dag_id,
            {convert.known(TaskState, state) for state in request.states if state},
            request.page_token,
            self._page_size(request.page_size),
        )
        tasks = [convert.task_to_proto(dag, task) for task in page]
        return pb.ListTasksReply(tasks=tasks, next_page_token=token, **read._asdict())

    @unary
    async def GetResult(self, request: pb.GetResultRequest) -> pb.GetResultReply:
        read = await self._node.read(allow_stale=request.allow_stale)
        _, task = await self._node.queries.task(request.dag_id, request.task_id)
        result = self._node.queries.result(task.key)
        failed = task.state in (TaskState.FAILED, TaskState.CANCELLED)
        return pb.GetResultReply(
            state=common_pb2.TaskState.ValueType(task.state),
            result=result.data,
            reference=result.reference,
            error=task.reason if failed else "",
            **read._asdict(),
        )

    @unary
    async def CancelDag(self, request: pb.CancelDagRequest) -> pb.CancelDagReply:
        command = CancelDag(request.request_id, request.dag_id, request.reason)
        reply = await self._node.propose(command, DagChanged)
        return pb.CancelDagReply(state=common_pb2.DagState.ValueType(reply.state))

    @unary
    async def CancelTask(self, request: pb.CancelTaskRequest) -> pb.CancelTaskReply:
        command = CancelTask(request.request_id, request.dag_id, request.task_id, request.reason)
        reply = await self._node.propose(command, TaskChanged)
        return pb.CancelTaskReply(state=common_pb2.TaskState.ValueType(reply.state))

    @unary
    async def RescheduleTask(self, request: pb.RescheduleTaskRequest) -> pb.RescheduleTaskReply:
        command = RescheduleTask(request.request_id, request.dag_id, request.task_id, request.reason)
        reply = await self._node.propose(command, TaskChanged)
        return pb.RescheduleTaskReply(state=common_pb2.TaskState.ValueType(reply.state))

    @unary
    async def ExplainTask(self, request: pb.ExplainTaskRequest) -> pb.ExplainTaskReply:
        leader = await self._node.leadership.serving()
        dag, task = await self._node.queries.task(request.dag_id, request.task_id)
        placement = leader.placement
        return explanation_to_proto(
            dag, task, placement.explain(task), placement.assignments(task), placement.now_ms()
        )

    @streaming
    async def Watch(self, request: pb.WatchRequest) -> AsyncIterator[pb.WatchReply]:
        def to_proto(one: Happening[Event]) -> Iterator[tuple[int, pb.Event]]:
            for event in one.events:
                if _concerns(event, request):
                    yield one.revision, convert.event_to_proto(one.revision, one.at_ms, event)

        replies = self._watching.replies(
            lambda: self._node.follow(request.from_revision), to_proto, allow_stale=request.allow_stale
        )
        async for events, revision in replies:
            yield pb.WatchReply(events=events, revision=revision, age_ms=self._node.age_ms)

    def _page_size(self, asked: int) -> int:
        most = self._node.config.limits.page_size
        return min(asked or most, most)


def _concerns(event: Event, request: pb.WatchRequest) -> bool:
    if request.dags_only and not isinstance(event, DagEvent):
        return False
    return not request.dag_id or (isinstance(event, TaskEvent | DagEvent) and event.dag_id == request.dag_id)
