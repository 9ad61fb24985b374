"""`python -m bench.peers [PEER...]`: the workloads on other systems and on ours, by turns."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import click

from bench import etcd
from bench.options import Target, json_option, scale_option
from bench.peers import writes
from bench.peers.environments import PEERS, Peer, Unavailable, prepare
from bench.peers.measures import CALM, WRITES, Workload, losses
from bench.peers.picture import draw
from bench.peers.ratios import Comparison, Figures, compare, table
from bench.peers.sides import Ours, Program, Side, SideFailed
from bench.results import Facts, facts, save
from bench.running import workplace
from coordinator.errors import CoordinatorError

_TITLES: Final = {peer.name: peer.title for peer in PEERS}


class Plan(NamedTuple):
    """How much is measured."""

    runs: int
    scale: float
    patience_s: int

    def workloads(self, peer: str) -> list[Workload]:
        """Those of a peer that runs tasks."""
        return [*(one.scaled(self.scale) for one in CALM), *losses(peer, self.patience_s)]


class Findings(NamedTuple):
    """What came of it; `missing` says, by peer or by peer and workload, why there are no figures."""

    comparisons: list[Comparison]
    versions: dict[str, str]
    missing: dict[str, str]

    def miss(self, what: str, reason: object) -> None:
        """Say it at once, and again in the report."""
        self.missing[what] = str(reason)
        click.echo(f"{what}: not measured: {reason}")


@click.command()
@click.argument("peers", nargs=-1, type=click.Choice(list(_TITLES)))
@click.option(
    "--runs", type=click.IntRange(1), default=3, show_default=True, help="Of each workload and side."
)
@scale_option()
@click.option(
    "--patience",
    type=click.IntRange(1),
    default=120,
    show_default=True,
    help="Seconds for lost tasks to begin again.",
)
@json_option("peers")
@click.option("--picture", type=Target(), help="Default: beside the JSON file, as SVG.")
def main(
    peers: tuple[str, ...], runs: int, scale: float, patience: int, file: Path, picture: Path | None
) -> None:
    """Compare with PEERS, or with all. Each is installed into .peers when it is first needed."""
    plan = Plan(runs, scale, patience)
    ours = facts()
    findings = Findings([], {}, {})
    try:
        with workplace() as folder:
            for peer in PEERS:
                if not peers or peer.name in peers:
                    _measure(peer, plan, folder, findings)
    finally:
        # What was measured before a failure took minutes as well.
        _tell(plan, ours, findings, file, picture or file.with_suffix(".svg"))


def _tell(plan: Plan, ours: Facts, findings: Findings, file: Path, picture: Path) -> None:
    click.echo(table(findings.comparisons, _TITLES))
    for what, reason in findings.missing.items():
        click.echo(f"{what}: not measured: {reason}")
    save(_report(plan, ours, findings), file)
    if findings.comparisons:
        draw(findings.comparisons, _TITLES, picture)
        click.echo(f"drawn to {picture}")


def _measure(peer: Peer, plan: Plan, folder: Path, findings: Findings) -> None:
    """One peer; whatever keeps it from being measured is noted, and the others go on."""
    try:
        python = prepare(peer)
        if peer.name == "etcd":
            findings.versions["etcd"] = etcd.version()
            runs = writes.measure(folder / peer.name, plan.runs, plan.scale)
            findings.comparisons.extend(compare(peer.name, WRITES, runs))
            return
        with (
            Program(peer.name, python, folder / peer.name) as theirs,
            Ours(folder / f"beside-{peer.name}") as ours,
        ):
            findings.versions.update(theirs.versions)
            for workload in plan.workloads(peer.name):
                _measure_one(peer, workload, plan.runs, (ours, theirs), findings)
    except (Unavailable, SideFailed, CoordinatorError, TimeoutError) as error:
        findings.miss(peer.name, error)


def _measure_one(
    peer: Peer, workload: Workload, runs: int, sides: tuple[Side, Side], findings: Findings
) -> None:
    found: list[tuple[Figures, Figures]] = []
    try:
        for number in range(runs):
            found.append(_take_turns(workload, sides, theirs_first=bool(number % 2)))
            # What waits in vain once, and long, does so again.
            if None in found[-1][1].values():
                break
    except SideFailed as error:
        findings.miss(f"{peer.name} {workload.name}", error)
    if found:
        new = compare(peer.name, workload.measures, found)
        click.echo(table(new, _TITLES).partition("\n")[2])
        findings.comparisons.extend(new)


def _take_turns(
    workload: Workload, sides: tuple[Side, Side], *, theirs_first: bool
) -> tuple[Figures, Figures]:
    ours, theirs = sides
    if theirs_first:
        their_figures = theirs.run(workload.name, workload.size)
        return ours.run(workload.name, workload.size), their_figures
    our_figures = ours.run(workload.name, workload.size)
    return our_figures, theirs.run(workload.name, workload.size)


def _report(plan: Plan, ours: Facts, findings: Findings) -> dict[str, object]:
    by_key: dict[str, dict[str, object]] = {}
    for one in findings.comparisons:
        by_key.setdefault(one.measure.key, {})[one.peer] = one.as_json()
    return {
        "machine": ours.machine,
        "versions": {**ours.versions, **findings.versions},
        "plan": plan._asdict(),
        "workloads": by_key,
        "missing": findings.missing,
    }


if __name__ == "__main__":
    main()
