"""What all programs that measure have around it: a folder that goes in the end, and an end that ends all that
was started, however it comes."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import click
import psutil

from agent_sdk.errors import QuorumflowError
from coordinator.errors import CoordinatorError

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INSISTENT: Final = 5
"""Whoever asks so often to end does not have to wait any more."""
_FORESEEN: Final = (CoordinatorError, QuorumflowError, TimeoutError, RuntimeError)
"""What is said in a line, as it says by itself what to do."""


@contextmanager
def workplace(keep: Path | None = None) -> Iterator[Path]:
    """A folder for what is started and measured, `keep` or else one that is gone in the end. Ctrl-C, SIGTERM
    and SIGHUP all end the program as Ctrl-C does, and whoever asks once more has to wait: processes that stay
    behind spoil what is measured after. Raises ClickException for what is foreseen to fail."""
    with _ends_once():
        before = _children()
        folder = keep or Path(tempfile.mkdtemp(prefix="quorumflow-bench-"))
        try:
            yield folder
        except _FORESEEN as error:
            raise click.ClickException(_in_words(error)) from error
        except ExceptionGroup as group:
            foreseen, others = group.split(_FORESEEN)
            if foreseen is None or others is not None:
                raise
            raise click.ClickException(_in_words(foreseen)) from group
        finally:
            # One that was started in the very moment of the end is nobody's.
            for child in _children() - before:
                child.kill()
                child.wait()
            if keep is None:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ends_once() -> Iterator[None]:
    asked = 0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        del number, frame
        asked += 1
        if 1 < asked < _INSISTENT:
            click.echo("ending what was started ...", err=True)
            return
        raise KeyboardInterrupt

    before = {one: signal.signal(one, end) for one in _ENDING}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def _in_words(error: Exception) -> str:
    """Of a group the first: the others came of it, or say the same."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
