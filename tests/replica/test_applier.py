"""Entries become state on disk and in memory, once and in order (H1, A4; design principles 2 and 5)."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from coordinator.consensus.port import Committed, Role
from coordinator.core.commands import FIRST_FORMAT, CancelDag, Entry
from coordinator.core.state import State
from coordinator.errors import ApplyFailed, StateCorrupt, StorageFault, UnknownFormat
from coordinator.replica.applier import Applier
from coordinator.storage.layout import Stored, pack


def picture(state: State) -> bytes:
    """The state in memory as bytes, to compare."""
    agents = sorted(state.agents.items())
    history = list(state.history.rows.items())
    return msgspec.msgpack.encode(
        (state.machine, list(state.dags.values()), agents, list(state.requests.values()), history)
    )


async def test_a_reopened_store_holds_the_same_state(log, make_applier):
    applier = make_applier("a")
    applier.apply([log.chain("one"), log.agent("r1"), log.chain("two", 5)])
    before, applied = picture(applier.state), applier.applied
    again = make_applier("a")
    assert picture(again.state) == before
    assert again.applied == applied


async def test_what_ends_have_taught_is_there_after_a_restart_and_in_a_snapshot(log, make_applier):
    """D5, E5. A node of the version before brings none, and its entries add none."""
    applier = make_applier("a")
    applier.apply([log.chain("one"), log.agent("r1"), log.agent("r2")])
    applier.apply([log.end(applier.state, "r1", 0, version=FIRST_FORMAT)])
    applier = make_applier("a")
    assert applier.state.agents["r1"].stats.completed == 1
    assert not applier.state.history.rows
    applier.apply([log.end(applier.state, "r2", 1)])
    applier.apply([log.end(applier.state, "r1", 2)])
    learned = list(applier.state.history.rows.items())
    assert [(agent, ends.count) for (agent, _), ends in learned] == [("r2", 1), ("r1", 1)]
    again = make_applier("a")
    assert picture(again.state) == picture(applier.state)
    reader, other = again.read_snapshot(), make_applier("b")
    incoming = other.write_snapshot(reader.meta)
    for chunk in reader.chunks():
        incoming.write(chunk)
    incoming.prepare()
    incoming.install()
    reader.close()
    assert picture(other.state) == picture(again.state)
    assert list(other.state.history.rows.items()) == learned


async def test_the_digest_does_not_depend_on_how_entries_were_grouped(log, make_applier):
    entries = [log.chain("one"), log.agent("r1"), log.chain("two"), log.agent("r2")]
    together, single = make_applier("a"), make_applier("b")
    together.apply(entries)
    for entry in entries:
        single.apply([entry])
    assert together.applied == single.applied
    assert picture(together.state) == picture(single.state)


async def test_no_entry_is_applied_twice_or_left_out(log, make_applier):
    applier = make_applier("a")
    first, second, third = log.chain("one"), log.chain("two"), log.chain("three")
    applier.apply([first])
    for wrong in (first, third):
        with pytest.raises(ApplyFailed, match="a state that is at 2"):
            applier.apply([wrong])
    applier.apply([second])
    assert applier.applied.index == 3


def test_what_the_digest_is_made_of_tells_any_two_lists_of_writes_apart():
    """A4: by where one part ends and the next begins, by order, and by what is put and what deleted."""
    lists = [
        [],
        [Stored("f", b"", None, None)],
        [Stored("f", b"", b"", None)],
        [Stored("f", b"", None, b"")],
        [Stored("f", b"ab", b"", None)],
        [Stored("f", b"a", b"b", None)],
        [Stored("fa", b"", b"b", None)],
        [Stored("f", b"a", None, b"b")],
        [Stored("f", b"a", None, None), Stored("f", b"b", None, None)],
        [Stored("f", b"b", None, None), Stored("f", b"a", None, None)],
    ]
    assert len({pack(writes) for writes in lists}) == len(lists)


async def test_an_entry_of_consensus_itself_moves_the_index_alone(log, make_applier):
    applier = make_applier("a")
    applier.apply([log.chain("one")])
    digest = applier.applied.digest
    applier.apply([Committed(3, 2, b"")])
    assert (applier.applied.index, applier.applied.term, applier.applied.digest) == (3, 2, digest)


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1garbage",
        msgspec.msgpack.encode(Entry(99, 0, [])),
        msgspec.msgpack.encode((1, 0, [[77, "a command of the future"]])),
    ],
)
async def test_an_entry_that_cannot_be_read_stops_the_node_and_is_not_skipped(make_applier, payload):
    applier = make_applier("a")
    with pytest.raises(UnknownFormat, match="entry 2"):
        applier.apply([Committed(2, 1, payload)])
    assert make_applier("a").applied.index == 1


async def test_a_failing_machine_leaves_nothing_on_disk(log, make_applier, monkeypatch):
    applier = make_applier("a")
    entry = log.chain("one")
    monkeypatch.setattr("coordinator.core.machine.apply", lambda *_: 1 / 0)
    with pytest.raises(ApplyFailed, match="SubmitDag"):
        applier.apply([entry])
    monkeypatch.undo()
    again = make_applier("a")
    assert again.applied.index == 1
    assert again.state.dags == {}


def leading(applier: Applier) -> tuple[list[tuple[int, int]], list[int]]:
    """Let the applier serve a leader; returns what is told: of replies the entry's index and up to where the
    state is stored, and of effects the latter alone."""
    replies: list[tuple[int, int]] = []
    effects: list[int] = []
    applier.on_replies = lambda index, term, outcome: replies.append((index, applier.applied.index))
    applier.on_effects = lambda outcome: effects.append(applier.applied.index)
    return replies, effects


async def test_who_waits_for_a_leader_learns_the_outcome_before_the_state_is_stored(log, make_applier):
    applier = make_applier("a")
    replies, effects = leading(applier)
    applier.apply([log.chain("one"), log.agent("r1")])
    assert (replies, effects) == ([(2, 1), (3, 1)], [])
    await asyncio.sleep(0)
    assert (applier.applied.index, effects) == (3, [3, 3])


async def test_agents_are_pushed_what_is_theirs_before_the_state_is_stored(log, make_applier):
    applier = make_applier("a")
    _, effects = leading(applier)
    pushed: list[tuple[int, int]] = []
    applier.on_push = lambda asked: pushed.append((len(asked.ready), applier.applied.index))
    applier.apply([log.chain("one"), log.chain("two")])
    assert (pushed, effects) == ([(1, 1), (1, 1)], [])
    await asyncio.sleep(0)
    assert (len(pushed), effects) == (2, [3, 3])


async def test_a_push_that_needs_what_is_stored_finds_all_of_its_run(log, make_applier):
    applier = make_applier("a")
    _, effects = leading(applier)
    pushed: list[int] = []
    applier.on_push = lambda _: pushed.append(applier.store.applied.index)
    applier.apply([log.chain("one"), log.chain("two")])
    await asyncio.sleep(0)
    assert (pushed, effects) == ([3, 3], [3, 3])


@pytest.mark.parametrize("leads", [True, False])
async def test_an_end_is_told_once_and_before_it_is_stored_where_somebody_may_wait(leads, log, make_applier):
    applier = make_applier("a")
    if leads:
        leading(applier)
    applier.apply([log.chain("one")])
    told: list[tuple[int, int]] = []
    number = applier.state.dag("one").record.number
    applier.endings.listen(number, 60.0, lambda revision: told.append((revision, applier.applied.index)))
    applier.apply([log.add(CancelDag("c", "one"))])
    await asyncio.sleep(0)
    assert told == [(3, 2 if leads else 3)]


def test_a_follower_pushes_nothing(log, make_applier):
    applier = make_applier("a")
    pushed: list[object] = []
    applier.on_push = pushed.append
    applier.apply([log.chain("one")])
    assert pushed == []


@pytest.mark.parametrize("look", ["state", "store", "read_snapshot"])
async def test_nobody_else_sees_what_is_not_stored(look, log, make_applier):
    applier = make_applier("a")
    _, effects = leading(applier)
    applier.apply([log.chain("one")])
    seen = getattr(applier, look)
    if look == "read_snapshot":
        seen().close()
    assert (applier.applied.index, effects) == (2, [2])


async def test_a_run_is_stored_before_the_next_and_before_the_role_changes(log, make_applier):
    applier = make_applier("a")
    _, effects = leading(applier)
    applier.apply([log.chain("one")])
    applier.apply([log.chain("two")])
    assert effects == [2]
    roles: list[int] = []
    applier.on_role_change = lambda *_: roles.append(applier.applied.index)
    applier.on_role(Role.FOLLOWER, 2, None)
    assert (roles, effects) == ([3], [2, 3])


@pytest.mark.parametrize("asked", [True, False])
async def test_a_leader_that_cannot_store_its_state_stops(asked, log, make_applier, monkeypatch):
    applier, fault = make_applier("a"), StorageFault("the disk is gone")

    def fails(*_: object) -> None:
        raise fault

    leading(applier)
    faults: list[Exception] = []
    applier.on_fault = faults.append
    monkeypatch.setattr(applier.store, "commit", fails)
    applier.apply([log.chain("one")])
    if asked:
        with pytest.raises(StorageFault):
            _ = applier.state
    await asyncio.sleep(0)
    assert (faults, applier.applied.index) == ([fault], 1)


async def test_who_gives_up_waiting_for_an_index_is_forgotten(make_applier):
    applier = make_applier("a")
    waiting = asyncio.create_task(applier.wait_applied(1 << 62))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert applier._waiting == []


async def test_waiting_for_an_index_returns_when_it_is_applied(log, make_applier):
    applier = make_applier("a")
    entries = [log.chain("one"), log.agent("r1")]
    waiting = asyncio.create_task(applier.wait_applied(3))
    applier.apply(entries[:1])
    await asyncio.sleep(0)
    assert not waiting.done()
    applier.apply(entries[1:])
    await waiting
    await applier.wait_applied(3)


def copy_snapshot(source: Applier, target: Applier, spoil=lambda chunks: chunks) -> None:
    """Send the source's state to the target, chunk by chunk."""
    reader = source.read_snapshot()
    writer = target.write_snapshot(reader.meta)
    try:
        for chunk in spoil(list(reader.chunks())):
            writer.write(chunk)
        writer.prepare()
        writer.install()
    finally:
        writer.discard()
        reader.close()


