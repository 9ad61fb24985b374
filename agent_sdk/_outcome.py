"""From what a handler returned or raised to the end that is reported."""

from __future__ import annotations

import asyncio
import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent_sdk._encode import to_bytes
from agent_sdk.errors import InvalidRequest, PermanentError, ResultTooLarge, TaskCancelled
from quorumflow_proto.v1 import agent_pb2, common_pb2

ERROR_CHARS: Final = 2_000
"""Longest error text that is reported; the coordinator keeps no more."""
FRAMES: Final = 4
"""Frames of the handler's own code that an error text names, the innermost ones."""

_SDK_FOLDER: Final = str(Path(__file__).parent) + os.sep


@dataclass(frozen=True, slots=True)
class Reference:
    """A result that the handler has stored elsewhere: an address such as "s3://bucket/key"."""

    address: str


def of_value(value: Any, max_bytes: int) -> agent_pb2.Ended:
    """COMPLETED with the value as result; FAILED if it cannot be one. `max_bytes` bounds an inline result."""
    if isinstance(value, Reference):
        return agent_pb2.Ended(outcome=common_pb2.ATTEMPT_OUTCOME_COMPLETED, reference=value.address)
    try:
        result = to_bytes(value, "result")
        check_size("result", len(result), max_bytes)
    except InvalidRequest as error:
        return of_error(error, stop_reason="")
    return agent_pb2.Ended(outcome=common_pb2.ATTEMPT_OUTCOME_COMPLETED, result=result)


def check_size(what: str, size: int, max_bytes: int) -> None:
    """Raises ResultTooLarge when a result or checkpoint of `size` bytes is above the limit."""
    if size > max_bytes:
        raise ResultTooLarge(
            f"the {what} has {size} bytes, the limit max_result_bytes is {max_bytes}: "
            f"store it elsewhere and hand over its address, as a result by returning Reference(address)",
            fields={"limit": str(max_bytes), "setting": "max_result_bytes", "value": str(size)},
        )


def of_error(error: BaseException, stop_reason: str) -> agent_pb2.Ended:
    """CANCELLED if the attempt had been stopped, for `stop_reason`; FAILED otherwise, worth a retry unless
    the error says that the same would happen again."""
    if stop_reason:
        return cancelled(stop_reason)
    return agent_pb2.Ended(
        outcome=common_pb2.ATTEMPT_OUTCOME_FAILED,
        error=summary(error),
        retryable=not isinstance(error, PermanentError | InvalidRequest),
    )


def cancelled(reason: str) -> agent_pb2.Ended:
    """The attempt was stopped."""
    return agent_pb2.Ended(outcome=common_pb2.ATTEMPT_OUTCOME_CANCELLED, error=reason[:ERROR_CHARS])


def rejected(reason: str) -> agent_pb2.Ended:
    """The attempt was refused before it started; another agent may take it."""
    return agent_pb2.Ended(
        outcome=common_pb2.ATTEMPT_OUTCOME_REJECTED, error=reason[:ERROR_CHARS], retryable=True
    )


def summary(error: BaseException) -> str:
    """The error with the places in the handler's code that led to it, innermost first."""
    if isinstance(error, asyncio.CancelledError | TaskCancelled):
        text = f"{type(error).__name__}: the handler ended as cancelled, but nobody had stopped the attempt"
    else:
        text = "".join(traceback.format_exception_only(error)).strip()
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_SDK_FOLDER)
    ]
    places = "".join(
        f"\n  at {frame.filename}:{frame.lineno} in {frame.name}" for frame in reversed(frames[-FRAMES:])
    )
    return text[: ERROR_CHARS - len(places)] + places[:ERROR_CHARS]
