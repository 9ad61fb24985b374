"""Models that take too long for the event loop, in a process of their own that is started when it is first
asked.

One call at a time; a call that takes too long, or a process that ends, costs that call and a new process for
the next one. The leader's death ends the process: its input ends.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
import numpy as np

from coordinator.errors import ConfigError, ModelFailed
from coordinator.forecast.history import FloatRow
from coordinator.slow_models.frames import MAX_FRAME_BYTES, Answer, Question

LIBRARIES: Final = {"arima": "statsforecast", "lstm": "torch", "prophet": "prophet"}
"""What each model needs beyond the server's own packages."""

_ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
_PROGRAM: Final = (sys.executable, "-m", "coordinator.slow_models")
_PREFIX_BYTES: Final = 4


class ModelCall(NamedTuple):
    """How will these go on? `past` has a column for each series, oldest first; the answer has `ahead`
    steps."""

    model: str
    season: int
    ahead: int
    past: FloatRow


class SlowModels(Protocol):
    """Where slow models run."""

    async def ask(self, call: ModelCall, timeout_s: float) -> FloatRow:
        """The answer, a column for each series. Raises ModelFailed."""

    def stop(self) -> None:
        """Nobody asks any more, for now."""


def check_installed(models: Iterable[str]) -> None:
    """Raises ConfigError if the library of one of these models is not installed."""
    for model in models:
        if importlib.util.find_spec(LIBRARIES[model]) is None:
            raise ConfigError(
                f"forecast.extras names {model}, and its library {LIBRARIES[model]} is not installed: "
                f"pip install 'quorumflow[forecast-{model}]', or take it out of forecast.extras",
                key="forecast.extras",
                value=model,
            )


class ModelProcess:
    """One process for all slow models of a node."""

    def __init__(self, command: Sequence[str] = _PROGRAM) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def ask(self, call: ModelCall, timeout_s: float) -> FloatRow:
        async with self._turn:
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await self._exchange(call)
            except TimeoutError as error:
                self.stop()
                raise ModelFailed(
                    f"{call.model} took over {timeout_s} s for {call.past.shape[1]} series and was ended; "
                    "raise forecast.extra_timeout_s or lower forecast.extra_series",
                    setting="forecast.extra_timeout_s",
                    limit=timeout_s,
                ) from error
            except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError) as error:
                self.stop()
                raise ModelFailed(
                    f"the process of {call.model} ended or spoke nonsense: {error!r}"
                ) from error
            except asyncio.CancelledError:
                self.stop()
                raise
        if answer.error:
            raise ModelFailed(f"{call.model} failed: {answer.error}")
        shape = call.ahead, call.past.shape[1]
        if len(answer.paths) != 8 * shape[0] * shape[1]:
            raise ModelFailed(f"{call.model} answered with {len(answer.paths)} bytes for the shape {shape}")
        return np.frombuffer(answer.paths, np.float64).reshape(shape)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()

    async def _exchange(self, call: ModelCall) -> Answer:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD},
                limit=MAX_FRAME_BYTES,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        steps, series = call.past.shape
        question = Question(call.model, call.season, call.ahead, steps, series, call.past.tobytes())
        frame = msgspec.msgpack.encode(question)
        process.stdin.write(len(frame).to_bytes(_PREFIX_BYTES, "big") + frame)
        await process.stdin.drain()
        length = int.from_bytes(await process.stdout.readexactly(_PREFIX_BYTES), "big")
        if length > MAX_FRAME_BYTES:
            raise msgspec.ValidationError(f"a frame of {length} bytes, limit {MAX_FRAME_BYTES}")
        return msgspec.msgpack.decode(await process.stdout.readexactly(length), type=Answer)
