"""Worlds of the simulator: real nodes, agents and clients on virtual time, without faults, and the same
seed giving the same trace byte for byte (A1-A5, the simulator's own promises)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from chaos.sim.plan import draw
from chaos.sim.run import run

ROOT = Path(__file__).parents[2]


def test_without_faults_everything_submitted_comes_to_its_end() -> None:
    plan = msgspec.structs.replace(draw(1), faults=())
    result = run(plan)
    assert result.violations == []
    assert result.events["elections_won"] == 1
    assert result.events["attempts_begun"] > result.events["dags_acknowledged"] > 10


def test_the_same_seed_gives_the_same_trace_in_every_process() -> None:
    digests = {_digest(hash_seed) for hash_seed in ("0", "1", "2")}
    assert len(digests) == 1


def _digest(hash_seed: str) -> str:
    program = "from chaos.sim.plan import draw; from chaos.sim.run import run; print(run(draw(4)).digest)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout
