"""Ports that are free now, for processes which must know each other's before any of them is there."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Final

from coordinator.errors import StartFailed

_FIRST, _LAST = 15_000, 30_000
"""Below the range from which the system takes ports for outgoing connections."""
_TRIES: Final = 2_000


def free_ports(host: str, count: int) -> list[int]:
    """`count` distinct ports of `host` that nothing listens on. Raises StartFailed if there are too few."""
    candidates = random.sample(range(_FIRST, _LAST), _TRIES)
    found = [port for _, port in zip(range(count), _free(host, candidates), strict=False)]
    if len(found) < count:
        raise StartFailed(
            f"found {len(found)} free ports of {host} between {_FIRST} and {_LAST}, not {count}"
        )
    return found


def _free(host: str, candidates: list[int]) -> Iterator[int]:
    for port in candidates:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                continue
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            yield port
