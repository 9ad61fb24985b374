"""A record of what really ran, for drills: what the coordinator says is checked against it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Literal

from agent_sdk._ledger import Attempt


class EffectsFile:
    """One JSON object at the start and at the end of every attempt, each on a line of its own, appended in
    one write: several agents may share a file. A kill may cut a write off at the end of a page of memory, so
    a line begins with its line break: the next one is not spoilt."""

    def __init__(self, path: str | Path, agent_id: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._agent_id = agent_id

    def write(self, event: Literal["start", "end"], attempt: Attempt) -> None:
        """Append one line. Raises OSError when the disk is full."""
        line = {
            "dag": attempt.assignment.dag_id,
            "task": attempt.assignment.task_id,
            "attempt": attempt.key[1],
            "agent": self._agent_id,
            "pid": os.getpid(),
            "event": event,
            "at_ms": time.time_ns() // 1_000_000,
        }
        os.write(self._descriptor, b"\n" + json.dumps(line, separators=(",", ":")).encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
