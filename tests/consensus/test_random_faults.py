"""The programs that broke stock PySyncObj, run against our class: crashes, restarts, partitions and delays
on virtual time (A1, A4).

They lie beside the project where it is developed, not in it; elsewhere these tests say why they are
skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EVIDENCE = ROOT.parent / "shared" / "evidence"
SEEDS = 6

pytestmark = pytest.mark.skipif(
    not (EVIDENCE / "random_faults.py").is_file(), reason=f"{EVIDENCE} with the fault programs is not here"
)

BURSTS = """
import sys
from pathlib import Path
import pysyncobj
from tests.consensus.stock_face import StockFace
pysyncobj.SyncObj = StockFace
sys.argv = ["burst_loss.py", "3"]
source = Path("burst_loss.py").read_text()
wrong_moment = " and l.raftLastApplied>max(n._SyncObj__raftLog[-1][1] for n in others)"
assert wrong_moment in source
exec(source.replace(wrong_moment, ""))
"""
"""The leader stops while bursts are under way. The program waits for a moment at which it has applied what
no follower holds; for us there is none, so it stops at once."""


def run(*arguments: str) -> str:
    """What a program prints, run among the fault programs."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=EVIDENCE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(EVIDENCE)))},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stdout


def test_stock_ends_wrong() -> None:
    assert " bad 0 " not in run("random_faults.py", "3")


def test_ours_never_does() -> None:
    assert f"seeds {SEEDS} bad 0 " in run(
        "random_faults.py", str(SEEDS), "tests.consensus.stock_face:StockFace"
    )


def test_bursts_beyond_one_message_lose_nothing() -> None:
    printed = run("-c", BURSTS)
    assert printed.count("lost 0 diverged False") == 3
    assert printed.endswith("bad 0\n")
