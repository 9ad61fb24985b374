"""Where the peers are installed: an environment of its own for each, made once from the package registry."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

ENVIRONMENTS: Final = Path(__file__).parents[2] / ".peers"
"""Git ignores it; without it the next run installs anew, and takes the newest versions."""
_INSTALL_TIMEOUT_S: Final = 900.0
_STAMP: Final = "installed.json"


class Peer(NamedTuple):
    """A system to compare with: its packages, and the programs that it needs from elsewhere, by name, each
    with how it is had."""

    name: str
    title: str
    packages: tuple[str, ...] = ()
    programs: tuple[tuple[str, str], ...] = ()


PEERS: Final = (
    Peer("dask", "Dask", ("dask", "distributed")),
    Peer("ray", "Ray", ("ray",)),
    Peer("parsl", "Parsl", ("parsl",)),
    Peer("celery", "Celery", ("celery", "redis", "packaging"), (("redis-server", "Debian: redis-server"),)),
    Peer("etcd", "etcd", (), (("etcd", "Debian: etcd-server"),)),
)


class Unavailable(Exception):
    """The peer cannot be had here; the message says why."""


def prepare(peer: Peer, folder: Path = ENVIRONMENTS) -> Path:
    """The interpreter that has the peer's packages, which are installed if they are not yet. Raises
    Unavailable."""
    for program, source in peer.programs:
        if shutil.which(program) is None:
            raise Unavailable(f"there is no {program} on this machine ({source})")
    if not peer.packages:
        return Path(sys.executable)
    place = folder / peer.name
    python = place / "bin" / "python"
    if not _installed(place, peer):
        shutil.rmtree(place, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(place)], f"make an environment for {peer.title}")
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *peer.packages]
        _run(install, f"install {' and '.join(peer.packages)}")
        (place / _STAMP).write_text(json.dumps(peer.packages))
    return python


def _installed(place: Path, peer: Peer) -> bool:
    try:
        return bool(json.loads((place / _STAMP).read_text()) == list(peer.packages))
    except (OSError, json.JSONDecodeError):
        return False


def _run(command: list[str], purpose: str) -> None:
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"could not {purpose}: {error}") from error
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("ERROR")]
        raise Unavailable(f"could not {purpose}: {said[-1] if said else f'exit code {done.returncode}'}")
