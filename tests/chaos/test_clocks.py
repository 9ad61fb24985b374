"""Clocks that drills set: a process sees its wall clock jump while it runs, and its monotonic clock go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from chaos.harness.clocks import Clocks

TOLD = """
import sys, time
for _ in sys.stdin:
    time.sleep(0.05)
    print(time.time(), time.time_ns() / 1e9, time.monotonic(), flush=True)
"""


def test_a_clock_is_set_while_its_process_runs(tmp_path: Path) -> None:
    clocks = Clocks(tmp_path, ["n1", "n2"])
    clocks.start()
    with subprocess.Popen(
        [sys.executable, "-c", TOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | clocks.environment("n1"),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask() -> list[float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return [float(one) for one in process.stdout.readline().split()]

        before = ask()
        clocks.set("n2", 7_200.0)
        clocks.set("n1", 3_600.0)
        after = ask()
        clocks.set("n1", -3_600.0)
        back = ask()
        process.stdin.close()
    assert [3_599 < then - now < 3_660 for now, then in zip(before, after, strict=True)] == [
        True,
        True,
        False,
    ]
    assert [-3_600 < then - now < -3_500 for now, then in zip(before, back, strict=True)] == [
        True,
        True,
        False,
    ]
    assert before[2] < after[2] < back[2]
