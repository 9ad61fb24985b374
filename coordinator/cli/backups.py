"""`coordctl backup` and `coordctl restore`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from agent_sdk.types import ClusterStatus
from coordinator.cli.output import Format, Record, note
from coordinator.cli.session import Session, session_options
from coordinator.errors import AlreadyExists, NotFound, StartFailed

if TYPE_CHECKING:
    from coordinator.storage.backup import Summary

_PROGRESS_S: Final = 1.0


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--verify", "verify_only", is_flag=True, help="Read the backup in FILE and say what it holds.")
@click.option(
    "--node", "node_id", default="", help="Ask this node; by default a follower, to spare the leader."
)
@session_options
@click.pass_obj
def backup(session: Session, file: Path, verify_only: bool, node_id: str) -> None:
    """Write a backup of the cluster to FILE, or check one. Work goes on meanwhile.

    The backup holds everything that was acknowledged before the command began. FILE appears when it is whole,
    on the disk, and verified.
    """
    if verify_only:
        from coordinator.replica.restore import open_backup
        from coordinator.storage.backup import verify

        with open_backup(file) as found:
            session.show(_view(verify(found)))
        return
    if file.exists():
        raise AlreadyExists(f"{file} exists; remove it or choose another name", path=file)
    with session.client() as client:
        endpoint = _endpoint(client.cluster_status(), node_id)
        pieces = client.backup(endpoint)
        summary = _receive(pieces if session.output is Format.JSON else _noted(pieces), file)
    session.show(_view(summary))


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--data-dir", required=True, help="Of the new node; it must be empty, or not be there.")
@click.option("--node-id", required=True, help="Of the new node.")
@click.option("--cluster-id", required=True, help="Of the new cluster; another one than the old cluster's.")
@click.option(
    "--cluster-nodes", default="", help="All nodes of the new cluster, as the setting cluster_nodes."
)
@session_options
@click.pass_obj
def restore(session: Session, /, file: Path, **settings: str) -> None:
    """Make the data folder of a node of a NEW cluster from the backup in FILE; nothing has to run.

    Do this once for each node of the new cluster, with the same FILE, --cluster-id and --cluster-nodes, then
    start them with these settings.
    """
    # Imported here: no other command needs to know a node's settings, and each starts sooner.
    from coordinator.config import Given, build
    from coordinator.replica.restore import restore as restore_folder

    given = {key: Given(value, "flag --" + key.replace("_", "-")) for key, value in settings.items() if value}
    # Nothing is sent anywhere: certificates do not matter before the node starts.
    config = build({**given, "tls.mode": Given("off", "restore")})
    summary = restore_folder(file, config)
    session.show({**_view(summary), "data_dir": config.data_dir, "new_cluster": config.cluster_id})


def _endpoint(status: ClusterStatus, node_id: str) -> str:
    """The address of the node to ask: the one that was named, or the follower that lags least."""
    named = [node for node in status.nodes if node.id == node_id]
    if node_id and not named:
        known = ", ".join(node.id for node in status.nodes)
        raise NotFound(f"node {node_id!r} is not a member; there are {known}", node=node_id)
    followers = [node for node in status.nodes if node.role == "follower"]
    chosen = named or sorted(followers, key=lambda node: node.applied_index)[-1:] or status.nodes
    return chosen[0].grpc_address


def _receive(pieces: Iterator[bytes], target: Path) -> Summary:
    """Write the file beside its place, and move it there once it is durable and verified."""
    from coordinator.storage.backup import verify
    from coordinator.storage.state_home import sync_folder

    scratch = target.with_name(target.name + ".partial")
    try:
        with scratch.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        with scratch.open("rb") as written:
            summary = verify(written)
        scratch.replace(target)
        sync_folder(target.absolute().parent)
    except OSError as error:
        raise StartFailed(
            f"cannot write the backup to {target}: {error.strerror}; choose a place with more room",
            path=target,
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
    return summary


def _noted(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, with a word now and then on how many have come."""
    size, due = 0, time.monotonic() + _PROGRESS_S
    for piece in pieces:
        size += len(piece)
        if time.monotonic() >= due:
            note({"mib": f"{size / (1 << 20):.1f}"})
            due = time.monotonic() + _PROGRESS_S
        yield piece


def _view(summary: Summary) -> Record:
    header = summary.header
    return {
        "cluster": header.cluster,
        "node": header.node,
        "index": header.applied.index,
        "term": header.applied.term,
        "digest": header.applied.digest.hex(),
        "time": _moment(header.time_ms),
        "taken": _moment(header.taken_ms),
        "version": header.product,
        "records": summary.records,
        "bytes": summary.size,
    }


def _moment(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
