"""Group commit: what arrives together travels together, queues are bounded, lost leadership is told apart
(principles 6, 7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from structlog.testing import capture_logs

from coordinator.core.commands import CancelDag, Entry, Report, SubmitDag
from coordinator.core.model import DagHeader, TaskBlock, TaskProfile
from coordinator.core.outcome import Done, Refusal
from coordinator.defects import Defects
from coordinator.errors import LimitExceeded, NotFound, NotLeader, OutcomeUnknown, QueueFull
from coordinator.replica.gathering import ENOUGH, Gathering
from coordinator.replica.proposer import Proposer

GATHER_S = 0.02


class Clock:
    """Stands still."""

    def now_ms(self) -> int:
        return 1_234


class Log:
    """Takes proposals as a leader's log would; the test says when one is applied."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.leading = True
        self.takes = True
        self.grew = asyncio.Event()

    def propose(self, payload: bytes) -> tuple[int, int]:
        if not self.leading:
            raise NotLeader("n2", "host:1")
        if not self.takes:
            raise QueueFull("not now", retry_after_ms=1)
        self.entries.append(msgspec.msgpack.decode(payload, type=Entry))
        self.grew.set()
        return len(self.entries) + 1, 7

    def push(self) -> None:
        """There is nobody to send to."""

    async def has_taken(self, commands: int) -> None:
        """Return once it has so many."""
        while sum(len(entry.commands) for entry in self.entries) < commands:
            self.grew.clear()
            await self.grew.wait()


def no_defect() -> None:
    pytest.fail("the term was ended")


def make(
    log: Log, lose: Callable[[], None] = no_defect, *, gather_s: float = GATHER_S, **bounds: int
) -> Proposer:
    settings = {"max_commands": 100, "max_bytes": 100_000, "max_entry_bytes": 10_000, "window": 2} | bounds
    return Proposer(log, Clock(), Defects().within(lose), gather_s=gather_s, **settings)


def cancel(number: int) -> CancelDag:
    return CancelDag("", f"dag-{number}")


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_comes_in_one_turn_is_one_entry_and_replies_find_their_askers():
    log = Log()
    proposer = make(log)
    futures = [proposer.submit(cancel(number)) for number in range(5)]
    await turn()
    assert [len(entry.commands) for entry in log.entries] == [5]
    assert log.entries[0].at_ms == 1_234
    proposer.applied(2, 7, [Done(number) for number in range(5)])
    assert [(await future).count for future in futures] == [0, 1, 2, 3, 4]


async def test_beyond_the_window_commands_gather_until_an_entry_is_applied():
    log = Log()
    proposer = make(log)
    for number in range(2):
        proposer.submit(cancel(number))
        await turn()
    late = [proposer.submit(cancel(number)) for number in range(2, 6)]
    await turn()
    assert [len(entry.commands) for entry in log.entries] == [1, 1]
    proposer.applied(2, 7, [Done()])
    await turn()
    assert [len(entry.commands) for entry in log.entries] == [1, 1, 4]
    assert [command.dag_id for command in log.entries[2].commands] == [
        f"dag-{number}" for number in range(2, 6)
    ]
    assert not any(future.done() for future in late)


def overloaded(log: Log, **bounds: int) -> Proposer:
    """Commands have come as fast as they can, and commits taken an eighth of a second longer than the first:
    an entry waits for about half a second, in which whatever a test does has long been done."""
    proposer = make(log, gather_s=60.0, **bounds)
    gathering, now_s = proposer._gathering, asyncio.get_running_loop().time()
    gathering.committed(0.001)
    for _ in range(100):
        gathering.committed(0.126)
        gathering.came(now_s)
    return proposer


async def test_under_load_an_entry_waits_for_what_comes_in_later_turns() -> None:
    log = Log()
    proposer = overloaded(log)
    before = len(log.entries)
    for number in range(5):
        proposer.submit(cancel(number))
        await turn()
    assert len(log.entries) == before
    await log.has_taken(5)
    assert [len(entry.commands) for entry in log.entries[before:]] == [5]


