"""Histories: what clients asked, when, and what came of it.

A client notes each operation when it sends it and again when it hears of it. What it never hears of, or
hears of with an error that leaves the outcome open, is *unknown*: it may take effect at any later time, or
never. The form and the three outcomes are those of Jepsen (https://jepsen.io, "Elle" and "Knossos").
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

Value = str | int | bool | None | tuple["Value", ...]
"""What operations take and give: what JSON can hold, lists as tuples."""


class Outcome(StrEnum):
    """OK: it took effect, once, between its two times. FAIL: it never will. UNKNOWN: one or the other."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation:
    """What one client asked of one key. Times are seconds of one clock that all clients share; `completed` is
    infinite where the outcome is unknown. `result` of an unknown operation is what it gives if it takes
    effect, where the client knows that."""

    process: str
    name: str
    key: str
    arguments: tuple[Value, ...]
    invoked: float
    completed: float = math.inf
    outcome: Outcome = Outcome.UNKNOWN
    result: Value = None

    def __str__(self) -> str:
        asked = f"{self.name}({', '.join(repr(argument) for argument in self.arguments)})"
        until = "never heard of" if math.isinf(self.completed) else f"{self.completed:.6f}"
        answer = f" {self.result!r}" if self.outcome is Outcome.OK else ""
        return f"[{self.invoked:.6f} .. {until}] {self.process}: {self.key}.{asked} -> {self.outcome}{answer}"


class Invoked(NamedTuple):
    """An operation was sent. `number` tells the operations of one history apart."""

    number: int
    at: float
    process: str
    name: str
    key: str
    arguments: tuple[Value, ...]


class Completed(NamedTuple):
    """What the client heard of operation `number`."""

    number: int
    at: float
    outcome: Outcome
    result: Value


Event = Invoked | Completed


class History:
    """Notes operations as they happen. `now` gives seconds; `keep` takes each event before the client goes
    on.

    Events of one history have times of their own, in the order in which they were noted, even where the clock
    stands still: one history for all clients of a simulator is a total order.
    """

    def __init__(self, now: Callable[[], float], keep: Callable[[Event], None]) -> None:
        self._now = now
        self._keep = keep
        self._last = -math.inf
        self._numbers = 0

    def invoke(self, process: str, name: str, key: str, *arguments: Value) -> Pending:
        """An operation is about to be sent."""
        self._numbers += 1
        self._keep(Invoked(self._numbers, self._time(), process, name, key, arguments))
        return Pending(self, self._numbers)

    def complete(self, number: int, outcome: Outcome, result: Value) -> None:
        """An operation has been heard of; see `Pending`."""
        self._keep(Completed(number, self._time(), outcome, result))

    def _time(self) -> float:
        self._last = max(self._now(), math.nextafter(self._last, math.inf))
        return self._last


class Pending(NamedTuple):
    """An operation that has been sent; exactly one of its methods is to be called, or none if the client
    dies."""

    history: History
    number: int

    def ok(self, result: Value = None) -> None:
        """It took effect and gave this."""
        self.history.complete(self.number, Outcome.OK, result)

    def fail(self) -> None:
        """It certainly had no effect, and will have none."""
        self.history.complete(self.number, Outcome.FAIL, None)

    def unknown(self, result: Value = None) -> None:
        """It may take effect at any later time, or never; `result` is what it then gives, if known."""
        self.history.complete(self.number, Outcome.UNKNOWN, result)


def operations(events: Iterable[Event]) -> list[Operation]:
    """The operations of one history, in the order in which they were sent."""
    found: dict[int, Operation] = {}
    for event in events:
        if isinstance(event, Invoked):
            found[event.number] = Operation(
                event.process, event.name, event.key, event.arguments, invoked=event.at
            )
        else:
            heard = math.inf if event.outcome is Outcome.UNKNOWN else event.at
            found[event.number] = replace(
                found[event.number], completed=heard, outcome=event.outcome, result=event.result
            )
    return list(found.values())


def merged(histories: Iterable[Iterable[Operation]]) -> list[Operation]:
    """Operations of several histories, that share one clock, in the order in which they were sent."""
    return sorted(chain.from_iterable(histories), key=lambda operation: operation.invoked)


# --- as files: one a client, one event a line ---------------------------------------------------------------


def to_file(file: TextIO) -> Callable[[Event], None]:
    """What keeps the events of a `History` as JSON lines in `file`, each handed to the operating system
    before the client goes on: a client that is killed leaves an operation whose outcome is unknown."""

    def keep(event: Event) -> None:
        file.write(json.dumps(event) + "\n")
        file.flush()

    return keep


def read_files(files: Iterable[Path]) -> list[Operation]:
    """The operations in the files of several clients.

    Raises:
        ValueError: a line other than a file's last, which a killed client may have left torn, is unreadable.
    """
    return merged(operations(_events(file)) for file in files)


def _events(file: Path) -> Iterator[Event]:
    whole = file.read_text(encoding="utf-8").split("\n")[:-1]
    for number, line in enumerate(whole, start=1):
        try:
            yield _event(json.loads(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file}:{number} is not an event of a history: {error}") from error


def _event(fields: list[Any]) -> Event:
    values = [_value(field) for field in fields]
    if len(values) == len(Completed._fields):
        number, at, outcome, result = values
        return Completed(number, at, Outcome(outcome), result)
    return Invoked(*values)


def _value(read: Any) -> Any:
    return tuple(_value(part) for part in read) if isinstance(read, list) else read
