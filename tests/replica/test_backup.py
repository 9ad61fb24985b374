"""A backup holds the state at one entry, and a folder restored from it is that state in a new cluster; bad
files and wrong places are refused with a reason (A2, A7)."""

from __future__ import annotations

import asyncio
import io
import random
from pathlib import Path

import msgspec
import pytest

from coordinator.config import BackupSection, Given, NodeConfig, build
from coordinator.consensus import journal
from coordinator.consensus.identity import claim
from coordinator.consensus.journal import Journal
from coordinator.errors import (
    ConfigError,
    CoordinatorError,
    QueueFull,
    StartFailed,
    Unavailable,
    UnreadableBackup,
    WrongState,
)
from coordinator.replica.applier import Applier
from coordinator.replica.backup import Backups
from coordinator.replica.restore import restore
from coordinator.storage.backup import MAGIC, Header, encode, verify
from coordinator.storage.engine import RocksEngine
from coordinator.storage.snapshots import CHUNK_BYTES, StateReader
from coordinator.storage.state_home import FolderHome
from coordinator.storage.state_store import StateStore
from tests.replica.conftest import Log, MakeApplier
from tests.replica.test_applier import picture

LARGE = 3 * CHUNK_BYTES


@pytest.fixture
async def source(log: Log, make_applier: MakeApplier) -> Applier:
    """A state with one record that takes several chunks."""
    applier = make_applier("source")
    applier.apply([log.chain("one"), log.agent("r1"), log.chain("large", payload=bytes(LARGE))])
    return applier


def header(applier: Applier, format: int = 1) -> Header:  # noqa: A002 - the field's name
    return Header(format, "0.1", "old", "n2", applier.applied, 1_000, 2_000)


def pieces(applier: Applier) -> list[bytes]:
    reader = StateReader(applier.store)
    try:
        return list(encode(header(applier), reader.chunks()))
    finally:
        reader.close()


def config(folder: Path, **settings: str) -> NodeConfig:
    given = {"data_dir": str(folder), "cluster_id": "new", "node_id": "n1"} | settings
    return build({key: Given(value, "test") for key, value in given.items()})


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def open_log(folder: Path) -> tuple[RocksEngine, Journal]:
    engine = RocksEngine(folder / "log", journal.FAMILIES)
    return engine, Journal(engine, founders=config(folder).founders, tail_entries=10, tail_bytes=1 << 20)


async def test_a_restored_folder_is_the_state_that_was_backed_up(source: Applier, tmp_path: Path) -> None:
    backup = write(tmp_path / "backup", b"".join(pieces(source)))
    summary = restore(backup, config(tmp_path / "new"))
    assert summary.header == header(source)
    assert (summary.size, summary.records > 0) == (backup.stat().st_size, True)
    store = StateStore(FolderHome(tmp_path / "new" / "state"))
    again = Applier(store, max_events=10, kv_history_bytes=1 << 20, max_digests=10)
    assert again.applied == source.applied
    assert picture(again.state) == picture(source.state)
    assert again.state.machine.now_ms == source.state.machine.now_ms
    store.close()


async def test_a_restored_log_begins_where_the_backup_was_taken(source: Applier, tmp_path: Path) -> None:
    restore(write(tmp_path / "backup", b"".join(pieces(source))), config(tmp_path / "new"))
    engine, log = open_log(tmp_path / "new")
    assert (log.base.index, log.base.term) == (source.applied.index, source.applied.term)
    assert (log.last, log.term, log.voted_for) == (log.base, source.applied.term, None)
    identity = claim(engine, log, cluster="new", node="n1", rng=random.Random(0))
    for cluster, node in (("old", "n1"), ("new", "n2")):
        with pytest.raises(StartFailed, match="belongs to"):
            claim(engine, log, cluster=cluster, node=node, rng=random.Random(0))
    assert identity.incarnation
    engine.close()


async def test_every_backup_that_was_cut_short_is_refused(source: Applier) -> None:
    content = b"".join(pieces(source))
    ends = [*range(min(600, len(content))), *range(600, len(content), 997), len(content) - 1]
    for end in ends:
        with pytest.raises(UnreadableBackup):
            verify(io.BytesIO(content[:end]))
    assert verify(io.BytesIO(content)).size == len(content)


