"""What an agent has yet to tell (F3, F4): that an attempt has begun is told late, once, or not at all."""

from __future__ import annotations

from agent_sdk._ledger import Attempt, Ledger, News
from quorumflow_proto.v1 import agent_pb2


class Book:
    """A ledger, and how often it has asked for `tell_begun`."""

    def __init__(self) -> None:
        self.asked = 0
        self.ledger = Ledger(on_news=lambda: None, on_begun=self._ask, on_ack=lambda: None)

    def _ask(self) -> None:
        self.asked += 1

    def start(self, key: int) -> Attempt:
        attempt = self.ledger.accept(agent_pb2.Assignment(fence=agent_pb2.Fence(key=key, attempt=1)))
        assert attempt is not None
        self.ledger.start(attempt)
        return attempt

    def told(self) -> list[tuple[int, str | None]]:
        message = self.ledger.take_reports()
        return [] if message is None else [(one.fence.key, one.WhichOneof("body")) for one in message.reports]


def test_what_runs_on_is_told_at_the_second_look_and_not_again() -> None:
    book = Book()
    book.start(1)
    book.ledger.tell_begun()
    book.start(2)
    assert book.told() == []
    book.ledger.tell_begun()
    assert book.told() == [(1, "started")]
    book.ledger.tell_begun()
    assert book.told() == [(2, "started")]
    assert book.asked == 3, "and nobody looks while there is nothing to tell"
    book.start(3)
    assert book.asked == 4


def test_of_what_ends_before_the_end_alone_is_told() -> None:
    book = Book()
    first, second = book.start(1), book.start(2)
    book.ledger.end(first, agent_pb2.Ended())
    book.ledger.tell_begun()
    book.ledger.end(second, agent_pb2.Ended())
    book.ledger.tell_begun()
    assert book.told() == [(1, "ended"), (2, "ended")]


def test_progress_says_that_it_has_begun_and_what_follows_does_not_say_it_again() -> None:
    book = Book()
    attempt = book.start(1)
    attempt.progress = agent_pb2.Progress(fraction=0.5)
    book.ledger.tell(attempt, News.PROGRESS)
    assert book.told() == [(1, "started"), (1, "progress")]
    book.ledger.tell_begun()
    attempt.checkpoint = b"half"
    book.ledger.tell(attempt, News.CHECKPOINT)
    book.ledger.tell_begun()
    assert book.told() == [(1, "checkpoint")]


def test_a_new_session_is_told_of_all_that_runs() -> None:
    book = Book()
    book.start(1)
    book.ledger.tell_everything()
    assert book.told() == [(1, "started")]
    book.ledger.tell_begun()
    book.ledger.tell_begun()
    assert book.told() == []
