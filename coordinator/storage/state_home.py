"""Where a node keeps its states: folders, of which one is the present state."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from coordinator.errors import StartFailed, StateCorrupt, StorageFault
from coordinator.storage.engine import Engine, RocksEngine

_POINTER: Final = "CURRENT"


class StateHome(Protocol):
    """A snapshot is received into a folder beside the present one, which is then made the present one."""

    name: str
    """What the home is called in messages."""

    def current(self) -> str | None:
        """The folder of the present state; None in a new home."""

    def make_current(self, folder: str) -> None:
        """From now on, and after every crash, `folder` holds the present state. Raises StorageFault."""

    def open(self, folder: str, families: Sequence[str]) -> Engine:
        """The engine in a folder, which is made if need be. Raises StartFailed, StateCorrupt."""

    def folders(self) -> list[str]:
        """All that there are."""

    def remove(self, folder: str) -> None:
        """Delete a folder, if it is there; its engine is closed."""


class FolderHome:
    """A StateHome on the file system: each state is a RocksDB database below `root`, and the file CURRENT
    names the present one."""

    def __init__(self, root: Path) -> None:
        """Raises StartFailed if the folder cannot be made."""
        self.name = str(root)
        self._root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(root, error) from error

    def current(self) -> str | None:
        pointer = self._root / _POINTER
        try:
            return pointer.read_text().strip() if pointer.exists() else None
        except OSError as error:
            raise _unusable(self._root, error) from error

    def make_current(self, folder: str) -> None:
        fresh = self._root / f"{_POINTER}.new"
        try:
            with fresh.open("w") as file:
                file.write(folder)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._root / _POINTER)
            sync_folder(self._root)
        except OSError as error:
            raise StorageFault(
                f"cannot name {folder} the state in {self._root}: {error.strerror}; free space on the disk",
                path=self._root,
            ) from error

    def open(self, folder: str, families: Sequence[str]) -> Engine:
        return RocksEngine(self._root / folder, families, damage=StateCorrupt, replayed=True)

    def folders(self) -> list[str]:
        return sorted(path.name for path in self._root.iterdir() if path.is_dir())

    def remove(self, folder: str) -> None:
        shutil.rmtree(self._root / folder, ignore_errors=True)


def _unusable(root: Path, error: OSError) -> StartFailed:
    return StartFailed(f"cannot use the folder {root}: {error.strerror}; choose another data_dir", path=root)


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