async def test_every_flipped_bit_is_found(source: Applier) -> None:
    content = b"".join(pieces(source))
    chance = random.Random(1)
    places = [*range(300), *(chance.randrange(len(content)) for _ in range(300)), len(content) - 1]
    for place in places:
        spoilt = bytearray(content)
        spoilt[place] ^= 1 << chance.randrange(8)
        with pytest.raises(UnreadableBackup):
            verify(io.BytesIO(spoilt))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda parts: [*parts, b"x"], "something follows its end"),
        (lambda parts: [*parts, *parts], "something follows its end"),
        (lambda parts: [parts[0], *parts[2:]], "1 chunks|chunks at the end"),
        (lambda parts: [parts[0], parts[2], parts[1], *parts[3:]], "at the end|cannot be read|family"),
        (lambda parts: [parts[0], parts[1], parts[1], *parts[2:]], "at the end|verify"),
        (lambda parts: parts[1:], "does not begin as one does"),
        (lambda parts: [b"PK\3\4" + bytes(100)], "does not begin as one does"),
        (lambda parts: [b""], "cut short"),
        (lambda parts: [MAGIC + b"\xff" * 100], "a frame of"),
    ],
    ids=[
        "one byte more",
        "twice",
        "a chunk missing",
        "two exchanged",
        "one repeated",
        "no header",
        "a zip",
        "empty",
        "a frame without end",
    ],
)
def test_what_is_no_whole_backup_is_refused_with_a_reason(
    source: Applier, tmp_path: Path, spoil, why: str
) -> None:
    bad = write(tmp_path / "bad", b"".join(spoil(pieces(source))))
    with pytest.raises(UnreadableBackup, match=why):
        restore(bad, config(tmp_path / "new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "source"], "nothing was made"


async def test_a_state_that_is_not_the_headers_is_refused(source: Applier, tmp_path: Path) -> None:
    reader = StateReader(source.store)
    other = msgspec.structs.replace(
        header(source), applied=msgspec.structs.replace(source.applied, digest=bytes(16))
    )
    with pytest.raises(UnreadableBackup, match="holds the state"):
        verify(io.BytesIO(b"".join(encode(other, reader.chunks()))))
    reader.close()


async def test_a_backup_of_a_later_format_is_refused(source: Applier) -> None:
    reader = StateReader(source.store)
    content = b"".join(encode(header(source, format=2), reader.chunks()))
    reader.close()
    with pytest.raises(UnreadableBackup, match="format"):
        verify(io.BytesIO(content))


@pytest.mark.parametrize(
    ("settings", "error"),
    [({"cluster_id": "old"}, ConfigError), ({"data_dir": "source"}, WrongState), ({}, None)],
    ids=["the old cluster's id", "a folder that is in use", "all is well"],
)
async def test_a_backup_is_restored_into_a_new_folder_of_a_new_cluster(
    source: Applier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    error: type[CoordinatorError] | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    backup = write(tmp_path / "backup", b"".join(pieces(source)))
    wanted = config(tmp_path / "new", **settings)
    if error is None:
        (tmp_path / "new").mkdir()
        restore(backup, wanted)
        return
    with pytest.raises(error):
        restore(backup, wanted)
    assert not (tmp_path / "new").exists()


def streams(applier: Applier, **limits: int) -> Backups:
    return Backups(applier, NodeConfig(backup=BackupSection(**limits)), wall_ms=lambda: 5_000)


async def collect(backups: Backups, at_least: int = 0) -> bytes:
    return b"".join([piece async for piece in backups.stream(at_least)])


async def test_a_stream_holds_one_moment_though_entries_go_on(source: Applier, log: Log) -> None:
    before = source.applied
    stream = streams(source).stream(0)
    parts = [await anext(stream)]
    source.apply([log.chain("later")])
    parts += [piece async for piece in stream]
    found = verify(io.BytesIO(b"".join(parts)))
    assert (found.header.applied, found.header.cluster, found.header.taken_ms) == (
        before,
        "quorumflow",
        5_000,
    )


async def test_a_stream_waits_for_what_it_must_hold(source: Applier, log: Log) -> None:
    target = source.applied.index + 1
    collecting = asyncio.create_task(collect(streams(source), target))
    await asyncio.sleep(0)
    assert not collecting.done()
    source.apply([log.chain("acknowledged")])
    assert verify(io.BytesIO(await collecting)).header.applied.index == target
    with pytest.raises(Unavailable, match="catch_up_s"):
        await collect(streams(source, catch_up_s=1), target + 1)


async def test_streams_are_bounded_in_number_and_in_time(source: Applier) -> None:
    backups = streams(source, max_streams=1, bytes_per_s=CHUNK_BYTES, life_s=1)
    stream = backups.stream(0)
    await anext(stream)
    with pytest.raises(QueueFull, match="max_streams"):
        await collect(backups)
    with pytest.raises(Unavailable, match="life_s"):
        _ = [piece async for piece in stream]
    await stream.aclose()
    await anext(again := backups.stream(0))
    await again.aclose()
