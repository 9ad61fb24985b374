"""Clocks of single nodes that can be set while they run, by libfaketime
(https://github.com/wolfcw/libfaketime).

Only the wall clock is false: the monotonic clock, on which time-outs stand, is the kernel's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_LIBRARIES: Final = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)
_REREAD_S: Final = 1
"""How soon a process sees that its clock was set."""


class Clocks:
    """One file per node says how far its clock is off."""

    def __init__(self, directory: Path, nodes: list[str]) -> None:
        self._files = {node: directory / f"{node}.clock" for node in nodes}

    @staticmethod
    def missing() -> str:
        """What this machine lacks for it; empty if nothing."""
        return "" if _library() else "libfaketime is not installed (Debian: apt-get install libfaketime)"

    def start(self) -> None:
        """All clocks are right."""
        for node, file in self._files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            self.set(node, 0.0)

    def set(self, node: str, offset_s: float) -> None:
        """Set the node's clock so far ahead of this machine's, or behind it."""
        scratch = self._files[node].with_suffix(".new")
        scratch.write_text(f"{offset_s:+f}\n")
        scratch.replace(self._files[node])

    def environment(self, node: str) -> dict[str, str]:
        """What makes a process go by the node's clock."""
        return {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._files[node]),
            "FAKETIME_CACHE_DURATION": str(_REREAD_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


def _library() -> str:
    found = (str(path) for pattern in _LIBRARIES for path in sorted(Path("/").glob(pattern[1:])))
    return next(found, "")
