"""Handlers for trying things; `Agent.add_builtins` registers them.

| type | payload | what it does |
|---|---|---|
| `noop` | any | nothing |
| `echo` | any | returns its payload |
| `sleep` | `{"seconds": 1.5}` | waits; ends at once when it is stopped |
| `fail` | `{"message": "...", "times": 2}` | fails the first `times` attempts (or all), then completes |
| `shell` | `{"command": ["ls", "-l"]}` | runs a program without a shell; returns what it writes |
| any other | `{"seconds": 1.5}` | as `sleep`, where work of types without a handler is to be simulated |
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Any, Final

from agent_sdk._context import TaskContext
from agent_sdk._executor import ANY_TYPE, Handler
from agent_sdk.errors import PermanentError

SHELL_OUTPUT_BYTES: Final = 64 << 10
"""What is kept of a command's output (stdout and stderr together); the rest is read and dropped."""
ERROR_TAIL_CHARS: Final = 1_000


def handlers(*, shell: bool, simulate: bool) -> dict[str, Handler]:
    """By task type; `shell` only if allowed, as it runs whatever a submitter asks for. With `simulate` every
    other type is slept through."""
    table: dict[str, Handler] = {"noop": noop, "echo": echo, "sleep": sleep, "fail": fail}
    if shell:
        table["shell"] = run_command
    if simulate:
        table[ANY_TYPE] = sleep
    return table


async def noop(context: TaskContext) -> None:
    """Completes."""


async def echo(context: TaskContext) -> bytes:
    """Returns its payload."""
    return context.payload


async def sleep(context: TaskContext) -> None:
    """Waits for `seconds`."""
    seconds = _field(context, "seconds", int | float)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await context.wait_cancelled()
    context.raise_if_cancelled()


async def fail(context: TaskContext) -> None:
    """Fails with `message`, in the first `times` attempts."""
    given = _fields(context)
    times = given.get("times")
    if times is None or context.attempt <= times:
        raise RuntimeError(given.get("message", "failed, as it was asked to"))


async def run_command(context: TaskContext) -> bytes:
    """Runs `command`, a list of words, in a process group of its own, which is killed when the attempt is
    stopped. Raises RuntimeError with the end of the output when the exit status is not 0."""
    command = _field(context, "command", list)
    if not command or not all(isinstance(word, str) for word in command):
        raise PermanentError("the payload's `command` must be a list of words, with at least one")
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise PermanentError(f"cannot run {command[0]!r}: {error}") from error
    stopper = asyncio.create_task(_kill_when_stopped(context, process))
    try:
        output = await _read_output(process)
        status = await process.wait()
    finally:
        stopper.cancel()
        _kill(process)
    context.raise_if_cancelled()
    if status != 0:
        tail = output.decode(errors="replace")[-ERROR_TAIL_CHARS:]
        raise RuntimeError(f"{command[0]!r} ended with status {status}: {tail}")
    return output


async def _kill_when_stopped(context: TaskContext, process: asyncio.subprocess.Process) -> None:
    await context.wait_cancelled()
    _kill(process)


def _kill(process: asyncio.subprocess.Process) -> None:
    """The whole group, so that nothing that the command started stays behind."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _read_output(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None  # it was asked for as a pipe
    kept = bytearray()
    while chunk := await process.stdout.read(SHELL_OUTPUT_BYTES):
        kept += chunk[: SHELL_OUTPUT_BYTES - len(kept)]
    return bytes(kept)


def _fields(context: TaskContext) -> dict[str, Any]:
    try:
        given = context.json() if context.payload else {}
    except ValueError as error:
        raise PermanentError(
            f"the payload of a {context.type!r} task must be a JSON object: {error}"
        ) from error
    if not isinstance(given, dict):
        raise PermanentError(f"the payload of a {context.type!r} task must be a JSON object")
    return given


def _field(context: TaskContext, name: str, kind: Any) -> Any:
    value = _fields(context).get(name)
    if not isinstance(value, kind):
        raise PermanentError(
            f"the payload of a {context.type!r} task lacks {name!r}, or it has the wrong type"
        )
    return value
