"""What the figures were measured on and with."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

_PACKAGES: Final = (
    "quorumflow",
    "grpcio",
    "msgspec",
    "numpy",
    "protobuf",
    "pysyncobj",
    "rocksdict",
    "uvloop",
)
_BESIDE_NODES: Final = ("bench.fleet", "bench.hollow")
"""Modules of this package that run as processes of their own."""


def machine() -> dict[str, str | int | float]:
    """The machine, as far as it bears on the figures."""
    return {
        "cores": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Of Python, with the interpreter since builds of one version differ, of the packages that matter, and
    of this repository as far as that is one."""
    return {
        "python": platform.python_version(),
        "interpreter": os.path.realpath(sys.executable),
        **{name: version(name) for name in _PACKAGES},
        **_revision(),
    }


def others() -> list[int]:
    """The pids of nodes and agents that run, of whomever: what is left of a run before takes its part of the
    machine."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or ()
        node = "serve" in command and any(Path(word).name == "coordinator" for word in command)
        if node or any(module in command for module in _BESIDE_NODES):
            found.append(process.pid)
    return found


def _revision() -> dict[str, str]:
    git = shutil.which("git")
    if git is None:
        return {}
    try:
        asked = subprocess.run(
            [git, "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError:
        return {}
    return {"revision": asked.stdout.strip()}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return next(line.partition(":")[2].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
