"""A data folder from a backup: the state as it was, a log that begins behind it, and a new cluster that they
belong to.

Every node of the new cluster is restored from the same file, so that all begin at the same entry; whoever is
elected goes on from there.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import BinaryIO, Final

from coordinator.config import NodeConfig
from coordinator.consensus import journal
from coordinator.consensus.identity import claim
from coordinator.consensus.journal import Journal, Position
from coordinator.core.position import SnapshotMeta
from coordinator.errors import ConfigError, StartFailed, UnreadableBackup, WrongState
from coordinator.storage.backup import Header, Summary, unpack, verify
from coordinator.storage.engine import RocksEngine
from coordinator.storage.layout import FAMILIES
from coordinator.storage.state_home import FolderHome, sync_folder
from coordinator.storage.state_store import StoredState

_SCRATCH_SUFFIX: Final = ".restoring"
_FOLDER: Final = "state-1"


def open_backup(path: Path) -> BinaryIO:
    """The file, for reading. Raises UnreadableBackup."""
    try:
        return path.open("rb")
    except OSError as error:
        raise UnreadableBackup(f"cannot read the backup {path}: {error.strerror}", path=path) from error


def restore(path: Path, config: NodeConfig) -> Summary:
    """Make the data folder of `config` from the backup in `path`, which is verified as a whole before
    anything is made. The folder appears complete or not at all.

    Raises:
        UnreadableBackup: the backup is damaged, or of another format.
        WrongState: the folder holds something.
        ConfigError: the new cluster would have the old one's identity.
        StartFailed, StorageFault: the folder cannot be written.
    """
    folder = Path(config.data_dir).absolute()
    _require_empty(folder)
    with open_backup(path) as file:
        _require_new_identity(verify(file).header, config)
        scratch = folder.with_name(folder.name + _SCRATCH_SUFFIX)
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            file.seek(0)
            summary = _restore_state(file, scratch / "state")
            _begin_log(scratch / "log", summary.header.applied, config)
            _put_in_place(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return summary


def _require_empty(folder: Path) -> None:
    try:
        if not folder.exists() or not any(folder.iterdir()):
            return
    except OSError as error:
        raise StartFailed(f"cannot use the data folder {folder}: {error.strerror}", path=folder) from error
    raise WrongState(
        f"the data folder {folder} is not empty: a backup is restored into a new one. Choose another "
        "--data-dir, or move what is there away",
        path=folder,
    )


def _require_new_identity(header: Header, config: NodeConfig) -> None:
    if config.cluster_id == header.cluster:
        raise ConfigError(
            f"cluster_id is {config.cluster_id!r}, which is that of the cluster that was backed up; allowed: "
            "any other. Nodes of the old cluster, which may have gone on, must not meet the new ones",
            key="cluster_id",
            value=config.cluster_id,
        )


def _restore_state(file: BinaryIO, root: Path) -> Summary:
    home = FolderHome(root)
    engine = home.open(_FOLDER, FAMILIES)
    try:
        summary = unpack(file, engine)
        state = StoredState(engine, str(root))
        state.load()
        state.flush()
    finally:
        engine.close()
    home.make_current(_FOLDER)
    return summary


def _begin_log(path: Path, applied: SnapshotMeta, config: NodeConfig) -> None:
    settings = config.raft
    engine = RocksEngine(path, journal.FAMILIES)
    try:
        log = Journal(
            engine,
            founders=config.founders,
            tail_entries=settings.tail_entries,
            tail_bytes=settings.tail_bytes,
        )
        rng = random.Random()  # noqa: S311 - an id, not a secret
        claim(engine, log, cluster=config.cluster_id, node=config.node_id, rng=rng)
        log.set_vote(applied.term, None)
        log.reset(Position(applied.index, applied.term))
    finally:
        engine.close()


def _put_in_place(scratch: Path, folder: Path) -> None:
    try:
        sync_folder(scratch)
        os.replace(scratch, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise StartFailed(f"cannot make the data folder {folder}: {error.strerror}", path=folder) from error
