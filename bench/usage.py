"""What processes cost while something runs: their CPU time and their peak of memory."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from bench.figures import MIB, Usage

LEADER: Final = "leader"
FOLLOWER: Final = "follower"
AGENTS: Final = "agents"
CLIENT: Final = "client"

_RESET_PEAK: Final = "5"
"""What `clear_refs` takes to forget the peak (Linux 4.0)."""


class Meter:
    """Begins when it is made. `pids` are the processes of each kind, all of which must outlive the meter."""

    def __init__(self, pids: Mapping[str, Sequence[int]]) -> None:
        self._processes = {kind: [psutil.Process(pid) for pid in of_kind] for kind, of_kind in pids.items()}
        for of_kind in self._processes.values():
            for process in of_kind:
                _forget_peak(process.pid)
        self._before = self._cpu_s()

    def read(self, work: int) -> Usage:
        """What was used since it began, for so many tasks or writes. Followers count as one of them, agents
        all together; the peak is that of a kind's largest process."""
        spent = {kind: after - self._before[kind] for kind, after in self._cpu_s().items()}
        if followers := len(self._processes.get(FOLLOWER, ())):
            spent[FOLLOWER] /= followers
        return Usage(
            {kind: seconds / work * 1e6 for kind, seconds in spent.items()},
            {
                kind: max(_peak_bytes(process) for process in of_kind) / MIB
                for kind, of_kind in self._processes.items()
            },
        )

    def _cpu_s(self) -> dict[str, float]:
        return {kind: sum(map(_cpu_s, of_kind)) for kind, of_kind in self._processes.items()}


def resident_bytes(pid: int) -> int:
    """The memory that a process has now."""
    return int(psutil.Process(pid).memory_info().rss)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _forget_peak(pid: int) -> None:
    """Where that cannot be, the peak is that since the process began."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)


def _peak_bytes(process: psutil.Process) -> int:
    """Where the system does not tell, what it has now."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return int(process.memory_info().rss)