async def test_a_snapshot_makes_another_node_equal(log, make_applier):
    source, target = make_applier("a"), make_applier("b")
    source.apply([log.chain("one"), log.agent("r1")])
    target.apply([log.entries[0]])
    copy_snapshot(source, target)
    assert target.applied == source.applied
    assert picture(target.state) == picture(source.state)
    assert picture(make_applier("b").state) == picture(source.state)
    more = log.chain("two")
    source.apply([more])
    target = make_applier("b")
    target.apply([more])
    assert target.applied == source.applied


async def test_a_snapshot_is_of_one_moment_though_entries_go_on(log, make_applier):
    source, target = make_applier("a"), make_applier("b")
    source.apply([log.chain("one")])
    reader = source.read_snapshot()
    source.apply([log.chain("two")])
    writer = target.write_snapshot(reader.meta)
    for chunk in reader.chunks():
        writer.write(chunk)
    writer.prepare()
    writer.install()
    writer.discard()
    reader.close()
    assert list(target.state.numbers) == ["one"]
    assert target.applied.index == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda chunks: chunks[:-1],
        lambda chunks: chunks[1:],
        lambda chunks: [chunks[0][:-1] + bytes([chunks[0][-1] ^ 1]), *chunks[1:]],
        lambda chunks: [b"\xc1", *chunks],
        lambda chunks: [*chunks, chunks[0]],
    ],
    ids=["cut short", "first chunk missing", "one bit flipped", "garbage", "goes on after its end"],
)
async def test_a_damaged_snapshot_is_refused_and_changes_nothing(log, make_applier, tmp_path, spoil):
    """Defects 3 and 4 of stock PySyncObj at the level of the store."""
    source, target = make_applier("a"), make_applier("b")
    source.apply([log.chain("one"), log.agent("r1")])
    target.apply([log.entries[0]])
    before = picture(target.state), target.applied
    with pytest.raises(StateCorrupt):
        copy_snapshot(source, target, spoil)
    assert (picture(target.state), target.applied) == before
    again = make_applier("b")
    assert (picture(again.state), again.applied) == before
    assert len(list((tmp_path / "b").glob("state-*"))) == 1
