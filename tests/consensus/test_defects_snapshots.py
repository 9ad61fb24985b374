"""The defects of stock PySyncObj 0.3.17 around snapshots: each shown to be in it, and shown to be closed here
(A1, A2, A5).

A test is named by the number that the defect has in `docs/divergence.md`; what is in the library is
asserted first, then ours.
"""

from __future__ import annotations

import gzip
import pickle
import zlib
from typing import Any

import msgspec
import pytest

from coordinator.consensus.membership import founding
from coordinator.consensus.messages import SnapshotAck, SnapshotChunk, Verdict
from coordinator.consensus.port import Role, SnapshotMeta
from tests.consensus.lab import (
    STOCK_NO_OP,
    Bench,
    append,
    command,
    leading,
    stock,
    stock_append,
    stock_command,
    stock_hear,
    stock_log,
    stock_node,
    voters,
)


def chunk(
    data: bytes, meta: SnapshotMeta, *, crc: int | None = None, transfer: int = 1, term: int = 1
) -> SnapshotChunk:
    checksum = zlib.crc32(data) if crc is None else crc
    configuration = founding(voters("a", "b", "c"))
    return SnapshotChunk(term, transfer, 0, meta, checksum, True, data, configuration)


def stock_dump(state: dict[str, Any], last: Any, before: Any) -> bytes:
    """A stock snapshot of the state after the entry `last`."""
    return gzip.compress(pickle.dumps((state, last, before, set()), 2))


def stock_snapshot(node: Any, dump: bytes) -> Any:
    """Let a stock node receive a snapshot from its leader "a"; returns what it answers."""
    node.t.take()
    for piece in ((dump, True, False), (b"", False, True)):
        stock_hear(
            node, "a", type="append_entries", term=1, commit_index=node.raftCommitIndex, serialized=piece
        )
    return node.t.take()[-1][1]


def test_03_an_older_snapshot_rolls_nothing_back() -> None:
    node = stock_node("b", "a", "c")
    entries = [
        (STOCK_NO_OP, 2, 1),
        *((stock_command(node, value), 3 + n, 1) for n, value in enumerate("xyz")),
    ]
    stock_append(node, "a", 1, (1, 0), *entries, commit=5)
    node.doTick(0)
    assert node.hits == ["x", "y", "z"]
    answer = stock_snapshot(node, stock_dump({"hits": ["x"]}, entries[1], entries[0]))
    assert answer["success"]
    assert (node.hits, stock_log(node)) == (["x"], [(2, 1), (3, 1)]), (
        "what was acknowledged and applied is gone"
    )

    bench = Bench()
    bench.hear("a", append(1, (1, 0), command(1, b"x"), command(1, b"y"), commit=3))
    ack = bench.hear("a", chunk(msgspec.msgpack.encode([b"x"]), SnapshotMeta(2, 1, b"")))[-1][1]
    assert ack.verdict is Verdict.KNOWN
    assert (bench.replica.commands, bench.log) == ([b"x", b"y"], [(2, 1), (3, 1)])


@pytest.mark.parametrize("crc", [None, 1], ids=["content", "checksum"])
def test_04_a_snapshot_that_does_not_verify_is_refused(crc: int | None) -> None:
    node = stock_node("b", "a", "c")
    stock_append(node, "a", 1, (1, 0), (STOCK_NO_OP, 2, 1))
    answer = stock_snapshot(node, b"garbage")
    assert answer["success"], "the library has swallowed the error, and says that it is installed"
    assert (node.hits, node.raftLastApplied) == ([], 1)

    bench = Bench()
    bench.hear("a", append(1, (1, 0), command(1, b"x"), commit=2))
    answers = bench.hear("a", chunk(b"garbage", SnapshotMeta(9, 1, b""), crc=crc)) + bench.install()
    assert answers[-1][1].verdict is Verdict.REFUSED
    assert (bench.replica.commands, bench.node.commit_index) == ([b"x"], 2)
    bench.hear("a", chunk(msgspec.msgpack.encode([b"ok"]), SnapshotMeta(9, 1, b""), transfer=2))
    assert bench.install()[-1][1].verdict is Verdict.INSTALLED


def test_18_a_snapshot_replaces_the_state() -> None:
    consumer = stock.SyncObjConsumer()
    consumer.old = 1
    consumer._deserialize({"new": 2})
    assert (consumer.old, consumer.new) == (1, 2), "the library merges into what was there"

    bench = Bench()
    bench.hear("a", append(1, (1, 0), command(1, b"gone"), commit=2))
    content = msgspec.msgpack.encode([b"from", b"elsewhere"])
    bench.hear("a", chunk(content, SnapshotMeta(9, 1, b"digest")))
    ack = bench.install()[-1][1]
    assert isinstance(ack, SnapshotAck)
    assert ack.verdict is Verdict.INSTALLED
    assert bench.replica.commands == [b"from", b"elsewhere"]
    assert (bench.node.journal.base.index, bench.log, bench.node.commit_index) == (9, [], 9)


def test_20_an_installed_snapshot_strands_nobody() -> None:
    node = stock_node("b", "a", "c")
    entries = [
        (STOCK_NO_OP, 2, 1),
        *((stock_command(node, value), 3 + n, 1) for n, value in enumerate("xyz")),
    ]
    stock_append(node, "a", 1, (1, 0), entries[0], commit=2)
    node.doTick(0)
    told: list[Any] = []
    node.put("x", callback=lambda result, error: told.append(error))
    node.doTick(0)
    stock_hear(node, "a", type="apply_command_response", request_id=1, log_idx=3, log_term=1)
    stock_snapshot(node, stock_dump({"hits": ["x", "y"]}, entries[2], entries[1]))
    stock_append(node, "a", 1, (4, 1), entries[3], commit=5)
    node.doTick(0)
    assert (node.hits, told) == (["x", "y", "z"], []), "it is done, and the caller waits for ever"

    bench = leading()
    bench.node.propose(b"x")
    bench.hear("a", chunk(msgspec.msgpack.encode([b"x"]), SnapshotMeta(9, 2, b""), term=2))
    assert bench.replica.roles[-1][0] is Role.FOLLOWER, "whoever waits is told that the outcome is unknown"
    assert bench.replica.commands == [], "before the snapshot is installed"
    assert bench.install()[-1][1].verdict is Verdict.INSTALLED
