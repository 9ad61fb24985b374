"""From a workflow file to what a client submits."""

from __future__ import annotations

import sys
from pathlib import Path

from coordinator.api.convert import draft_to_proto
from coordinator.dag.formats.detect import parse
from coordinator.errors import UnreadableWorkflow
from quorumflow_proto.v1 import common_pb2


def read_spec(file: Path, speedup: float) -> common_pb2.DagSpec:
    """The DAG that a workflow file describes; "-" is stdin. Raises InvalidRequest, which names the place."""
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableWorkflow(f"cannot read {file} as text: {error}", file=file) from error
    return draft_to_proto(parse(text, name=file.stem if str(file) != "-" else "stdin", speedup=speedup))
