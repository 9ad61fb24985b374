"""Readers of plain values: each takes a value and its place in the document, and returns what it stands for.

All of them raise UnreadableWorkflow, which names the place ("tasks[3].retry.attempts"), what is there and
what is wanted. Tables of readers describe objects: key -> (name of the attribute, reader).
"""

from __future__ import annotations

import calendar
import difflib
import json
import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Final, TypeVar

from coordinator.errors import UnreadableWorkflow

T = TypeVar("T")
E = TypeVar("E", bound=IntEnum)
Reader = Callable[[object, str], T]
Table = Mapping[str, tuple[str, Reader[Any]]]

_SHOWN: Final = 60
"""Characters of a wrong value that a message shows."""

_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)")
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_MOMENT: Final = re.compile(
    r"([1-9][0-9]{3})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?"
    r"(?:Z|([+-][0-9]{2}):?([0-9]{2}))"
)
_BYTES: Final = {"B": 1} | {
    prefix + unit: base**power
    for unit, base, prefixes in (("B", 1_000, "kMGT"), ("iB", 1_024, "KMGT"))
    for power, prefix in enumerate(prefixes, 1)
}


def unreadable(place: str, complaint: str) -> UnreadableWorkflow:
    """The error for what is wrong at a place; "" is the document as a whole."""
    return UnreadableWorkflow(f"{place}: {complaint}" if place else complaint, place=place)


def wrong(place: str, wanted: str, value: object) -> UnreadableWorkflow:
    """The error for a value that is not what is wanted there."""
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
    return unreadable(place, f"must be {wanted}, and is {shown}")


def fields(value: object, place: str, table: Table, *, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The attributes that an object's keys stand for, those alone that it has. A key that is not in the table
    is refused, with the keys that may have been meant."""
    if isinstance(value, dict):
        for key in value:
            if key not in table:
                matches = difflib.get_close_matches(key, table)
                hint = f"did you mean {' or '.join(matches)}?" if matches else f"known are {', '.join(table)}"
                raise unreadable(_under(place, key), f"there is no such key; {hint}")
    return known_fields(value, place, table, required=required)


def known_fields(
    value: object, place: str, table: Table, *, required: tuple[str, ...] = ()
) -> dict[str, Any]:
    """As `fields`; further keys are passed over."""
    if not isinstance(value, dict):
        raise wrong(place, "an object with keys", value)
    for key in required:
        if key not in value:
            raise unreadable(place, f"the key {key!r} is missing")
    return {
        attribute: read(value[key], _under(place, key))
        for key, (attribute, read) in table.items()
        if key in value
    }


def list_of(read: Reader[T]) -> Reader[tuple[T, ...]]:
    """A list whose every item `read` understands."""

    def read_list(value: object, place: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise wrong(place, "a list", value)
        return tuple([read(item, f"{place}[{at}]") for at, item in enumerate(value)])

    return read_list


def pairs_of(read: Reader[T]) -> Reader[tuple[tuple[str, T], ...]]:
    """An object with names of the user's choice, as pairs sorted by name."""

    def read_pairs(value: object, place: str) -> tuple[tuple[str, T], ...]:
        if not isinstance(value, dict):
            raise wrong(place, "an object", value)
        return tuple((text(name, place), read(value[name], _under(place, name))) for name in sorted(value))

    return read_pairs


def choice(kind: type[E]) -> Reader[E]:
    """One of an enumeration's names, in lower case and with "-" for "_"."""
    names = {member.name.lower().replace("_", "-"): member for member in kind}

    def read_choice(value: object, place: str) -> E:
        if not isinstance(value, str) or value not in names:
            raise wrong(place, f"one of {', '.join(names)}", value)
        return names[value]

    return read_choice


def as_is(value: object, place: str) -> object:
    """Anything: what it means is found out later."""
    return value


def text(value: object, place: str) -> str:
    """A text that UTF-8 can carry."""
    if not isinstance(value, str):
        raise wrong(place, "a text (in quotes, where it looks like something else)", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise unreadable(place, "has half of a surrogate pair, which is no character") from None
    return value


def boolean(value: object, place: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise wrong(place, "true or false", value)
    return value


def count(value: object, place: str) -> int:
    """A whole number of zero or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise wrong(place, "a whole number of 0 or more", value)
    return value


def amount(value: object, place: str) -> float:
    """A finite number of zero or more."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        raise wrong(place, "a number from 0 to 1e15", value)
    return value


def json_bytes(value: object, place: str) -> bytes:
    """Any value, as JSON without spaces, in UTF-8."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise unreadable(place, f"cannot be written as JSON: {error}") from None


def duration_ms(value: object, place: str) -> int:
    """A number of seconds, or a text with a unit: "200ms", "1.5s", "2m", "1h", "1d". Above zero it is at
    least 1 ms."""
    seconds = _quantity(value, place, _SECONDS, 'a duration such as "1.5s", or a number of seconds')
    return max(1, round(seconds * 1_000)) if seconds else 0


def size_bytes(value: object, place: str) -> int:
    """A number of bytes, or a text with a unit: "64MiB", "1.5GB"."""
    return round(_quantity(value, place, _BYTES, 'a size such as "2GiB", or a number of bytes'))


def rate_bytes(value: object, place: str) -> int:
    """A size per second: "10MB/s", or a number of bytes."""
    if isinstance(value, str) and not value.endswith("/s"):
        raise wrong(place, 'a rate such as "10MB/s", or a number of bytes per second', value)
    return size_bytes(value.removesuffix("/s") if isinstance(value, str) else value, place)


def moment_ms(value: object, place: str) -> int:
    """A time with its zone, "2026-01-31T12:00:00Z" or "2026-01-31 13:00+01:00", as Unix ms."""
    match = _MOMENT.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        year, month, day, hour, minute, second = (int(match[part] or 0) for part in range(1, 7))
        ahead_h, ahead_m = int(match[8] or 0), int(f"{(match[8] or '')[:1]}{match[9] or 0}")
        exists = 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]
        if exists and max(hour, abs(ahead_h)) < 24 and max(minute, second, abs(ahead_m)) < 60:
            seconds = calendar.timegm((year, month, day, hour - ahead_h, minute - ahead_m, second))
            return seconds * 1_000 + int((match[7] or "").ljust(3, "0")[:3])
    raise wrong(place, 'a time with its zone such as "2026-01-31T12:00:00Z"', value)


def _quantity(value: object, place: str, units: Mapping[str, float], wanted: str) -> float:
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value.strip())
        if match is None or match[2] not in units:
            raise wrong(place, f"{wanted} (units: {', '.join(units)})", value)
        return amount(float(match[1]) * units[match[2]], place)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(place, wanted, value)
    return amount(value, place)


def _under(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key
