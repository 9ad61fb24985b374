"""The defects of stock PySyncObj 0.3.17 in security and cost: each shown to be in it, and closed here (A1,
A7, G6). Number 31 is in `test_tls.py`.

A test is named by the number that the defect has in `docs/divergence.md`; what is in the library is
asserted first, then ours.
"""

from __future__ import annotations

import importlib
import os
import pickle
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pysyncobj.node import Node

from coordinator.cli.ports import free_ports
from coordinator.consensus.framing import (
    PROTOCOL_VERSION,
    FrameError,
    FrameReader,
    Hello,
    Refused,
    frame,
    message,
)
from coordinator.consensus.messages import AppendEntries, AppendReply, TimeoutNow, VoteRequest
from coordinator.consensus.settings import RaftSettings
from tests.consensus.ends import End, answer, ended, stranger
from tests.consensus.lab import (
    NOTHING,
    STOCK_NO_OP,
    Bench,
    append,
    command,
    leading,
    stock_append,
    stock_command,
    stock_elect,
    stock_hear,
    stock_node,
)

MIB = 1 << 20
connections: Any = importlib.import_module("pysyncobj.tcp_connection")


class _RunsCode:
    def __init__(self, mark: str) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._mark,)


def test_29_bytes_from_the_network_run_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "code ran"
    body = zlib.compress(pickle.dumps(_RunsCode(str(mark)), 2))
    connections: Any = importlib.import_module("pysyncobj.tcp_connection")
    theirs = connections.TcpConnection(None)
    theirs._TcpConnection__readBuffer = struct.pack("i", len(body)) + body
    theirs._TcpConnection__processParseMessage()
    assert mark.is_dir(), "the library unpickles what any peer sends"

    for content in (body, pickle.dumps(_RunsCode(str(tmp_path / "again")), 2)):
        framed = struct.pack(">II", len(content), zlib.crc32(content)) + content
        with pytest.raises(FrameError):
            [message(piece) for piece in FrameReader(1 << 20).feed(framed)]
    assert not (tmp_path / "again").exists()
    folder = Path(importlib.import_module("coordinator.consensus").__file__ or "").parent
    assert not [
        path.name for path in folder.glob("*.py") if "pickle" in path.read_text().replace("unpickled", "")
    ]


def call(node: Any, port: int, greeting: object, over: Callable[[list[Any]], bool]) -> list[Any]:
    """Call a stock node as somebody whom it does not know, and tick until `over`; returns what is heard."""
    heard: list[Any] = []
    caller = connections.TcpConnection(node._poller)
    caller.setOnConnectedCallback(lambda: caller.send(greeting))
    caller.setOnMessageReceivedCallback(heard.append)
    assert caller.connect("127.0.0.1", port)
    for _ in range(1000):
        node.doTick(0.01)
        if over(heard):
            break
    caller.disconnect()
    return heard


async def test_30_strangers_change_nothing_and_read_nothing() -> None:
    syncobj: Any = importlib.import_module("pysyncobj")
    port, nowhere = free_ports("127.0.0.1", 2)
    conf = syncobj.SyncObjConf(autoTick=False, dynamicMembershipChange=True)
    node = syncobj.SyncObj(f"127.0.0.1:{port}", [], conf)
    while node.raftLastApplied < 2:
        node._SyncObj__raftElectionDeadline = 0
        node.doTick(0)

    def overheard(heard: list[Any]) -> bool:
        if node.readonlyNodes and node.raftLastApplied == 2:
            node._applyCommand(b"a secret", None, 1)
        return "a secret" in str(heard)

    assert "a secret" in str(call(node, port, "readonly", overheard)), (
        "the library sends its log to whoever asks"
    )
    call(node, port, ["add", f"127.0.0.1:{nowhere}"], lambda heard: bool(node.otherNodes))
    assert {other.id for other in node.otherNodes} == {f"127.0.0.1:{nowhere}"}, (
        "and lets anybody end its majority"
    )
    node.destroy()
    node.doTick(0)

    ours = End("b", "a")
    await ours.start()
    for uninvited in (TimeoutNow(9), VoteRequest(9, 9, 9, False, True), AppendReply(9, 9, 9, NOTHING)):
        reader, writer = await stranger(ours)
        writer.write(frame(uninvited))
        assert await ended(reader)
        writer.close()
    reader, writer = await stranger(ours)
    writer.write(frame(Hello(PROTOCOL_VERSION, "one", "z", "b")) + frame(TimeoutNow(9)))
    assert isinstance(await answer(reader), Refused)
    assert await ended(reader)
    writer.close()
    assert ours.heard == []
    await ours.transport.close()


def test_32_frames_are_bounded_before_they_are_read() -> None:
    ends = socket.socketpair()
    theirs = connections.TcpConnection(_NoPoller(), socket=ends[0])
    theirs._TcpConnection__readBuffer = struct.pack("i", 1 << 30) + bytes(MIB)
    assert theirs._TcpConnection__processParseMessage() is None
    assert theirs.state == connections.CONNECTION_STATE.CONNECTED, "the library waits for the other 1,023 MiB"
    bomb = zlib.compress(pickle.dumps(bytes(8 * MIB)), 9)
    theirs._TcpConnection__readBuffer = struct.pack("i", len(bomb)) + bomb
    assert len(theirs._TcpConnection__processParseMessage()) > 500 * len(bomb), "and unpacks whatever comes"
    for end in ends:
        end.close()

    head = struct.pack(">II", 1 << 30, 0)
    with pytest.raises(FrameError, match="1073741824 bytes"):
        list(FrameReader(RaftSettings().max_frame_bytes).feed(head))


