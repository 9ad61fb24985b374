"""Disks that can be filled without harm to anybody else's: a small tmpfs for each node where root can mount
one, else a limit on the size of the files that the process may write.

The two differ in the error that the node meets (ENOSPC, EFBIG); neither has room for another byte.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from coordinator.errors import StartFailed

_SIZE_MB: Final = 512
SETTINGS: Final = {"limits.min_free_bytes": str(32 << 20)}
"""Of nodes on such disks, which are smaller than the free space that they ask for by default."""
_FILLER: Final = "filler"
_CHUNK: Final = bytes(1 << 20)


class Disks(Protocol):
    """One disk per node. `folders` are the nodes' data folders, by id."""

    def start(self, folders: Mapping[str, Path]) -> None:
        """Prepare them. Raises StartFailed."""

    def fill(self, node: str, pid: int) -> None:
        """Leave no room to the node, which runs as this process."""

    def clear(self, node: str, pid: int | None) -> None:
        """Give the room back; `pid` is None if the process has ended."""

    def close(self) -> None:
        """Remove what was prepared."""


def disks() -> Disks:
    """The best that this machine allows."""
    return SmallDisks() if os.geteuid() == 0 and shutil.which("mount") else FileLimits()


class SmallDisks:
    """A tmpfs per node."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}

    def start(self, folders: Mapping[str, Path]) -> None:
        """See `Disks`."""
        for node, folder in folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            _run("mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "tmpfs", str(folder))
            self._folders[node] = folder

    def fill(self, node: str, pid: int) -> None:
        """See `Disks`."""
        with contextlib.suppress(OSError), (self._folders[node] / _FILLER).open("ab", buffering=0) as filler:
            while filler.write(_CHUNK):
                pass

    def clear(self, node: str, pid: int | None) -> None:
        """See `Disks`."""
        (self._folders[node] / _FILLER).unlink(missing_ok=True)

    def close(self) -> None:
        """See `Disks`."""
        for folder in self._folders.values():
            with contextlib.suppress(StartFailed):
                _run("umount", str(folder))


class FileLimits:
    """RLIMIT_FSIZE of the running process."""

    def start(self, folders: Mapping[str, Path]) -> None:
        """See `Disks`."""

    def fill(self, node: str, pid: int) -> None:
        """See `Disks`. Python ignores SIGXFSZ, so that a write fails with EFBIG."""
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))

    def clear(self, node: str, pid: int | None) -> None:
        """See `Disks`."""
        if pid is not None:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    def close(self) -> None:
        """See `Disks`."""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode != 0:
        raise StartFailed(f"`{' '.join(command)}` failed: {done.stderr.strip()}", command=list(command))
