"""Agents and `coordctl` start without what nodes alone need: there are many of them, and they start often."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import coordinator.cli.{program}
from agent_sdk import Agent
nodes_alone = {{"numpy", "rocksdict", "uvloop", "coordinator.config", "coordinator.replica"}}
print(sorted(nodes_alone & sys.modules.keys()))
"""


@pytest.mark.parametrize("program", ["server", "client"])
def test_a_program_is_there_before_the_node_is(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(program=program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)
