"""The form checks: each rule finds what breaks it and lets a good sample pass, and the tree itself passes.

Answers principle 1 of the design (pure packages touch neither clock nor randomness nor I/O) for the tree.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from tools.check_form import RULES, Finding, Source, check, main

ROOT = Path(__file__).resolve().parents[2]
UNFINISHED_WORD = "TO" + "DO"


def findings(path: str, text: str, described: frozenset[str] = frozenset()) -> dict[str, list[Finding]]:
    """What each rule finds in a file of this path and text."""
    source = Source(PurePosixPath(path), text, described)
    return {rule.__name__: found for rule in RULES if (found := list(rule(source)))}


BROKEN = [
    ("file_length", "coordinator/a.py", '"""A."""\n' + "x = 1\n" * 500, 501),
    ("function_length", "coordinator/a.py", '"""A."""\ndef _f():\n' + "    x = 1\n" * 50, 2),
    ("function_length", "tests/a.py", "async def f():\n" + "    x = 1\n" * 50, 1),
    ("telling_names", "coordinator/core/utils.py", '"""A."""\n', 1),
    ("telling_names", "agent_sdk/_helpers.py", '"""A."""\n', 1),
    ("telling_names", "chaos/common/net.py", '"""A."""\n', 1),
    ("docstrings", "coordinator/a.py", "x = 1\n", 1),
    ("docstrings", "agent_sdk/a.py", '"""A."""\n\ndef f():\n    return 1\n', 3),
    ("docstrings", "chaos/a.py", '"""A."""\n\nclass C:\n    pass\n', 3),
    (
        "docstrings",
        "chaos/a.py",
        '"""A."""\n\nclass C:\n    """C."""\n    def f(self):\n        return 1\n',
        5,
    ),
    ("docstrings", "tests/core/test_a.py", "x = 1\n", 1),
    ("coded_ignores", "coordinator/a.py", '"""A."""\nx = 1  # type: ignore\n', 2),
    ("coded_ignores", "tests/a.py", "x = 1  # no" + "qa\n", 1),
    ("no_print", "coordinator/a.py", '"""A."""\nprint(1)\n', 2),
    ("no_print", "agent_sdk/a.py", '"""A."""\nprint(1)\n', 2),
    ("purity", "coordinator/core/a.py", '"""A."""\nimport time\n', 2),
    ("purity", "coordinator/core/a.py", '"""A."""\nimport os.path as p\n', 2),
    ("purity", "coordinator/dag/a.py", '"""A."""\nfrom datetime import datetime\n', 2),
    ("purity", "coordinator/dag/formats/a.py", '"""A."""\ndef _f():\n    import random\n', 3),
    ("purity", "coordinator/scheduling/a.py", '"""A."""\nfrom numpy import random\n', 2),
    ("purity", "coordinator/scheduling/a.py", '"""A."""\nimport numpy as np\nx = np.random.rand()\n', 3),
    ("purity", "coordinator/core/a.py", '"""A."""\nx = open("f")\n', 2),
    ("purity", "coordinator/scheduling/a.py", '"""A."""\n\n\ndef _f(a, b):\n    return a @ b\n', 5),
    ("purity", "coordinator/forecast/a.py", '"""A."""\nimport numpy as np\nx = np.dot([1], [2])\n', 3),
    ("nothing_unfinished", "coordinator/a.py", f'"""A."""\nx = 1  # {UNFINISHED_WORD}: more\n', 2),
]


@pytest.mark.parametrize(("rule", "path", "text", "line"), BROKEN)
def test_a_broken_sample_is_found(rule: str, path: str, text: str, line: int) -> None:
    found = findings(path, text)[rule]
    assert [finding.line for finding in found] == [line]
    assert str(found[0]).startswith(f"{path}:{line}: ")
    assert found[0].remedy


GOOD = [
    ("coordinator/a.py", '"""A."""\n' + "x = 1\n" * 499),
    ("coordinator/a.py", '"""A."""\ndef _f():\n' + "    x = 1\n" * 49),
    ("coordinator/a.py", '"""A."""\nx = 1  # type: ignore[assignment]\ny = "# type: ignore"\n'),
    ("coordinator/cli/a.py", '"""A."""\nprint(1)\n'),
    ("coordinator/replica/a.py", '"""A."""\nimport time\nx = open("f")\n'),
    ("coordinator/core/a.py", '"""A."""\nimport msgspec\nfrom coordinator.core.timeline import Timeline\n'),
    ("coordinator/api/a.py", '"""A."""\nclass Api(pb.XServicer):\n    """Api."""\n    def Get(self): ...\n'),
    ("coordinator/a.py", '"""A."""\nclass C(Link):\n    """C."""\n    def data_received(self): ...\n'),
    ("coordinator/a.py", '"""A."""\nclass _Hidden:\n    def f(self): ...\n'),
    ("coordinator/a.py", '"""A."""\ndef _f():\n    def g():\n        return 1\n    return g\n'),
    ("tools/a.py", "def undocumented(): ...\n"),
    ("tests/core/test_a.py", '"""What it pins down."""\n'),
]  # fmt: skip


@pytest.mark.parametrize(("path", "text"), GOOD)
def test_a_good_sample_passes(path: str, text: str) -> None:
    assert findings(path, text) == {}


def test_a_method_that_a_protocol_describes_needs_no_docstring_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "coordinator"
    folder.mkdir()
    (folder / "port.py").write_text(
        '"""P."""\nclass Port(Protocol):\n    """P."""\n    def go(self):\n        """Go."""\n'
    )
    (folder / "real.py").write_text(
        '"""R."""\nclass Real:\n    """R."""\n    def go(self):\n        return 1\n'
    )
    assert check(tmp_path) == []
    (folder / "port.py").write_text('"""P."""\nclass Port(Protocol):\n    """P."""\n    def go(self): ...\n')
    assert [str(finding.path) for finding in check(tmp_path)] == [
        "coordinator/port.py",
        "coordinator/real.py",
    ]


def test_the_program_prints_what_it_found_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chaos").mkdir()
    (tmp_path / "chaos" / "a.py").write_text("")
    monkeypatch.setattr("sys.argv", ["check_form", str(tmp_path)])
    assert main() == 1
    assert capsys.readouterr().out.startswith("chaos/a.py:1: ")


def test_the_tree_passes() -> None:
    assert [str(finding) for finding in check(ROOT)] == []


def test_every_rule_has_a_sample_that_breaks_it() -> None:
    assert {rule for rule, *_ in BROKEN} == {rule.__name__ for rule in RULES}
