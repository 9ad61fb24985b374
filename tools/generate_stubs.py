"""Generate the gRPC stubs of `proto/` as the package `quorumflow_proto`.

The protobuf package is `coordinator.v1`, and protoc would write Python modules of that very path, which
belongs to the server's own code (and `proto` is another distribution's import name). So the stubs are
generated aside and their imports rewritten to the name `quorumflow_proto`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "quorumflow_proto"
_FROM = re.compile(r"^from coordinator\.v1 import", re.MULTILINE)


def generate(root: Path) -> Path:
    """Write the stubs below `root` and return their folder. Raises CalledProcessError if protoc refuses a
    file."""
    target = root / PACKAGE / "v1"
    sources = sorted((root / "proto").glob("coordinator/v1/*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", f"-I{root / 'proto'}"]
            + [f"--{plugin}_out={scratch}" for plugin in ("python", "grpc_python", "mypy", "mypy_grpc")]
            + [str(source) for source in sources],
            check=True,
            env={
                **os.environ,
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            },
        )
        shutil.rmtree(root / PACKAGE, ignore_errors=True)
        target.mkdir(parents=True)
        for generated in (Path(scratch) / "coordinator" / "v1").iterdir():
            (target / generated.name).write_text(_rename(generated.read_text()))
    for package in (root / PACKAGE, target):
        (package / "__init__.py").write_text('"""Generated from proto/ at build time; do not edit."""\n')
        (package / "py.typed").touch()
    return target


def _rename(source: str) -> str:
    renamed = _FROM.sub(f"from {PACKAGE}.v1 import", source)
    renamed = re.sub(r"^import coordinator\.v1\.", f"import {PACKAGE}.v1.", renamed, flags=re.MULTILINE)
    return re.sub(r"(?<![\w./'\"])coordinator\.v1\.(\w+_pb2)", rf"{PACKAGE}.v1.\1", renamed)


if __name__ == "__main__":
    print(generate(Path(__file__).resolve().parent.parent))
