"""Which I/O engine gRPC is told to use, and that nobody else is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_sdk import _engine

_SHOW = 'import os; print("during", os.environ.get("GRPC_EXPERIMENTS"))'
_RUN = "import os, runpy; runpy.run_path({path!r}); print('after', os.environ.get('GRPC_EXPERIMENTS'))"


@pytest.fixture
def grpc_that_shows(tmp_path: Path) -> Path:
    """A folder with a package `grpc` that prints what it finds in the environment while it is imported."""
    (tmp_path / "grpc").mkdir()
    (tmp_path / "grpc" / "__init__.py").write_text(_SHOW)
    (tmp_path / "grpcio-1.85.3.dist-info").mkdir()
    (tmp_path / "grpcio-1.85.3.dist-info" / "METADATA").write_text("Name: grpcio\nVersion: 1.85.3\n")
    return tmp_path


def run(folder: Path, **environment: str) -> list[str]:
    program = _RUN.format(path=_engine.__file__)
    known = {**os.environ, "PYTHONPATH": str(folder)}
    known.pop("GRPC_EXPERIMENTS", None)
    ended = subprocess.run(
        [sys.executable, "-c", program], env=known | environment, capture_output=True, text=True, check=True
    )
    return ended.stdout.splitlines()


def test_grpc_is_told_while_it_is_imported_and_nobody_later(grpc_that_shows: Path) -> None:
    assert run(grpc_that_shows) == [f"during {_engine.DIRECT}", "after None"]


def test_a_choice_of_the_users_own_stays(grpc_that_shows: Path) -> None:
    assert run(grpc_that_shows, GRPC_EXPERIMENTS="own") == ["after own"]


@pytest.mark.parametrize(
    ("version", "chosen"),
    [
        ("1.79.0", ""),
        ("1.80.0", _engine.DIRECT),
        ("1.85.3", _engine.DIRECT),
        ("1.85.0rc1", _engine.DIRECT),
        ("1.86.0", ""),
        ("2.80.0", ""),
        ("1.x", ""),
    ],
)
def test_only_versions_that_have_the_choice_are_told(version: str, chosen: str) -> None:
    assert _engine.choice(version) == chosen


def test_the_sdk_leaves_the_environment_as_it_was() -> None:
    program = "import os; before = dict(os.environ); import agent_sdk; assert dict(os.environ) == before"
    subprocess.run([sys.executable, "-c", program], check=True)
