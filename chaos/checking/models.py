"""What the objects of the linearizability checks do: a register with versions, as a key of the key-value
space is one, and a queue.

Their operations, with arguments, and what they give:

    put(value, expect)   the new version, or STALE and the present one; `expect` may be None get()
    (value, version), or None delete(expect)       whether there was something, or STALE and the present
    version; `expect` may be None

    enqueue(value)       the version of the queue that this made
    dequeue()            the value, or None if there is none, and the version made by that, or found empty

The version of what is not there is 0. Versions of a key grow, across its deletions too. A queue that has
none gives None in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from chaos.checking.history import Operation, Outcome, Value

STALE: Final = "stale"
"""Marks the answer to an operation that was refused for the version it expected: (STALE, present version)."""


UNREAD: Final = "(a value that nobody read)"
"""Stands for every such value of unknown writes."""


class Register(NamedTuple):
    """The state of a register; `value` is None where nothing is. With `exact`, `version` is its version.
    Else it is above `version`: an operation took effect whose answer nobody heard, or nothing is there,
    and what comes next has a higher one."""

    value: Value
    version: int
    exact: bool

    def __str__(self) -> str:
        return f"{self.value!r} at {'version' if self.exact else 'a version above'} {self.version}"


class RegisterModel:
    """A key of the key-value space: put, get and delete, each of the writes also as compare-and-set."""

    def initial(self) -> Register:
        """Nothing is there."""
        return Register(None, 0, exact=False)

    def step(self, state: Register, operation: Operation) -> Register | None:
        """See `linearizability.Model`."""
        match operation.name, operation.arguments:
            case "get", ():
                return _got(state, operation)
            case "put", (value, expect):
                return _expected(state, operation, expect, lambda found: _put(found, operation, value))
            case "delete", (expect,):
                return _expected(state, operation, expect, lambda found: _deleted(found, operation))
        raise ValueError(f"{operation} is no operation of a register")

    def rank(self, operation: Operation) -> int | None:
        """The version that was made or found."""
        match operation.result:
            case int(version) if operation.name == "put":
                return version
            case (_, int(version)) if version:
                return version
        return None

    def relevant(self, unknown: Sequence[Operation], known: Sequence[Operation]) -> Sequence[Operation]:
        """Only the writes. All values that nobody is known to have read are as good as one."""
        read = {operation.result[0] for operation in known if isinstance(operation.result, tuple)}
        return [
            _as_unread(operation)
            if operation.name == "put" and operation.arguments[0] not in read
            else operation
            for operation in unknown
            if operation.name != "get"
        ]


def _as_unread(put: Operation) -> Operation:
    return replace(put, arguments=(UNREAD, *put.arguments[1:]))


def _got(state: Register, operation: Operation) -> Register | None:
    if operation.outcome is Outcome.UNKNOWN:
        return state
    match operation.result:
        case None:
            return state if state.value is None else None
        case (value, int(version)) if value is not None and value == state.value:
            return _at(state, version)
    return None


def _expected(
    state: Register,
    operation: Operation,
    expect: Value,
    effect: Callable[[Register], Register | None],
) -> Register | None:
    """What a write does that is refused unless the version is `expect`."""
    if not isinstance(expect, int):
        return effect(state)
    match operation.result:
        case (str(mark), int(present)) if mark == STALE:
            return _at(state, present) if present != expect else None
    found = _at(state, expect)
    return None if found is None else effect(found)


def _put(state: Register, operation: Operation, value: Value) -> Register | None:
    if operation.outcome is Outcome.UNKNOWN:
        return Register(value, state.version, exact=False)
    match operation.result:
        case int(version) if version > state.version:
            return Register(value, version, exact=True)
    return None


def _deleted(state: Register, operation: Operation) -> Register | None:
    there = state.value is not None
    if operation.outcome is Outcome.OK and operation.result is not there:
        return None
    return Register(None, state.version, exact=False)


def _at(state: Register, version: int) -> Register | None:
    """The state, once its version was seen; None if it cannot have this one."""
    if state.value is None:
        return state if version == 0 else None
    if state.exact:
        return state if version == state.version else None
    return Register(state.value, version, exact=True) if version > state.version else None


class Queue(NamedTuple):
    """The state of a queue. `version` is the newest that is known; the true one may be higher."""

    values: tuple[Value, ...]
    version: int

    def __str__(self) -> str:
        return f"{list(self.values)} at version {self.version} or above"


class QueueModel:
    """A queue that gives first what came first."""

    def initial(self) -> Queue:
        """Nothing is in it."""
        return Queue((), 0)

    def step(self, state: Queue, operation: Operation) -> Queue | None:
        """See `linearizability.Model`."""
        version = self.rank(operation)
        match operation.name, operation.arguments:
            case "enqueue", (value,):
                return _moved(state, (*state.values, value), version)
            case "dequeue", ():
                return _dequeued(state, operation, version)
        raise ValueError(f"{operation} is no operation of a queue")

    def rank(self, operation: Operation) -> int | None:
        """The version that was made or found."""
        match operation.result:
            case int(version) | (_, int(version)):
                return version
        return None

    def relevant(self, unknown: Sequence[Operation], known: Sequence[Operation]) -> Sequence[Operation]:
        """All but those that put in what nobody is known to have taken out."""
        taken = {operation.result[0] for operation in known if isinstance(operation.result, tuple)}
        return [
            operation
            for operation in unknown
            if operation.name == "dequeue" or operation.arguments[0] in taken
        ]


def _dequeued(state: Queue, operation: Operation, version: int | None) -> Queue | None:
    first = state.values[0] if state.values else None
    match operation.result:
        case (value, _) if value != first:
            return None
    if first is None:
        return state if version is None or version == state.version else _moved(state, (), version)
    return _moved(state, state.values[1:], version)


def _moved(state: Queue, values: tuple[Value, ...], version: int | None) -> Queue | None:
    if version is not None and version <= state.version:
        return None
    return Queue(values, state.version if version is None else version)
