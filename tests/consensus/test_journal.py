"""The journal against a plain list, with crashes at any moment, truncation, compaction and snapshots (A2,
A4)."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coordinator.consensus.journal import FAMILIES, VOTE, Journal, Position, SyncTicket
from coordinator.consensus.messages import Entry
from coordinator.errors import LogCorrupt, UnknownFormat
from tests.consensus.lab import command, voters
from tests.consensus.memory import MemoryEngine

TAIL = 4


def opened(engine: MemoryEngine) -> Journal:
    return Journal(engine, founders=voters("a"), tail_entries=TAIL, tail_bytes=1 << 20)


def filled(count: int, term: int = 1) -> tuple[MemoryEngine, Journal]:
    """A journal with entries 2 ... count + 1, which are written, and none of them synced."""
    engine = MemoryEngine(FAMILIES)
    journal = opened(engine)
    journal.set_vote(term, None)
    journal.append([command(term, b"%d" % number) for number in range(count)])
    journal.begin_sync()
    return engine, journal


class JournalAgainstList(RuleBasedStateMachine):
    """`entries` is the log, `durable` what a crash leaves at least; both begin after `base`."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = MemoryEngine(FAMILIES)
        self.journal = opened(self.engine)
        self.base = Position(1, 0)
        self.entries: list[Entry] = []
        self.vote: tuple[int, str | None] = (0, None)
        self.tickets: list[tuple[SyncTicket, Position, list[Entry]]] = []
        self.promised = 1

    @rule(sizes=st.lists(st.integers(0, 20), max_size=6))
    def append(self, sizes: list[int]) -> None:
        fresh = [command(self.vote[0], b"x" * size) for size in sizes]
        self.journal.append(fresh)
        self.entries += fresh

    @rule(candidate=st.sampled_from(["a", "b", None]))
    def enter_the_next_term(self, candidate: str | None) -> None:
        self.vote = (self.vote[0] + 1, candidate)
        self.journal.set_vote(*self.vote)
        self.promised = self.last

    @precondition(lambda self: self.entries)
    @rule(place=st.integers(0, 100), sizes=st.lists(st.integers(0, 20), max_size=4))
    def replace_a_tail(self, place: int, sizes: list[int]) -> None:
        kept = place % len(self.entries)
        fresh = [command(self.vote[0], b"y" * size) for size in sizes]
        self.journal.replace_from(self.base.index + 1 + kept, fresh)
        self.entries = [*self.entries[:kept], *fresh]
        self.promised = min(self.promised, self.base.index + kept)

    @rule()
    def begin_a_sync(self) -> None:
        self.tickets.append((self.journal.begin_sync(), self.base, list(self.entries)))
        self.journal.sync()

    @precondition(lambda self: self.tickets)
    @rule()
    def end_a_sync(self) -> None:
        self.journal.finish_sync(self.tickets.pop(0)[0])
        self.promised = max(self.promised, self.journal.durable_index)

    @precondition(lambda self: self.entries and self.journal.durable_index > self.base.index)
    @rule(place=st.integers(1, 100))
    def compact(self, place: int) -> None:
        dropped = 1 + place % (self.journal.durable_index - self.base.index)
        self.base = Position(self.base.index + dropped, self.entries[dropped - 1].term)
        self.entries = self.entries[dropped:]
        self.journal.compact_to(self.base.index)

    @rule(ahead=st.integers(1, 5))
    def install_a_snapshot(self, ahead: int) -> None:
        self.base = Position(self.last + ahead, self.vote[0])
        self.entries = []
        self.journal.reset(self.base)
        self.promised = self.base.index

    @rule(kept=st.integers(0, 5))
    def crash(self, kept: int) -> None:
        promised = self.promised
        before = {self.base.index + 1 + place: entry for place, entry in enumerate(self.entries)}
        self.engine.crash(min(kept, self.engine.unsynced))
        self.journal = opened(self.engine)
        assert (self.journal.term, self.journal.voted_for) == self.vote
        self.base = self.journal.base
        self.entries = self.journal.read(self.base.index + 1, entries=1 << 20, size=1 << 30)
        assert self.last >= promised, "what was durable is there"
        for place, entry in enumerate(self.entries):
            index = self.base.index + 1 + place
            assert index > promised or index not in before or entry == before[index]
        self.tickets.clear()
        self.promised = self.last

    @property
    def last(self) -> int:
        return self.base.index + len(self.entries)

    @invariant()
    def agrees(self) -> None:
        journal = self.journal
        assert (journal.base, journal.last.index) == (self.base, self.last)
        assert journal.read(self.base.index + 1, entries=1 << 20, size=1 << 30) == self.entries
        assert journal.read(self.last + 1, entries=10, size=10) == []
        assert journal.term_at(self.base.index) == self.base.term
        assert [journal.term_at(self.base.index + 1 + n) for n in range(len(self.entries))] == [
            entry.term for entry in self.entries
        ]
        assert journal.term_at(self.last + 1) is None
        assert journal.durable_index <= self.last
        assert journal.durable_index >= min(self.promised, self.last)


