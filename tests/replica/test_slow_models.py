"""Slow models in a process of their own: a real one, and what becomes of the call when it hangs, dies or
speaks nonsense (D6)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from coordinator.errors import ConfigError, ModelFailed
from coordinator.replica import slow_models
from coordinator.replica.slow_models import ModelCall, ModelProcess, check_installed

CALL = ModelCall("arima", 24, 3, np.full((40, 2), 0.5))
TIMEOUT_S = 60.0

ECHO = """
import msgspec, os, sys
from coordinator.slow_models.frames import Answer, Question
while prefix := sys.stdin.buffer.read(4):
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(int.from_bytes(prefix, "big")), type=Question)
    steps = question.ahead * question.series
    answer = msgspec.msgpack.encode(Answer(os.getpid().to_bytes(8, "little") * steps))
    sys.stdout.buffer.write(len(answer).to_bytes(4, "big") + answer)
    sys.stdout.buffer.flush()
"""
"""Answers with its process id."""

MakeProcess = Callable[[str], ModelProcess]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[MakeProcess]:
    """A process that runs this source."""
    made: list[ModelProcess] = []

    def make(source: str) -> ModelProcess:
        path = tmp_path / "program.py"
        path.write_text(source)
        made.append(ModelProcess((sys.executable, str(path))))
        return made[-1]

    yield make
    for process in made:
        process.stop()


def pid_of(paths: np.ndarray) -> int:
    """Which process answered."""
    return int(paths.copy().view(np.int64)[0, 0])


async def test_one_process_answers_many_calls_and_ends_when_it_is_told_to(program: MakeProcess) -> None:
    """D6: and a new one is there for whoever asks then."""
    process = program(ECHO)
    first = pid_of(await process.ask(CALL, TIMEOUT_S))
    both = await asyncio.gather(process.ask(CALL, TIMEOUT_S), process.ask(CALL, TIMEOUT_S))
    assert {pid_of(paths) for paths in both} == {first}
    assert both[0].shape == (3, 2)
    process.stop()
    assert pid_of(await process.ask(CALL, TIMEOUT_S)) != first


async def test_a_call_that_takes_too_long_ends_the_process(program: MakeProcess) -> None:
    """D6: the error says what to do; the next call has a process again."""
    process = program("import time\ntime.sleep(3600)")
    with pytest.raises(ModelFailed, match=r"forecast\.extra_timeout_s"):
        await process.ask(CALL, 0.05)
    program(ECHO)
    assert pid_of(await process.ask(CALL, TIMEOUT_S)) > 0


@pytest.mark.parametrize(
    "source",
    [
        "raise SystemExit(3)",
        "import sys; sys.stdout.buffer.write(b'nonsense that is long enough to be read')",
        "import sys; sys.stdout.buffer.write((3).to_bytes(4, 'big') + b'abc')",
        "import sys; sys.stdout.buffer.write(bytes.fromhex('0000000492c40161a0'))",
    ],
)
async def test_a_process_that_ends_or_speaks_nonsense_costs_that_call(
    program: MakeProcess, source: str
) -> None:
    """D6: it dies, names a frame that is too long, sends what is no answer, or one of the wrong size."""
    process = program(source)
    with pytest.raises(ModelFailed):
        await process.ask(CALL, TIMEOUT_S)
    program(ECHO)
    process.stop()
    assert pid_of(await process.ask(CALL, TIMEOUT_S)) > 0


async def test_a_call_that_is_given_up_leaves_nothing_behind(program: MakeProcess) -> None:
    """D6: the answer to it must not be taken for that to the next one."""
    process = program(ECHO)
    pid = pid_of(await process.ask(CALL, TIMEOUT_S))
    asking = asyncio.create_task(process.ask(CALL, TIMEOUT_S))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert pid_of(await process.ask(CALL._replace(ahead=5), TIMEOUT_S)) != pid


async def test_the_real_program_says_when_a_library_is_missing_or_fails() -> None:
    """D6: it goes on to answer."""
    process = ModelProcess()
    try:
        for _ in range(2):
            with pytest.raises(ModelFailed, match="KeyError: 'astrology'"):
                await process.ask(CALL._replace(model="astrology"), TIMEOUT_S)
    finally:
        process.stop()


def test_a_model_whose_library_is_missing_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: with the command that installs it."""
    monkeypatch.setitem(slow_models.LIBRARIES, "lstm", "no_such_library")
    with pytest.raises(
        ConfigError, match=r"no_such_library is not installed: pip install 'quorumflow\[forecast-lstm\]'"
    ):
        check_installed(["lstm"])
    check_installed([])
