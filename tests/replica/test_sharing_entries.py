"""Clients that come back share an entry (decision 33; principle 7)."""

from __future__ import annotations

import pytest

from coordinator.core.outcome import Done
from coordinator.defects import Defects
from coordinator.errors import NotLeader, OutcomeUnknown
from coordinator.replica.callers import Callers
from coordinator.replica.proposer import Proposer
from tests.replica.test_proposer import (
    GATHER_S,
    Clock,
    Log,
    Worth,
    cancel,
    expecting,
    make,
    no_defect,
    turn,
)


class Dense(Worth):
    """Commands come closely, and what comes is worth the longest wait."""

    @property
    def wait_s(self) -> float:
        return self._most_s


def crowded(log: Log, worth_s: float) -> Proposer:
    """A proposer to which clients come closely."""
    proposer = make(log)
    proposer._gathering = Dense(worth_s)
    return proposer


async def test_a_client_by_itself_never_waits_for_others() -> None:
    log = Log()
    proposer = crowded(log, worth_s=60.0)
    for number in range(3):
        proposer.submit(cancel(number), asked=True)
        await turn()
        proposer.applied(len(log.entries) + 1, 7, [Done()])
    assert [len(entry.commands) for entry in log.entries] == [1, 1, 1]


async def test_clients_share_an_entry_once_all_who_are_likely_to_come_back_have() -> None:
    log = Log()
    proposer = crowded(log, worth_s=60.0)
    proposer.submit(cancel(1), asked=True)
    await turn()
    proposer.submit(cancel(2), asked=True)
    await turn()
    assert len(log.entries) == 1, "the first one's client has no answer yet"
    proposer.applied(2, 7, [Done()])
    await turn()
    assert len(log.entries) == 1, "and is likely to come back now that it has"
    proposer.submit(cancel(3), asked=True)
    await turn()
    assert [[one.dag_id for one in entry.commands] for entry in log.entries[1:]] == [["dag-2", "dag-3"]]


async def test_a_client_that_does_not_come_back_is_waited_for_twice() -> None:
    log = Log()
    proposer = crowded(log, worth_s=60.0)
    for number in (1, 2):
        proposer.submit(cancel(number), asked=True)
    await turn()
    proposer.applied(2, 7, [Done(), Done()])
    for number in (3, 4):
        proposer.submit(cancel(number), asked=True)
        await turn()
        assert len(log.entries) == number - 2
        proposer._waited()
        proposer.applied(len(log.entries) + 1, 7, [Done()])
    proposer.submit(cancel(5), asked=True)
    await turn()
    assert [len(entry.commands) for entry in log.entries] == [2, 1, 1, 1]


async def test_clients_are_waited_for_no_longer_than_it_is_worth() -> None:
    log = Log()
    proposer = crowded(log, worth_s=0.001)
    proposer.submit(cancel(1), asked=True)
    await turn()
    proposer.submit(cancel(2), asked=True)
    await log.has_taken(2)


async def test_who_has_lost_the_lead_expects_nobody() -> None:
    log = Log()
    proposer = crowded(log, worth_s=60.0)
    for number in (1, 2):
        lost = proposer.submit(cancel(number), asked=True)
        await turn()
        assert len(log.entries) == number
        proposer.revoke(NotLeader("n2", "host:1"))
        with pytest.raises(OutcomeUnknown):
            await lost


async def test_clients_that_come_now_and_then_do_not_wait_for_each_other() -> None:
    log = Log()
    proposer = expecting(log, set(), worth_s=60.0)
    for number in range(2):
        proposer.submit(cancel(number), asked=True)
        await turn()
    assert len(log.entries) == 2


async def test_clients_are_as_dense_as_an_exact_clock_says() -> None:
    log, now = Log(), [0.0]
    proposer = Proposer(
        log,
        Clock(),
        Defects().within(no_defect),
        max_commands=100,
        max_bytes=1 << 20,
        max_entry_bytes=1 << 20,
        gather_s=GATHER_S,
        now=lambda: now[0],
    )
    proposer._gathering = Worth(60.0)
    for number in range(64):
        proposer.submit(cancel(number), asked=True)
        await turn()
        now[0] += 0.001
        proposer.applied(len(log.entries) + 1, 7, [Done()])
        if number % 2:
            now[0] += 0.0001
    assert len(log.entries) == 64, "each has come when the one before was answered"
    for number in range(64):
        proposer.submit(cancel(number), asked=True)
    await turn()
    now[0] += 0.001
    proposer.applied(66, 7, [Done()] * 64)
    proposer.submit(cancel(1), asked=True)
    await turn()
    assert len(log.entries) == 65, "and one of many waits for the others"


async def test_what_the_leader_asks_for_itself_waits_for_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Callers, "are_dense", True)
    log = Log()
    proposer = expecting(log, set(), worth_s=60.0)
    proposer.submit(cancel(1), asked=True)
    await turn()
    proposer.submit(cancel(2))
    await turn()
    assert len(log.entries) == 2