JournalAgainstList.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestJournalAgainstList = JournalAgainstList.TestCase


def test_a_sync_that_began_before_a_truncation_proves_nothing_about_what_came_after() -> None:
    _, journal = filled(5)
    ticket = journal.begin_sync()
    journal.sync()
    journal.set_vote(2, None)
    journal.replace_from(4, [command(2, b"new"), command(2, b"new"), command(2, b"new")])
    assert journal.durable_index == 3
    journal.finish_sync(ticket)
    assert journal.durable_index == 3
    ticket = journal.begin_sync()
    journal.sync()
    journal.finish_sync(ticket)
    assert journal.durable_index == 6


def test_reads_are_bounded_but_never_empty() -> None:
    _, journal = filled(20)
    assert len(journal.read(2, entries=7, size=1 << 20)) == 7
    assert len(journal.read(2, entries=100, size=3)) == 3
    assert len(journal.read(2, entries=100, size=0)) == 1
    assert len(journal.read(20, entries=100, size=0)) == 1


def test_only_a_bounded_tail_is_kept_in_memory() -> None:
    engine, journal = filled(100)
    assert len(journal._tail) <= TAIL
    assert [entry.payload for entry in journal.read(2, entries=200, size=1 << 20)] == [
        b"%d" % number for number in range(100)
    ]
    assert len(opened(engine)._tail) <= TAIL


def test_a_gap_is_damage() -> None:
    engine, _ = filled(5)
    batch = engine.batch()
    batch.delete("log", (4).to_bytes(8, "big"))
    engine.write(batch)
    with pytest.raises(LogCorrupt, match="entry 4"):
        opened(engine)


def test_terms_that_fall_are_damage() -> None:
    engine, journal = filled(2, term=5)
    journal.set_vote(5, None)
    other, donor = filled(3, term=4)
    stored = other.get("log", (4).to_bytes(8, "big"))
    assert stored is not None
    assert donor.last.index == 4
    batch = engine.batch()
    batch.put("log", (4).to_bytes(8, "big"), stored)
    engine.write(batch)
    with pytest.raises(LogCorrupt, match="term 4"):
        opened(engine)


def test_a_log_without_its_format_is_not_taken_for_an_empty_one() -> None:
    engine, _ = filled(2)
    batch = engine.batch()
    batch.delete(VOTE, b"format")
    engine.write(batch)
    with pytest.raises(LogCorrupt, match="format"):
        opened(engine)


def test_an_unknown_format_is_named() -> None:
    engine, journal = filled(2)
    stored = engine.get(VOTE, b"format")
    assert stored is not None
    batch = engine.batch()
    batch.put(VOTE, b"format", zlib.crc32(b"\x63", zlib.crc32(b"format")).to_bytes(4, "big") + b"\x63")
    engine.write(batch)
    with pytest.raises(UnknownFormat, match="format 99"):
        opened(engine)
    assert journal.last.index == 3


def test_the_base_is_never_replaced() -> None:
    _, journal = filled(5)
    with pytest.raises(LogCorrupt):
        journal.replace_from(1, [])


def test_what_is_appended_is_written_when_a_sync_begins_and_all_at_once() -> None:
    engine, journal = filled(2)
    written = engine.unsynced
    journal.append([command(1, b"x")])
    journal.append([command(1, b"y")])
    journal.replace_from(5, [command(1, b"z")])
    assert (journal.last_index, engine.unsynced) == (5, written)
    ticket = journal.begin_sync()
    assert (ticket.index, engine.unsynced) == (5, written + 1)
    journal.begin_sync()
    assert engine.unsynced == written + 1
    engine.crash(kept=engine.unsynced)
    assert [entry.payload for entry in opened(engine).read(4, entries=9, size=99)] == [b"x", b"z"]


def test_what_has_left_the_memory_can_be_read_though_no_sync_has_begun() -> None:
    _, journal = filled(0)
    journal.append([command(1, b"%d" % number) for number in range(3 * TAIL)])
    assert journal.read(2, entries=1, size=99)[0].payload == b"0"


def test_a_vote_makes_what_was_appended_durable() -> None:
    engine, journal = filled(0)
    journal.append([command(1, b"x")])
    journal.set_vote(2, "a")
    engine.crash()
    assert (opened(engine).last_index, journal.durable_index) == (2, 2)
