"""Wall clocks of single nodes that can be set while they run.

The clock is false where a node reads it, in Python. libfaketime would be false for the libraries too, but
only in part: gRPC waits by futexes with absolute times, which it cannot see, so that a skew of a minute makes
every such wait a minute longer. No skewed machine does that. The monotonic clock is the kernel's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_HOOK: Final = Path(__file__).parent / "false_clock"


class Clocks:
    """One file per node says how far its clock is off."""

    def __init__(self, directory: Path, nodes: list[str]) -> None:
        self._files = {node: directory.resolve() / f"{node}.clock" for node in nodes}

    def start(self) -> None:
        """All clocks are right."""
        for node, file in self._files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            self.set(node, 0.0)

    def set(self, node: str, offset_s: float) -> None:
        """Set the node's clock so far ahead of this machine's, or behind it."""
        scratch = self._files[node].with_suffix(".new")
        scratch.write_text(f"{offset_s:f}\n")
        scratch.replace(self._files[node])

    def environment(self, node: str) -> dict[str, str]:
        """What makes a process go by the node's clock."""
        path = [str(_HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(path), "QUORUMFLOW_CLOCK_FILE": str(self._files[node])}
