"""The SDK links grpcio, protobuf, psutil and the generated stubs alone: it is what every agent carries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys

# typing_extensions is grpcio's own dependency.
allowed = {"agent_sdk", "quorumflow_proto", "grpc", "google", "psutil", "typing_extensions"}
allowed |= sys.stdlib_module_names

class Gate:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ImportError(f"the SDK may not import {name}")

sys.meta_path.insert(0, Gate())
try:
    import msgspec
except ImportError:
    pass
else:
    raise SystemExit("the gate is open")

import agent_sdk
agent_sdk.Client("localhost:1").close()
agent_sdk.Agent("localhost:1").add_builtins(shell=True)
for name in agent_sdk.__all__:
    getattr(agent_sdk, name)
print("fine")
"""


def test_nothing_else_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("fine\n", "", 0)
