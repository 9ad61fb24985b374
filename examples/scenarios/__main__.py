"""`python -m examples.scenarios [NAME ...]`: what was measured in each scenario, beside what is asked for.

Exit code 1 if a figure misses its bound. On a machine that is busy with other things, those of the real
clusters mean little.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final

import click
from rich.console import Console

from examples.scenarios import data_processing, drones, manufacturing, science, traffic
from examples.scenarios.findings import Scenario

SCENARIOS: Final[Mapping[str, Callable[[], Scenario]]] = {
    "manufacturing": manufacturing.run,
    "data-processing": data_processing.run,
    "traffic": traffic.run,
    "drones": drones.run,
    "science": science.run,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*SCENARIOS]))
def main(names: tuple[str, ...]) -> None:
    """Run these scenarios, or all of them."""
    console, missed = Console(), 0
    for name in names or SCENARIOS:
        scenario = SCENARIOS[name]()
        console.print(scenario)
        missed += len(list(scenario.missed))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
