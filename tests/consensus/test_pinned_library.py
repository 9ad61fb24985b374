"""The pinned library is the one whose private names we override, and whose defects are closed, each with its
test; another one must be read again before it is used (A1)."""

from __future__ import annotations

import hashlib
import importlib
import re
from pathlib import Path

from coordinator.consensus.hardened import HardenedSyncObj
from tests.consensus.lab import Bench, stock

SYNCOBJ_SHA256 = "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4"


def test_the_source_that_we_override_is_the_one_that_was_read() -> None:
    source = Path(stock.__file__).read_bytes()
    assert hashlib.sha256(source).hexdigest() == SYNCOBJ_SHA256
    assert importlib.import_module("pysyncobj.version").VERSION == "0.3.17"


def test_every_defect_has_its_row_and_its_test() -> None:
    numbers = set(range(1, 36))
    here = Path(__file__).parent
    named = re.findall(r"def test((?:_\d\d)+)_", "".join(path.read_text() for path in here.glob("test_*.py")))
    assert {int(number) for name in named for number in name.split("_")[1:]} == numbers
    rows = re.findall(r"^\| (\d+) \|", (here.parents[1] / "docs/divergence.md").read_text(), re.MULTILINE)
    assert [int(row) for row in rows] == sorted(numbers)


def test_every_overridden_name_exists_in_the_library() -> None:
    seams = ["_SyncObj__onMessageReceived", "_SyncObj__onNodeConnected", "_SyncObj__onNodeDisconnected"]
    for name in (*seams, "_onTick", "_applyCommand"):
        assert name in vars(HardenedSyncObj)
        assert name in vars(stock.SyncObj)


def test_the_librarys_own_view_of_the_node_stays_true() -> None:
    bench = Bench()
    bench.elect()
    status = stock.SyncObj.getStatus(bench.node)
    assert (status["raft_term"], status["commit_idx"]) == (bench.node.term, bench.node.commit_index)
    assert status["log_len"] == len(bench.log)
    assert status["leader"] == bench.node.selfNode
    assert bench.node._SyncObj__raftLog[-1][1:] == bench.log[-1]
