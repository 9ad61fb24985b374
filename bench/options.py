"""Options that several programs have."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.results import new_file


class Finite(click.FloatRange):
    """A number in a range, which infinity is not, nor what is no number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class Target(click.Path):
    """A file that will be written when all has been measured: that it can be is found out before. Its folder
    is made."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        file = Path(os.fsdecode(super().convert(value, param, ctx)))
        there = file.exists()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.open("ab").close()
        except OSError as error:
            self.fail(f"{file} cannot be written: {error.strerror}", param, ctx)
        if not there:
            file.unlink()
        return file


def json_option(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option `--json FILE` of a program whose reports have this name, as the argument `file`."""
    return click.option(
        "--json",
        "file",
        type=Target(),
        default=lambda: new_file(name),
        show_default=f"bench/results/{name}-TIME.json",
        help="Where the report goes.",
    )


def scale_option() -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option `--scale`, as the argument `scale`."""
    return click.option("--scale", type=Finite(0, 1, min_open=True), default=1.0, help="To try it.")