async def test_the_load_is_what_comes_from_others_and_how_long_commits_take() -> None:
    class Noting(Gathering):
        def came(self, now_s: float) -> None:
            noted.append("came")

        def committed(self, took_s: float) -> None:
            assert took_s >= 0
            noted.append("committed")

    log, noted = Log(), list[str]()
    proposer = make(log)
    proposer._gathering = Noting(GATHER_S)
    added = [cancel(3)]
    proposer.before_entry = lambda: proposer.submit(added.pop()) and None if added else None
    proposer.submit(cancel(1))
    proposer.submit(cancel(2))
    await turn()
    assert ([len(entry.commands) for entry in log.entries], noted) == ([3], ["came", "came"])
    proposer.applied(2, 7, [Done()] * 3)
    assert noted[2:] == ["committed"]


class Worth(Gathering):
    """No command is expected soon, and what is sure to come is worth the longest wait."""

    @property
    def wait_s(self) -> float:
        return 0.0

    @property
    def worth_s(self) -> float:
        return self._most_s


def told(number: int) -> Report:
    return Report(f"agent-{number}", 1, [])


def expecting(log: Log, due: set[int], worth_s: float) -> Proposer:
    """A proposer that expects ends while there is any in `due`."""
    proposer = make(log)
    proposer._gathering = Worth(worth_s)
    proposer.ends_are_due = lambda: bool(due)
    return proposer


async def test_what_agents_tell_waits_for_ends_that_are_due_until_all_are_told() -> None:
    log, due = Log(), {1, 2, 3}
    proposer = expecting(log, due, worth_s=60.0)
    for number in (1, 2, 3):
        assert log.entries == []
        due.discard(number)
        proposer.submit(told(number))
        await turn()
    assert [len(entry.commands) for entry in log.entries] == [3]


async def test_it_does_not_wait_for_ever() -> None:
    log = Log()
    expecting(log, {1}, worth_s=0.001).submit(told(2))
    await log.has_taken(1)


async def test_who_waits_for_an_answer_does_not_wait_for_ends() -> None:
    log = Log()
    proposer = expecting(log, {1}, worth_s=60.0)
    proposer.submit(told(2))
    await turn()
    assert log.entries == []
    proposer.submit(cancel(1))
    await turn()
    assert [len(entry.commands) for entry in log.entries] == [2]


async def test_who_cannot_say_what_is_due_must_not_lead_and_holds_nothing_up() -> None:
    log, ended = Log(), list[bool]()
    proposer = make(log, lambda: ended.append(True))
    proposer.ends_are_due = lambda: bool(1 / 0)
    for number in (1, 2):
        proposer.submit(told(number))
        await turn()
    assert (len(log.entries), ended[:1]) == (2, [True])


async def test_nothing_waits_for_ends_where_commits_are_as_quick_as_they_can_be() -> None:
    log = Log()
    expecting(log, {1}, worth_s=0.0).submit(told(2))
    await turn()
    assert len(log.entries) == 1


async def test_an_entry_that_is_full_waits_no_longer() -> None:
    log = Log()
    proposer = overloaded(log, max_entry_bytes=264)
    for number in range(20):
        proposer.submit(cancel(number))
    await turn()
    assert proposer.waiting < 20


async def test_an_entry_of_many_commands_waits_no_longer() -> None:
    log = Log()
    proposer = overloaded(log)
    for number in range(ENOUGH):
        proposer.submit(cancel(number))
    await turn()
    assert (proposer.waiting, len(log.entries[-1].commands)) == (0, ENOUGH)


