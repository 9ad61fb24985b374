"""What the figures were measured on and with."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
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
    """Of Python, with the interpreter since builds of one version differ, and of the packages that matter."""
    return {
        "python": platform.python_version(),
        "interpreter": os.path.realpath(sys.executable),
        **{name: version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return next(line.partition(":")[2].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
