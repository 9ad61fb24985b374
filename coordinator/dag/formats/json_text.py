"""JSON text to plain values: strict (no NaN, no name twice), errors with line and column."""

from __future__ import annotations

import json
from typing import Any

from coordinator.dag.formats.readers import unreadable


def read_json(text: str) -> object:
    """Raises UnreadableWorkflow."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise unreadable(f"line {error.lineno}, column {error.colno}", f"not JSON: {error.msg}") from None
    except RecursionError:
        raise unreadable("", "not readable: its values are nested too deeply") from None
    except ValueError as error:  # a number with thousands of digits
        raise unreadable("", f"not readable: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise unreadable(f"an object with {', '.join(names[:4])}", f"the name {twice!r} occurs twice in it")
    return result


def _refuse_constant(name: str) -> object:
    raise unreadable(f"the number {name}", "JSON has no such value")
