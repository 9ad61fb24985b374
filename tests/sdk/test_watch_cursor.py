"""A watch hands out every event once and in order, however its stream is cut and resumed (G1).

The server sends the log's events in replies of any size; a reply may end in the middle of a revision. Breaks
may fall between any two replies.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent_sdk._watch import Cursor
from quorumflow_proto.v1 import client_pb2

LOG = st.lists(st.integers(min_value=0, max_value=3), max_size=12)
"""Events per revision, from revision 1 on."""
CUTS = st.lists(st.tuples(st.integers(min_value=1, max_value=4), st.booleans()), max_size=60)
"""Per reply: how many events it carries, and whether the stream breaks after it."""


def event(revision: int, number: int) -> client_pb2.Event:
    return client_pb2.Event(revision=revision, at_ms=number)


def reply(log: list[client_pb2.Event], start: int, size: int) -> client_pb2.WatchReply:
    sent = log[start : start + size]
    rest = log[start + size :]
    complete = rest[0].revision - 1 if rest else sent[-1].revision
    return client_pb2.WatchReply(events=sent, revision=complete)


@given(LOG, CUTS, st.integers(min_value=1, max_value=12))
def test_no_gaps_and_no_repeats(per_revision: list[int], cuts: list[tuple[int, bool]], begin: int) -> None:
    log = [
        event(revision, number)
        for revision, count in enumerate(per_revision, start=1)
        for number in range(count)
    ]
    cursor = Cursor(begin)
    seen: list[client_pb2.Event] = []
    stream = [one for one in log if one.revision >= cursor.resume()]
    at = 0
    for size, breaks in [*cuts, *[(4, False)] * len(log)]:
        if at < len(stream):
            seen.extend(cursor.take(reply(stream, at, size)))
            at += size
        if breaks:
            stream = [one for one in log if one.revision >= cursor.resume()]
            at = 0
    assert seen == [one for one in log if one.revision >= begin]


def test_a_reply_without_events_moves_the_point_of_resumption() -> None:
    cursor = Cursor(5)
    assert cursor.resume() == 5
    assert cursor.take(client_pb2.WatchReply(revision=90)) == []
    assert cursor.resume() == 91
