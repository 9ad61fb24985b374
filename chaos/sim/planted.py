"""`python -m chaos.sim.planted`: the simulator is tested itself. A bug is planted, and seeds are run until
one breaks a promise. Exit codes: 0 every bug was found, 1 one was not."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chaos.sim.bugs import BUGS, Bug, Swap
from chaos.sim.plan import draw
from chaos.sim.run import run

_TOLD = 100
"""Of what was broken, so many characters are shown."""


class Found(NamedTuple):
    """`seed` was the first to find the bug, after `seeds` runs; `violation` is the first promise it broke."""

    seed: int
    seeds: int
    violation: str


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The bug is in the code of this process, for as long as this lasts."""
    former = [_put(swap) for swap in bug.swaps]
    try:
        yield
    finally:
        for swap in reversed(former):
            _put(swap)


def hunt(bug: Bug, seeds: Iterable[int], kinds: Sequence[str]) -> Found | None:
    """Run the seeds with the bug, and faults of these kinds, until one finds it; None if none does."""
    with planted(bug):
        for tried, seed in enumerate(seeds, start=1):
            violations = run(draw(seed, kinds)).violations
            if violations:
                return Found(seed, tried, violations[0])
    return None


def _put(swap: Swap) -> Swap:
    """Make the swap; returns the one that undoes it."""
    owner, name, replacement = swap
    if isinstance(owner, dict):
        former, owner[name] = owner[name], replacement
    else:
        former = getattr(owner, name)
        setattr(owner, name, replacement)
    return Swap(owner, name, former)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True, help="To try for each.")
@click.option("--from", "first", type=click.IntRange(0), default=1, show_default=True, help="The first one.")
@click.option("--swarm", is_flag=True, help="Draw the faults as `make sim` does, from all kinds.")
@click.argument("names", nargs=-1)
def main(seeds: int, first: int, swarm: bool, names: tuple[str, ...]) -> None:
    """Plant one bug after another (all, or those of these NAMES), and say which seed found it, and how."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table("planted bug", "seed", "tried", "what was broken", box=SIMPLE)
    missed = 0
    for name in names or BUGS:
        if name not in BUGS:
            raise click.BadParameter(f"there is no bug {name!r}; there are {', '.join(map(repr, BUGS))}")
        bug = BUGS[name]
        found = hunt(bug, range(first, first + seeds), () if swarm else bug.kinds)
        if found is None:
            missed += 1
            table.add_row(name, "NOT FOUND", str(seeds), "")
        else:
            told = found.violation.splitlines()[0][:_TOLD]
            table.add_row(name, str(found.seed), str(found.seeds), escape(told))
        console.print(f"{name}: {'not found' if found is None else 'found'}", style="dim")
    console.print(table)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
