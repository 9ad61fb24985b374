"""The journal and the state's engine on real RocksDB files: what survives, and that damage is named instead
of served (A4, H3)."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from coordinator.consensus.journal import FAMILIES, VOTE, Journal
from coordinator.errors import LogCorrupt, StartFailed, StateCorrupt
from coordinator.storage.engine import RocksEngine
from coordinator.storage.state_home import FolderHome
from tests.consensus.lab import command, voters

MARK = random.Random(1).randbytes(100)
"""A payload that compression leaves as it is, so that it can be found in a file."""
LAST = random.Random(2).randbytes(100)


def opened(path: Path) -> tuple[RocksEngine, Journal]:
    engine = RocksEngine(path, FAMILIES)
    try:
        return engine, Journal(engine, founders=voters("a"), tail_entries=10, tail_bytes=1 << 20)
    except BaseException:
        engine.close()
        raise


def written(path: Path, *, flush: bool = False) -> None:
    """Entries 2 ... 41, the one in the middle marked, all synced: the files as they are when the process
    is killed."""
    living = path.with_suffix(".living")
    engine, journal = opened(living)
    journal.set_vote(3, "a")
    for index in range(2, 42):
        journal.append([command(3, {20: MARK, 41: LAST}.get(index, b"entry"))])
        journal.begin_sync()
        journal.sync()
    if flush:
        engine.flush()
    shutil.copytree(living, path, dirs_exist_ok=True)
    engine.close()


def newest(path: Path, pattern: str, holding: bytes) -> Path:
    return next(file for file in sorted(path.glob(pattern), reverse=True) if holding in file.read_bytes())


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    written(tmp_path)
    engine, journal = opened(tmp_path)
    assert (journal.term, journal.voted_for, journal.last.index) == (3, "a", 41)
    assert journal.read(20, entries=1, size=100)[0].payload == MARK
    journal.compact_to(30)
    engine.close()
    engine, journal = opened(tmp_path)
    assert (journal.base.index, journal.base.term, journal.last.index) == (30, 3, 41)
    journal.reset(journal.last)
    engine.close()
    engine, journal = opened(tmp_path)
    assert (journal.base.index, journal.last.index, journal.term) == (41, 41, 3)
    engine.close()


def test_a_torn_tail_is_what_a_crash_leaves(tmp_path: Path) -> None:
    written(tmp_path)
    log = newest(tmp_path, "*.log", LAST)
    torn = log.read_bytes()
    log.write_bytes(torn[: torn.rindex(LAST) + 3])
    engine, journal = opened(tmp_path)
    assert (journal.last.index, journal.term, journal.voted_for) == (40, 3, "a")
    journal.append([command(3, b"again")])
    journal.begin_sync()
    journal.sync()
    engine.close()
    engine, journal = opened(tmp_path)
    assert journal.read(41, entries=1, size=100)[0].payload == b"again"
    engine.close()


@pytest.mark.parametrize("flush", [False, True], ids=["write-ahead log", "table file"])
def test_a_damaged_byte_is_found(tmp_path: Path, flush: bool) -> None:
    written(tmp_path, flush=flush)
    file = newest(tmp_path, "*.sst" if flush else "*.log", MARK)
    content = bytearray(file.read_bytes())
    content[content.index(MARK)] ^= 0xFF
    file.write_bytes(bytes(content))
    with pytest.raises(LogCorrupt):
        opened(tmp_path)


def test_unreadable_votes_are_not_no_votes(tmp_path: Path) -> None:
    written(tmp_path)
    engine, _ = opened(tmp_path)
    batch = engine.batch()
    batch.put(VOTE, b"vote", b"garbage")
    engine.write(batch)
    engine.close()
    with pytest.raises(LogCorrupt, match="vote"):
        opened(tmp_path)


def test_a_state_ends_where_the_first_of_its_writes_is_missing(tmp_path: Path) -> None:
    """Nothing of it is synced: when a machine loses its power, the end of one file of the write-ahead log
    may be gone, and the file after it be there. A state without some writes in its middle would look like
    any other."""
    living, dead = tmp_path / "living", tmp_path / "dead"
    engine = RocksEngine(living, ("family",), damage=StateCorrupt, replayed=True)
    for number in range(200):
        batch = engine.batch()
        batch.put("family", number.to_bytes(2, "big"), b"value")
        engine.write(batch)
        if number == 99:
            shutil.copytree(living, dead)
            engine.flush()  # It begins a new file of the log; of what it does else, nothing reaches the disk.
    (former,) = dead.glob("*.log")
    (latter,) = living.glob("*.log")
    shutil.copy(latter, dead)
    engine.close()
    former.write_bytes(former.read_bytes()[: former.stat().st_size // 2 + 3])
    left = FolderHome(tmp_path).open("dead", ("family",))
    found = [int.from_bytes(key, "big") for key, _ in left.items("family")]
    left.close()
    assert 30 < len(found) < 70
    assert found == list(range(len(found)))


def test_a_folder_in_use_is_named(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path)
    with pytest.raises(StartFailed, match="another process"):
        opened(tmp_path)
    engine.close()
