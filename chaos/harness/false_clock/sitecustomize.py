"""Python imports this at its start from a folder in `PYTHONPATH`: the wall clock of the process is then off
by as many seconds as the file in `QUORUMFLOW_CLOCK_FILE` says, now."""

from __future__ import annotations

import os
import time
from pathlib import Path

_REREAD_S = 0.02

_file = Path(os.environ["QUORUMFLOW_CLOCK_FILE"])
_true_time_ns = time.time_ns
_read_at = float("-inf")
_offset_ns = 0


def _false_time_ns() -> int:
    global _read_at, _offset_ns  # noqa: PLW0603 - a process has one wall clock
    if time.monotonic() - _read_at > _REREAD_S:
        _read_at = time.monotonic()
        _offset_ns = int(float(_file.read_text()) * 1e9)
    return _true_time_ns() + _offset_ns


time.time_ns = _false_time_ns
time.time = lambda: _false_time_ns() / 1e9
