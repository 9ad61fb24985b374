"""A coordinator whose part is written by the test: real gRPC on a free port, answers from a script."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import Message

from quorumflow_proto.v1 import agent_pb2, client_pb2, common_pb2, kv_pb2, operator_pb2
from quorumflow_proto.v1.agent_pb2_grpc import AgentServiceServicer, add_AgentServiceServicer_to_server
from quorumflow_proto.v1.client_pb2_grpc import ClientServiceServicer, add_ClientServiceServicer_to_server
from quorumflow_proto.v1.kv_pb2_grpc import KvServiceServicer, add_KvServiceServicer_to_server
from quorumflow_proto.v1.operator_pb2_grpc import (
    OperatorServiceServicer,
    add_OperatorServiceServicer_to_server,
)

PATIENCE_S = 20.0
"""No test waits for as long as this unless it fails."""

SERVER_OPTIONS = (
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)


class Refused(NamedTuple):
    """An answer that is an error."""

    code: grpc.StatusCode
    detail: common_pb2.ErrorDetail | None = None

    async def abort(self, context: Any) -> None:
        """End the call with it."""
        detail = self.detail
        trailing = () if detail is None else (("coordinator-error-bin", detail.SerializeToString()),)
        await context.abort(self.code, "refused by the script", trailing)


def refusal(code: grpc.StatusCode, reason: str, **detail: Any) -> Refused:
    """An error with a detail, as the coordinator gives it."""
    return Refused(code, common_pb2.ErrorDetail(reason=reason, message=f"said {reason}", **detail))


def not_leader(address: str = "") -> Refused:
    """A follower's answer."""
    return refusal(grpc.StatusCode.FAILED_PRECONDITION, "NOT_LEADER", leader_id="n", leader_address=address)


UNAVAILABLE = Refused(grpc.StatusCode.UNAVAILABLE)

Answer = Message | Refused
STAY = object()
"""At the end of a scripted watch: the stream stays open. For a write on a stream: there is no answer."""
END = object()
"""For a write on a stream: the stream ends, without an error."""


class Peer:
    """The coordinator's side of one agent's session."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._messages: asyncio.Queue[agent_pb2.AgentMessage] = asyncio.Queue()
        self._ready: deque[agent_pb2.TaskReport] = deque()
        self.over: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        self.hung_up = asyncio.Event()
        self.loads: list[agent_pb2.LoadReport] = []

    async def pump(self, incoming: AsyncIterator[agent_pb2.AgentMessage]) -> None:
        """Take in what the agent sends."""
        async for message in incoming:
            self._messages.put_nowait(message)
        self.hung_up.set()

    async def receive(self) -> agent_pb2.AgentMessage:
        """The next message; load reports go to `loads` on the way."""
        async with asyncio.timeout(PATIENCE_S):
            while (message := await self._messages.get()).HasField("load"):
                self.loads.append(message.load)
            return message

    async def next_load(self) -> None:
        """Wait for a load report, which must come next, and put it to `loads`."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self._messages.get()
        assert message.HasField("load"), message
        self.loads.append(message.load)

    async def hello(self) -> agent_pb2.Hello:
        """The first message."""
        message = await self.receive()
        assert message.HasField("hello"), message
        return message.hello

    async def spawn(self) -> agent_pb2.Spawn:
        """The next message, which is a spawn once reports have been set aside."""
        while not (message := await self.receive()).HasField("spawn"):
            self._ready.extend(message.reports.reports)
        return message.spawn

    async def report(self, kind: str, key: int) -> agent_pb2.TaskReport:
        """The next report of this kind on this task; other reports before it are passed over."""
        while True:
            report = await self.next_report()
            if report.WhichOneof("body") == kind and report.fence.key == key:
                return report

    async def reports(self, count: int) -> AsyncIterator[agent_pb2.TaskReport]:
        """The next so many reports."""
        for _ in range(count):
            yield await self.next_report()

    async def ends(self, count: int) -> AsyncIterator[agent_pb2.TaskReport]:
        """The next so many ends; other reports before them are passed over."""
        while count:
            report = await self.next_report()
            if report.HasField("ended"):
                count -= 1
                yield report

    async def next_report(self) -> agent_pb2.TaskReport:
        """The next report of any kind."""
        while not self._ready:
            message = await self.receive()
            assert message.HasField("reports"), message
            self._ready.extend(message.reports.reports)
        return self._ready.popleft()

    async def end_of(self, key: int) -> agent_pb2.Ended:
        """How the attempt of this task ended."""
        return (await self.report("ended", key)).ended

    async def send(self, **body: Any) -> None:
        """A message to the agent."""
        await self._context.write(agent_pb2.CoordinatorMessage(**body))

    async def welcome(self, *, term: int = 1, epoch: int = 1, **more: Any) -> agent_pb2.Hello:
        """Open the session; returns the hello."""
        hello = await self.hello()
        await self.send(welcome=agent_pb2.Welcome(session_epoch=epoch, term=term, **more))
        return hello

    async def assign(self, *tasks: agent_pb2.Assignment, term: int = 1, **more: Any) -> None:
        """Assign attempts."""
        await self.send(assignments=agent_pb2.Assignments(term=term, tasks=tasks, **more))

    async def acknowledge(self, *keys: int) -> None:
        """The ends of the first attempts of these tasks are recorded."""
        await self.send(acks=agent_pb2.Acks(fences=[fence(key) for key in keys]))

    async def stop(self, *keys: int) -> None:
        """Stop the first attempts of these tasks."""
        await self.send(stop=agent_pb2.Stop(fences=[fence(key) for key in keys], reason="not wanted"))

    def end(self, refused: Refused | None = None) -> None:
        """End the stream, with an error or without."""
        if not self.over.done():
            self.over.set_result(refused)


