"""The Python that `make install` takes, of stand-ins on a PATH of their own that say how long they take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHOOSE = Path(__file__).resolve().parents[2] / "tools" / "choose_python.sh"
UNFIT = "exit 1"


@pytest.mark.parametrize(
    ("on_path", "chosen"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"a/python3.11": UNFIT}, None, id="none that will do"),
        pytest.param({"a/python3.11": "echo 900", "b/python3.11": "echo 500"}, "b/python3.11", id="quickest"),
        pytest.param(
            {"a/python3.11": "echo 900", "b/python3.11": "echo 820"}, "a/python3.11", id="as good as alike"
        ),
        pytest.param(
            {"a/python3.11": UNFIT, "b/python3.11": "echo 900"}, "b/python3.11", id="first will not do"
        ),
        pytest.param(
            {"a/python3.12": "echo 100", "b/python3.11": "echo 900"}, "b/python3.11", id="oldest version"
        ),
        pytest.param({"a/python3.11": UNFIT, "b/python3.13": "echo 900"}, "b/python3.13", id="next version"),
        pytest.param({"a b/python3": "echo 900"}, "a b/python3", id="blank in a folder's name"),
    ],
)
def test_the_quickest_build_of_the_oldest_version_is_chosen(
    tmp_path: Path, on_path: dict[str, str], chosen: str | None
) -> None:
    for name, answer in on_path.items():
        _program(tmp_path / name, answer)

    assert _choose(tmp_path, "a b", "a", "b") == ("" if chosen is None else f"{tmp_path / chosen}\n")


def test_a_moment_in_which_the_machine_was_slow_chooses_nothing(tmp_path: Path) -> None:
    called = tmp_path / "called"
    _program(
        tmp_path / "a/python3.11", f'if [ -e "{called}" ]; then echo 500; else : >"{called}"; echo 5000; fi'
    )
    _program(tmp_path / "b/python3.11", "echo 1000")

    assert _choose(tmp_path, "a", "b") == f"{tmp_path / 'a/python3.11'}\n"


def test_a_real_python_will_do(tmp_path: Path) -> None:
    _program(tmp_path / "a/python3", f'exec "{sys.executable}" "$@"')

    assert _choose(tmp_path, "a") == f"{tmp_path / 'a/python3'}\n"


def _program(path: Path, answer: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{answer}\n", encoding="utf-8")
    path.chmod(0o755)


def _choose(root: Path, *folders: str) -> str:
    """What is printed with these folders alone on PATH, but for the tools that a shell has."""
    tools = root / "tools"
    tools.mkdir()
    (tools / "awk").symlink_to(shutil.which("awk") or "awk")
    path = os.pathsep.join(str(root / folder) for folder in (*folders, "tools"))
    done = subprocess.run(["/bin/sh", CHOOSE], env={"PATH": path}, capture_output=True, text=True, check=True)
    return done.stdout