class _NoPoller:
    """Stands for an event loop that nothing happens in."""

    def subscribe(self, *arguments: object) -> None:
        """Nobody is told."""

    def unsubscribe(self, *arguments: object) -> None:
        """Nobody is told."""


PATIENT = {
    "appendEntriesPeriod": 20.0,
    "raftMinTimeout": 61.0,
    "raftMaxTimeout": 62.0,
    "connectionTimeout": 62.0,
}
"""The library stops sending for now when this period is over, which no test should wait for."""


def test_32_what_is_under_way_is_bounded() -> None:
    """The bound of a connection's own buffer is shown in `test_transport.py`."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    theirs = connections.TcpConnection(_NoPoller(), socket=ends[0])
    for number in range(4):
        theirs.send(random.Random(number).randbytes(MIB // 2))
    assert theirs.getSendBufferSize() > MIB, "the library queues what a peer that reads nothing never takes"
    for end in ends:
        end.close()
    node = stock_node("a", "b", "c", appendEntriesBatchSizeBytes=1, **PATIENT)
    stock_elect(node, "b")
    node.t.take()
    for value in range(100):
        node.put(value)
    node.doTick(0)
    node._SyncObj__newAppendEntriesTime = 0
    node.doTick(0)
    sent = [content for to, content in node.t.take() if to == "b" and content.get("transmission") == "start"]
    assert len(sent) == 100, "and sends all that it has, though nothing is acknowledged"

    bench = leading(settings=RaftSettings(max_append_entries=1))
    for _ in range(100):
        bench.node.propose(b"x")
    under_way = [
        one for to, one in bench.settle() if to == "a" and isinstance(one, AppendEntries) and one.entries
    ]
    assert len(under_way) == bench.settings.window_messages


def test_33_memory_and_catching_up_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals: Any = importlib.import_module("pysyncobj.journal")
    read: list[int] = []

    class Watched(journals.FileJournal):  # type: ignore[misc]
        def __getitem__(self, item: Any) -> Any:
            found = super().__getitem__(item)
            if isinstance(item, slice) and item.stop is None:
                read.append(len(found))
            return found

    node = stock_node("a", "b", "c", appendEntriesBatchSizeBytes=100)
    log = Watched(str(tmp_path / "journal"))
    node._SyncObj__raftLog = log
    for index in range(1, 1001):
        log.add(bytes(10), index, 0)
    assert len(log._FileJournal__journal) == 1000, "the library holds in memory what is in its file"
    stock_elect(node, "b")
    stock_hear(node, "b", type="next_node_idx", next_node_idx=2, reset=True, success=False)
    node._SyncObj__newAppendEntriesTime = 0
    read.clear()
    node.doTick(0)
    assert sum(read) > 40 * 1000, "and copies all the rest for every ten entries that it sends"
    log._destroy()

    bench = Bench(settings=RaftSettings(tail_entries=100))
    for first in range(1, 1000, 100):
        bench.hear("a", append(1, (first, min(first - 1, 1)), *[command(1, bytes(10))] * 100))
    journal = bench.node.journal
    assert (journal.last.index, len(journal._tail) <= 100) == (1001, True)
    touched: list[bytes] = []
    stored = bench.engine.items

    def counted(family: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        for key, value in stored(family, start, end):
            touched.append(key)
            yield key, value

    monkeypatch.setattr(bench.engine, "items", counted)
    assert len(journal.read(2, entries=10, size=MIB)) == 10
    assert len(journal.read(2, entries=500, size=100)) == 10
    assert len(touched) == 21, "as many as are sent, and the one that was too many"


def test_34_a_long_run_of_entries_leaves_room_for_everything_else() -> None:
    """What is counted is how much is applied before the next message is looked at; a sync takes no time
    of the loop at all, since it runs in a thread."""
    node = stock_node("b", "a", "c")
    entries = [(STOCK_NO_OP, 2, 1), *((stock_command(node, value), 3 + value, 1) for value in range(2000))]
    stock_append(node, "a", 1, (1, 0), *entries, commit=2002)
    node.t.take()
    node.doTick(0)
    assert len(node.hits) == 2000, "the library applies all in one tick, and answers nobody meanwhile"

    bench = Bench(settings=RaftSettings(apply_entries=100))
    bench.transport._onMessageReceived(Node("a"), append(1, (1, 0), *[command(1, b"x")] * 2000, commit=2001))
    bench.node.doTick()
    assert (len(bench.syncer), bench.replica.commands) == (1, [b"x"] * 100)
    bench.transport._onMessageReceived(Node("a"), append(1, (1, 0), commit=2001, seq=2))
    bench.node.doTick()
    assert [reply.seq for _, reply in bench.transport.take()] == [2], "a heartbeat is answered in between"
    assert len(bench.replica.commands) == 200
    wakes = bench.wakes
    bench.settle(rounds=20)
    assert bench.replica.runs == [100] * 20
    assert bench.wakes > wakes, "it asks for its next turn by itself"
