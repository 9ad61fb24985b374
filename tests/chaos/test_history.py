"""Histories: what clients note becomes operations, from memory and from the files of clients that were killed
(A1)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from chaos.checking.history import (
    Event,
    History,
    Operation,
    Outcome,
    merged,
    operations,
    read_files,
    to_file,
)


def clock(*times: float):
    return iter(times).__next__


def work(history: History) -> None:
    """One operation of each outcome, and one that is never heard of."""
    history.invoke("c1", "put", "x", "a", None).ok(7)
    history.invoke("c1", "get", "x").fail()
    history.invoke("c1", "dequeue", "q").unknown(("b", None))
    history.invoke("c1", "delete", "x", 7)


WORKED = [
    Operation("c1", "put", "x", ("a", None), 1, 2, Outcome.OK, 7),
    Operation("c1", "get", "x", (), 3, 4, Outcome.FAIL),
    Operation("c1", "dequeue", "q", (), 5, math.inf, Outcome.UNKNOWN, ("b", None)),
    Operation("c1", "delete", "x", (7,), 7, math.inf, Outcome.UNKNOWN),
]


def test_events_become_operations() -> None:
    events: list[Event] = []
    work(History(clock(1, 2, 3, 4, 5, 6, 7), events.append))
    assert operations(events) == WORKED


def test_a_file_gives_back_what_was_noted(tmp_path: Path) -> None:
    with (tmp_path / "c1").open("w") as file:
        work(History(clock(1, 2, 3, 4, 5, 6, 7), to_file(file)))
        # A client that is killed closes nothing.
        assert read_files([tmp_path / "c1"]) == WORKED


def test_the_torn_end_of_a_killed_clients_file_is_an_answer_never_heard(tmp_path: Path) -> None:
    with (tmp_path / "c1").open("w") as file:
        History(clock(1, 2), to_file(file)).invoke("c1", "put", "x", "a", None).ok(7)
    whole = (tmp_path / "c1").read_text()
    (tmp_path / "c1").write_text(whole[:-4])
    [operation] = read_files([tmp_path / "c1"])
    assert operation.outcome is Outcome.UNKNOWN


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    (tmp_path / "c1").write_text('[1, 2.0, "ok"]\n[')
    with pytest.raises(ValueError, match="c1:1 is not an event of a history"):
        read_files([tmp_path / "c1"])


def test_files_of_several_clients_are_one_history(tmp_path: Path) -> None:
    for name, times in (("c1", (1, 5)), ("c2", (2, 3))):
        with (tmp_path / name).open("w") as file:
            History(clock(*times), to_file(file)).invoke(name, "get", "x").ok()
    found = read_files(tmp_path / name for name in ("c2", "c1"))
    assert [(operation.process, operation.invoked) for operation in found] == [("c1", 1), ("c2", 2)]
    assert merged([found[1:], found[:1]]) == found


def test_events_at_the_same_time_keep_their_order() -> None:
    events: list[Event] = []
    history = History(lambda: 1.0, events.append)
    history.invoke("c1", "get", "x").ok()
    history.invoke("c2", "get", "x").ok()
    first, second = operations(events)
    assert first.invoked < first.completed < second.invoked < second.completed
