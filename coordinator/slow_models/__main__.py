"""Answer questions from the standard input until it ends."""

from __future__ import annotations

import os
import sys
from typing import BinaryIO, Final

import msgspec

from coordinator.slow_models.frames import Question
from coordinator.slow_models.models import Answering

_NICE: Final = 10
"""The node beside it comes first."""


def main() -> None:
    """Until the node that asks is gone."""
    os.nice(_NICE)
    # Libraries print what they like, and must not do so in between.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answering = Answering()
    while (frame := _read(sys.stdin.buffer)) is not None:
        answer = msgspec.msgpack.encode(answering.answer(msgspec.msgpack.decode(frame, type=Question)))
        answers.write(len(answer).to_bytes(4, "big") + answer)
        answers.flush()


def _read(source: BinaryIO) -> bytes | None:
    prefix = source.read(4)
    return source.read(int.from_bytes(prefix, "big")) if len(prefix) == 4 else None


if __name__ == "__main__":
    main()
