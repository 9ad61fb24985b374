"""What a node and the process of its slow models say to each other: a length of four bytes, then msgpack."""

from __future__ import annotations

from typing import Final

import msgspec

MAX_FRAME_BYTES: Final = 64 << 20
"""One question or answer."""


class Question(msgspec.Struct, array_like=True):
    """How will these go on? `past` is float64, `steps` rows of `series` columns, oldest first."""

    model: str
    season: int
    ahead: int
    steps: int
    series: int
    past: bytes


class Answer(msgspec.Struct, array_like=True):
    """`paths` is float64, `ahead` rows of `series` columns; or why there is none."""

    paths: bytes = b""
    error: str = ""
