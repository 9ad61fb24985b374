"""The key-value space on real RocksDB: what a restarted node and one that was sent a snapshot know of it, its
pages, and the history that its watchers follow (A2, A4, A6, principle 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.core.commands import KvDelete, KvPut, WriteId
from coordinator.core.limits import KV_KEY_BYTES
from coordinator.core.outcome import KvEvent
from coordinator.errors import RevisionCompacted
from coordinator.replica.key_reads import PAGE_BYTES, KeyReads
from coordinator.replica.watch import KV_EVENT_OVERHEAD, EventHistory, kv_weight

if TYPE_CHECKING:
    from coordinator.replica.applier import Applier
    from tests.replica.conftest import Log, MakeApplier

OLDEST, HIGHEST = "\0", "\U0010ffff"


def put(key: str, value: bytes = b"v", number: int = 0) -> KvPut:
    return KvPut(WriteId("w" if number else "", number, 0), key, value)


def reads(applier: Applier) -> KeyReads:
    return KeyReads(lambda: applier.state, lambda: applier.store)


def pages(applier: Applier, prefix: str, size: int) -> list[list[str]]:
    """The keys with the prefix, page by page."""
    found, token = [], ""
    while True:
        page, token = reads(applier).page(prefix, token, size)
        found.append([key for key, _ in page])
        if not token:
            return found


async def test_a_restarted_node_knows_keys_and_writers(log: Log, make_applier: MakeApplier) -> None:
    applier = make_applier("a")
    applier.apply([log.add(put("ü", b"1", 1), put("k", b"2", 2)), log.add(KvDelete(WriteId("w", 3, 2), "k"))])
    again = make_applier("a")
    assert again.state.kv.entries == applier.state.kv.entries
    assert again.state.kv.bytes == applier.state.kv.bytes == len("ü".encode()) + 1
    assert again.state.kv.writers == applier.state.kv.writers
    assert list(again.state.kv.writers["w"].replies) == [2, 3]
    record = reads(again).get("ü")
    assert record is not None
    assert (record.value, record.version) == (b"1", applier.state.kv.entries["ü"].version)
    assert reads(again).get("k") is None
    # A retry that comes after the restart finds its answer, and changes nothing.
    retried = log.add(put("ü", b"1", 2))
    again.apply([retried])
    assert again.state.kv.entries == applier.state.kv.entries


async def test_a_snapshot_brings_the_keys(log: Log, make_applier: MakeApplier) -> None:
    source, target = make_applier("a"), make_applier("b")
    target.apply([log.add(put("old", number=1))])
    source.apply([*log.entries, log.add(KvDelete(WriteId(), "old"), put("new", b"2", 2))])
    reader = source.read_snapshot()
    writer = target.write_snapshot(reader.meta)
    for chunk in reader.chunks():
        writer.write(chunk)
    writer.prepare()
    writer.install()
    writer.discard()
    reader.close()
    assert target.applied.digest == source.applied.digest
    assert target.state.kv.entries == source.state.kv.entries
    assert pages(target, "", 10) == [["new"]]
    with pytest.raises(RevisionCompacted):
        await anext(aiter(target.kv_history.follow(1)))


KEYS = st.text(st.sampled_from([OLDEST, "a", "b", "ü", HIGHEST]), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(KEYS, max_size=20), st.one_of(st.just(""), KEYS), st.integers(1, 5))
async def test_pages_are_all_keys_with_the_prefix_in_order(
    log: Log, make_applier: MakeApplier, keys: set[str], prefix: str, size: int
) -> None:
    applier = make_applier("a")
    gone = [KvDelete(WriteId(), key) for key in applier.state.kv.entries]
    applier.apply([log.add(*gone, *map(put, keys))])
    found = pages(applier, prefix, size)
    assert [key for page in found for key in page] == sorted(key for key in keys if key.startswith(prefix))
    assert all(len(page) == size for page in found[:-1])


async def test_a_page_ends_when_it_is_large(log: Log, make_applier: MakeApplier) -> None:
    applier = make_applier("a")
    half = bytes(PAGE_BYTES // 2)
    applier.apply([log.add(*(put(f"k{at}", half[:200_000]) for at in range(8)))])
    sizes = [len(page) for page in pages(applier, "", 100)]
    assert sum(sizes) == 8
    assert max(sizes) <= PAGE_BYTES // 200_000 + 1


async def test_a_token_that_is_no_key_begins_where_it_would_stand(
    log: Log, make_applier: MakeApplier
) -> None:
    applier = make_applier("a")
    applier.apply([log.add(*map(put, ("a/1", "a/3", "b")))])
    assert [key for key, _ in reads(applier).page("a/", "a/2", 9)[0]] == ["a/3"]
    assert [key for key, _ in reads(applier).page("a/", "", 9)[0]] == ["a/1", "a/3"]
    assert reads(applier).page("a/", "c" * 2 * KV_KEY_BYTES, 9) == ([], "")
    assert [key for key, _ in reads(applier).page("a/", "A", 9)[0]] == ["a/1", "a/3"]


async def test_the_history_follows_versions_and_not_entries(log: Log, make_applier: MakeApplier) -> None:
    applier = make_applier("a")
    applier.apply([log.add(put("a"), put("b")), log.chain("work"), log.add(put("c"))])
    run, reached = await anext(aiter(applier.kv_history.follow(1)))
    assert [(one.key, one.version) for happening in run for one in happening.events] == [
        (key, entry.version) for key, entry in applier.state.kv.entries.items()
    ]
    assert reached == applier.state.machine.sequence
    # Work is told of elsewhere, and keys are not told of there.
    work, _ = await anext(aiter(applier.history.follow(2)))
    assert [happening.revision for happening in work] == [3]


async def test_the_history_is_bounded_by_what_it_weighs() -> None:
    history: EventHistory[KvEvent] = EventHistory(10_000, 0, weigh=kv_weight)
    for version in range(1, 101):
        history.record(version, 0, [KvEvent("k", version, bytes(1_000), 1)])
    oldest = 101
    while True:
        try:
            run, _ = await anext(aiter(history.follow(oldest - 1)))
        except RevisionCompacted:
            break
        oldest -= 1
        assert [one.revision for one in run] == list(range(oldest, 101))
    assert (101 - oldest + 1) * (1_001 + KV_EVENT_OVERHEAD) >= 10_000
    assert (101 - oldest) * (1_001 + KV_EVENT_OVERHEAD) <= 20_000


def test_what_changes_weigh() -> None:
    assert kv_weight([KvEvent("key", 1, None, 1)]) == KV_EVENT_OVERHEAD + 3
    assert kv_weight([KvEvent("k", 1, b"12", 1)] * 2) == 2 * (KV_EVENT_OVERHEAD + 3)