def fence(key: int, attempt: int = 1) -> agent_pb2.Fence:
    """Of an attempt of task number `key`."""
    return agent_pb2.Fence(key=key, attempt=attempt)


def task(key: int, task_type: str = "work", *, attempt: int = 1, **more: Any) -> agent_pb2.Assignment:
    """An assignment of task number `key`, named "t<key>"."""
    return agent_pb2.Assignment(
        fence=fence(key, attempt), dag_id="d", task_id=f"t{key}", type=task_type, **more
    )


class AgentSide(AgentServiceServicer):
    """Hands each session to the test as a `Peer`; with `refusals`, refuses that many first."""

    def __init__(self) -> None:
        self.peers: asyncio.Queue[Peer] = asyncio.Queue()
        self.refusals: deque[Refused] = deque()

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        """One session."""
        if self.refusals:
            # A refusal that crosses the hello may reach the agent as INTERNAL: see agent_sdk.errors.
            await anext(request_iterator)
            await self.refusals.popleft().abort(context)
        peer = Peer(context)
        self.peers.put_nowait(peer)
        pump = asyncio.create_task(peer.pump(request_iterator))
        try:
            if (refused := await peer.over) is not None:
                await refused.abort(context)
        finally:
            pump.cancel()


class Script:
    """What calls were made, and what they are answered with: one answer each, the last one again and
    again."""

    def __init__(self) -> None:
        self.calls: defaultdict[str, list[Any]] = defaultdict(list)
        self._answers: defaultdict[str, deque[Any]] = defaultdict(deque)
        self._called: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.write_streams: list[asyncio.Event] = []
        """One for each stream of writes that was opened, set when it has ended."""
        self.submission_streams: list[asyncio.Event] = []
        """The same of streams of submissions,"""
        self.streamed: list[client_pb2.SubmitDagRequest] = []
        """and what came on them, and"""
        self.waits_ms: list[int] = []
        """for how long their ends are waited for."""

    def on(self, method: str, *answers: Any) -> None:
        """Answer calls of `method` with these, in order."""
        self._answers[method].extend(answers)

    async def called(self, method: str) -> None:
        """Wait until the method has been called."""
        async with asyncio.timeout(PATIENCE_S):
            await self._called[method].wait()

    def forget(self, method: str) -> None:
        """The calls of the method until now do not count."""
        self.calls[method].clear()
        self._called[method].clear()

    def next_answer(self, method: str, request: Any) -> Any:
        """Note the call; the answer to it."""
        self.calls[method].append(request)
        self._called[method].set()
        answers = self._answers[method]
        assert answers, f"the script has no answer to {method}"
        return answers.popleft() if len(answers) > 1 else answers[0]


def _unary(method: str) -> Callable[..., Any]:
    async def answer(self: Any, request: Any, context: Any) -> Message:
        if not isinstance(request, Message):
            request = [part async for part in request]
        scripted = self.script.next_answer(method, request)
        if isinstance(scripted, Refused):
            await scripted.abort(context)
        assert isinstance(scripted, Message)
        return scripted

    return answer


def _scripted(base: type, methods: Iterable[str], **more: Any) -> type:
    return type(f"Scripted{base.__name__}", (base,), {name: _unary(name) for name in methods} | more)