async def test_an_entry_may_be_asked_for_and_is_made_if_there_is_something_to_add() -> None:
    log = Log()
    proposer = make(log, window=1)
    added = [cancel(1), cancel(2)]
    proposer.before_entry = lambda: proposer.submit(added.pop(0)) and None if added else None
    proposer.ask()
    await turn()
    assert [entry.commands for entry in log.entries] == [[cancel(1)]]
    proposer.ask()
    await turn()
    assert len(log.entries) == 1
    proposer.applied(2, 7, [Done()])
    await turn()
    assert [entry.commands for entry in log.entries[1:]] == [[cancel(2)]]
    proposer.applied(3, 7, [Done()])
    proposer.ask()
    await turn()
    assert len(log.entries) == 2


async def test_what_can_wait_is_done_once_the_entry_has_left() -> None:
    log, done = Log(), list[str]()
    proposer = make(log)
    log.push = lambda: done.append(f"{len(log.entries)} left")
    proposer.before_entry = lambda: done.append("before")
    proposer.after_entry = lambda: done.append("after")
    proposer.submit(cancel(1))
    await turn()
    assert done == ["before", "1 left", "after"]


async def test_what_comes_while_an_entry_leaves_follows_it_and_what_is_asked_for_waits_for_it() -> None:
    log = Log()
    proposer = make(log)
    added = [cancel(2)]
    proposer.after_entry = lambda: proposer.submit(added.pop()) and None if added else proposer.ask()
    proposer.submit(cancel(1))
    await turn()
    await turn()
    assert [entry.commands for entry in log.entries] == [[cancel(1)], [cancel(2)]]
    asked = list[int]()
    proposer.before_entry = lambda: asked.append(len(log.entries))
    await turn()
    assert asked == []
    proposer.applied(2, 7, [Done()])
    await turn()
    assert asked == [2]


async def test_an_entry_that_is_applied_as_it_leaves_holds_nothing_up() -> None:
    """As where a node is alone."""
    log = Log()
    proposer = make(log, window=1)
    log.push = lambda: proposer.applied(len(log.entries) + 1, 7, [Done()])
    rounds = [cancel(1), cancel(2), cancel(3)]

    def add() -> None:
        if rounds:
            proposer.submit(rounds.pop(0))
            proposer.ask()

    proposer.before_entry = add
    proposer.ask()
    await log.has_taken(3)
    assert [len(entry.commands) for entry in log.entries] == [1, 1, 1]


async def test_what_the_log_does_not_take_waits_in_its_order_until_it_does():
    """As while leadership is being handed over, in vain: what the leader's own loops ask for once must not be
    lost."""
    log = Log()
    log.takes = False
    proposer = make(log, max_entry_bytes=264)
    futures = [proposer.submit(cancel(number)) for number in range(8)]
    await turn()
    assert (log.entries, proposer.waiting) == ([], 8)
    futures += [proposer.submit(cancel(8))]
    log.takes = True
    await log.has_taken(9)
    sent = [command.dag_id for entry in log.entries for command in entry.commands]
    assert sent == [f"dag-{number}" for number in range(9)]
    assert not any(future.done() for future in futures)


async def test_what_waits_for_the_log_is_told_when_another_leads():
    log = Log()
    log.takes = False
    proposer = make(log)
    waits = proposer.submit(cancel(0))
    await turn()
    proposer.revoke(NotLeader("n2", "host:1"))
    with pytest.raises(NotLeader):
        await waits
    log.takes = True
    later = proposer.submit(cancel(1))
    await log.has_taken(1)
    assert [command.dag_id for command in log.entries[0].commands] == ["dag-1"]
    assert not later.done()


async def test_an_entry_is_closed_at_its_bound():
    log = Log()
    proposer = make(log, max_entry_bytes=264)
    for number in range(20):
        proposer.submit(cancel(number))
    await turn()
    proposer.applied(2, 7, [Done()] * len(log.entries[0].commands))
    await turn()
    assert 1 < len(log.entries[0].commands) < 20
    assert all(len(msgspec.msgpack.encode(entry)) <= 264 for entry in log.entries)