def _stream(method: str) -> Callable[..., Any]:
    async def answer(self: Any, request: Any, context: Any) -> None:
        for step in self.script.next_answer(method, request):
            if isinstance(step, Refused):
                await step.abort(context)
            elif step is STAY:
                await asyncio.Event().wait()
            else:
                await context.write(step)

    return answer


async def _answer_writes(servicer: Any, messages: AsyncIterator[kv_pb2.KvWrites], context: Any) -> None:
    """Writes on a stream are answered as Put and Delete are, or not at all (STAY). An error without a
    detail is gRPC's own, and ends the stream."""
    script: Script = servicer.script
    ended = asyncio.Event()
    script.write_streams.append(ended)
    try:
        async for message in messages:
            for request in message.writes:
                if not await _answer_write(script, request, context):
                    return
    finally:
        ended.set()


async def _answer_write(script: Script, request: kv_pb2.KvWriteRequest, context: Any) -> bool:
    """Whether the stream goes on."""
    kind = request.WhichOneof("write")
    assert kind is not None
    scripted = script.next_answer(kind.capitalize(), getattr(request, kind))
    if scripted is STAY:
        return True
    if scripted is END:
        return False
    reply = kv_pb2.KvWriteReply(call=request.call)
    if not isinstance(scripted, Refused):
        getattr(reply, kind).CopyFrom(scripted)
    elif scripted.detail is None:
        await scripted.abort(context)
    else:
        reply.error.code = scripted.code.value[0]
        reply.error.detail.CopyFrom(scripted.detail)
    await context.write(kv_pb2.KvWriteReplies(replies=[reply]))
    return True


async def _answer_submissions(
    servicer: Any, messages: AsyncIterator[client_pb2.DagSubmissions], context: Any
) -> None:
    """Submissions on a stream are answered as SubmitDag is, as above."""
    script: Script = servicer.script
    ended = asyncio.Event()
    script.submission_streams.append(ended)
    try:
        async for message in messages:
            for asked in message.submissions:
                script.streamed.append(asked.request)
                script.waits_ms.append(asked.wait_ms)
                scripted = script.next_answer("SubmitDag", asked.request)
                if scripted is END:
                    return
                if scripted is STAY:
                    continue
                reply = client_pb2.DagSubmissionReply(call=asked.call)
                if isinstance(scripted, Refused):
                    assert scripted.detail is not None
                    reply.error.code = scripted.code.value[0]
                    reply.error.detail.CopyFrom(scripted.detail)
                elif isinstance(scripted, client_pb2.DagSubmissionReply):
                    reply.MergeFrom(scripted)
                else:
                    reply.done.CopyFrom(scripted)
                await context.write(client_pb2.DagSubmissionReplies(replies=[reply]))
    finally:
        ended.set()


def _unary_calls(module: Any, service: str) -> list[str]:
    methods = module.DESCRIPTOR.services_by_name[service].methods
    return [call.name for call in methods if not call.server_streaming]


_UNARY_CALLS = _unary_calls(client_pb2, "ClientService")
_KV_CALLS = _unary_calls(kv_pb2, "KvService")
_OPERATOR_CALLS = _unary_calls(operator_pb2, "OperatorService")


class Node:
    """One scripted node. `sessions` are agents' sessions, `script` answers clients and operators. An `older`
    one has no stream of submissions."""

    def __init__(self, *, older: bool = False) -> None:
        self.script = Script()
        self.agents = AgentSide()
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        streams = {"Watch": _stream("Watch")} | ({} if older else {"SubmitDags": _answer_submissions})
        client = _scripted(ClientServiceServicer, _UNARY_CALLS, **streams, script=self.script)()
        kv_streams = {"Watch": _stream("WatchKeys"), "Write": _answer_writes}
        kv = _scripted(KvServiceServicer, _KV_CALLS, **kv_streams, script=self.script)()
        operator = _scripted(OperatorServiceServicer, _OPERATOR_CALLS, script=self.script)()
        add_ClientServiceServicer_to_server(client, self._server)
        add_KvServiceServicer_to_server(kv, self._server)
        add_OperatorServiceServicer_to_server(operator, self._server)
        add_AgentServiceServicer_to_server(self.agents, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    async def start(self) -> None:
        """Serve."""
        await self._server.start()

    async def stop(self) -> None:
        """Die: every call under way breaks, new ones find nobody."""
        await self._server.stop(None)

    async def session(self) -> Peer:
        """The next session that an agent opens."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.agents.peers.get()