async def test_a_full_queue_refuses_and_says_when_to_come_back():
    log = Log()
    proposer = make(log, max_commands=3, window=1)
    kept = [proposer.submit(cancel(number)) for number in range(3)]
    with pytest.raises(QueueFull) as caught:
        proposer.submit(cancel(3))
    assert caught.value.retry_after_ms > 0
    assert caught.value.fields["limit"] == "3"
    room = asyncio.create_task(proposer.room())
    await turn()
    assert room.done()
    proposer.applied(2, 7, [Done()] * 3)
    assert all(future.done() for future in kept)


async def test_the_queue_is_bounded_by_bytes_too():
    proposer = make(Log(), max_bytes=28, window=1)
    proposer.submit(cancel(0))
    proposer.submit(cancel(1))
    with pytest.raises(QueueFull):
        proposer.submit(cancel(2))


async def test_a_command_that_room_could_never_be_made_for_is_refused_for_good():
    """Else whoever waits for room and tries again would do so for ever."""
    with pytest.raises(LimitExceeded):
        make(Log(), max_bytes=19).submit(cancel(0))


async def test_a_command_larger_than_an_entry_is_refused_with_the_limit():
    block = TaskBlock(0, ["t"], [0], [()], [b"x" * 20_000], [0])
    with pytest.raises(LimitExceeded) as caught:
        make(Log()).submit(SubmitDag("", DagHeader("d"), [TaskProfile("noop")], block))
    assert caught.value.fields["setting"] == "raft.max_entry_bytes"


async def test_lost_leadership_is_unknown_for_what_was_proposed_and_not_leader_for_what_was_not():
    log = Log()
    proposer = make(log, window=1)
    proposed = proposer.submit(cancel(0))
    await turn()
    waiting = proposer.submit(cancel(1))
    proposer.revoke(NotLeader("n2", "host:1"))
    with pytest.raises(OutcomeUnknown):
        await proposed
    with pytest.raises(NotLeader) as caught:
        await waiting
    assert caught.value.leader_address == "host:1"
    assert proposer.waiting == 0


async def test_another_leaders_entry_in_the_same_place_is_not_mistaken_for_ours():
    log = Log()
    proposer = make(log)
    future = proposer.submit(cancel(0))
    await turn()
    proposer.applied(2, 8, [Done()])
    with pytest.raises(OutcomeUnknown):
        await future


async def test_a_node_that_does_not_lead_says_who_does():
    log = Log()
    log.leading = False
    future = make(log).submit(cancel(0))
    with pytest.raises(NotLeader, match="n2 at host:1"):
        await future


async def test_a_refusal_becomes_the_error_that_it_names():
    log = Log()
    proposer = make(log)
    call = asyncio.create_task(proposer.call(cancel(0)))
    await turn()
    proposer.applied(2, 7, [Refusal("NOT_FOUND", "no such DAG", {"name": "dag-0"})])
    with pytest.raises(NotFound, match="no such DAG") as caught:
        await call
    assert caught.value.fields == {"name": "dag-0"}


@pytest.mark.parametrize("part", ["clock", "log", "links"])
async def test_a_defect_while_proposing_leaves_nobody_waiting_and_ends_the_term(monkeypatch, part: str):
    log = Log()
    lost: list[str] = []
    proposer = make(log, lambda: lost.append("term"))
    owner, method = {"clock": (Clock, "now_ms"), "log": (Log, "propose"), "links": (Log, "push")}[part]

    def fails(*_: object) -> None:
        raise ValueError(part)

    with monkeypatch.context() as patch, capture_logs() as logged:
        patch.setattr(owner, method, fails)
        given = proposer.submit(cancel(1))
        await turn()
    assert [(line["work"], bool(line["exc_info"])) for line in logged] == [("proposing", True)]
    assert lost == ["term"]
    proposer.revoke(NotLeader())
    with pytest.raises(OutcomeUnknown):
        await given
    proposer.submit(cancel(2))
    await turn()
    assert log.entries[-1].commands == [cancel(2)]
    assert lost == ["term"]
