"""`python -m examples.demo`: three nodes, eight agents, real workflows; the leader and an agent are killed
in mid-run.

Exit code 0 only if every promise held: every task COMPLETED, no effect missing, no result recorded twice,
all nodes the same.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from agent_sdk import Client, QuorumflowError
from chaos.checking.promises import Check, check_all
from chaos.effects import effects_of
from chaos.gathering import gather
from chaos.recorder import Recorder
from coordinator.api.convert import draft_to_proto
from coordinator.cli.local_cluster import LocalCluster
from coordinator.dag.analysis import critical_path
from coordinator.dag.builder import build
from coordinator.dag.draft import DagDraft
from coordinator.dag.formats.detect import parse
from coordinator.dag.limits import DagLimits
from coordinator.errors import CoordinatorError
from examples.demo.board import Board
from examples.demo.crew import CREW, EXPENDABLE

_DEFAULT_WORKFLOW: Final = Path(__file__).parent.parent / "assembly-line.yaml"
_KILL_LEADER_AT: Final = 0.25
_KILL_AGENT_AT: Final = 0.5
_REFRESH_S: Final = 0.1
_PATIENCE_S: Final = 300.0
"""What has not ended by then is judged as it stands."""

_TARGET_S: Final = 12.0
_CALL_TIMEOUT_S: Final = 10.0


class Demo:
    """One run."""

    def __init__(self, cluster: LocalCluster, drafts: list[DagDraft], console: Console) -> None:
        self._cluster = cluster
        self._drafts = drafts
        self._console = console
        self._client = Client(cluster.endpoints, timeout_s=_CALL_TIMEOUT_S)
        self._recorder = Recorder(cluster.endpoints)
        self._total = sum(len(draft.tasks) for draft in drafts)
        self._board = Board(self._total)
        self._leader_killed_ms = 0
        self._killed_node = ""
        self._killed_agent = ""

    def run(self) -> bool:
        """Submit, watch, break, wait, judge; whether every promise held."""
        self._recorder.start()
        began = time.monotonic()
        submitted = {
            self._client.submit_spec(draft_to_proto(draft)): len(draft.tasks) for draft in self._drafts
        }
        dag_ids = list(submitted)
        self._tell(f"submitted {len(dag_ids)} workflows, {self._total} tasks")
        with Live(
            self._board, console=self._console, refresh_per_second=10, transient=not self._console.is_terminal
        ):
            while not self._look(dag_ids) and time.monotonic() - began < _PATIENCE_S:
                time.sleep(_REFRESH_S)
                self._break_things()
        makespan_s = time.monotonic() - began
        checks = check_all(gather(self._client, submitted, self._recorder, effects_of(self._cluster)))
        self._recorder.stop()
        self._client.close()
        self._report(checks, makespan_s)
        return all(check.held for check in checks)

    def _look(self, dag_ids: list[str]) -> bool:
        """Bring the board up to date; whether all has ended."""
        try:
            dags = [self._client.get(dag_id) for dag_id in dag_ids]
            self._board.update(dags, self._client.cluster_status(), list(self._client.agents()))
        except QuorumflowError as error:
            self._board.leaderless()
            self._tell(error.message)
            return False
        return all(dag.finished for dag in dags)

    def _break_things(self) -> None:
        share = self._board.completed / self._total
        if share >= _KILL_LEADER_AT and not self._killed_node:
            self._killed_node = self._cluster.leader()
            self._board.leaderless()
            self._tell(f"kill -9 the leader, {self._killed_node}")
            self._leader_killed_ms = time.time_ns() // 1_000_000
            self._cluster.kill_node(self._killed_node)
        elif share >= _KILL_AGENT_AT and not self._killed_agent:
            self._killed_agent = self._busy_expendable()
            self._tell(f"kill -9 an agent, {self._killed_agent}; {self._killed_node} starts again")
            self._cluster.kill_agent(self._killed_agent)
            self._cluster.restart_node(self._killed_node)

    def _tell(self, news: str) -> None:
        line = self._board.tell(news)
        if not self._console.is_terminal:
            self._console.print(line)

    def _busy_expendable(self) -> str:
        busy = {agent.agent_id for agent in self._client.agents() if agent.running}
        return next((name for name in EXPENDABLE if name in busy), EXPENDABLE[0])

    def _report(self, checks: list[Check], makespan_s: float) -> None:
        table = Table("promise", "", "found", title="Summary")
        for check in checks:
            table.add_row(check.promise, "held" if check.held else "BROKEN", check.found)
        self._console.print(table)
        first = self._recorder.first_assignment_after(self._leader_killed_ms)
        gap = "nothing was left to assign" if first is None else f"{first - self._leader_killed_ms} ms"
        self._console.print(f"leader killed -> next assignment by its successor: {gap}")
        self._console.print(
            f"{self._total} tasks in {makespan_s:.1f} s: {self._total / makespan_s:.1f} tasks/s"
        )


@click.command()
@click.option(
    "--workflow", "workflows", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--speedup", type=click.FloatRange(min=0, min_open=True), help="divides the run times of traces"
)
@click.option("--copies", default=2, show_default=True, help="of each workflow, running side by side")
@click.option("--dir", "directory", default=".demo", show_default=True, type=click.Path(path_type=Path))
def main(workflows: tuple[Path, ...], speedup: float | None, copies: int, directory: Path) -> None:
    """Run workflows on a local cluster that loses its leader and an agent, and check what became of them."""
    console = Console()
    try:
        drafts = [
            parse(path.read_text(), name=path.stem, speedup=speedup or _fitting_speedup(path))
            for path in workflows or (_DEFAULT_WORKFLOW,)
            for _ in range(copies)
        ]
        LocalCluster.discard(directory)
        console.print(f"starting 3 nodes and {len(CREW)} agents in {directory} ...")
        with LocalCluster.start(directory, nodes=3, agents=CREW, effects=True) as cluster:
            held = Demo(cluster, drafts, console).run()
    except (CoordinatorError, QuorumflowError) as error:
        console.print(f"[red]{error}[/red]")
        sys.exit(2)
    sys.exit(0 if held else 1)


def _fitting_speedup(path: Path) -> float:
    """For a trace of unknown length: about `_TARGET_S` for the crew, be it by its work or by its longest
    path."""
    draft = parse(path.read_text(), name=path.stem, speedup=1.0)
    draft.header.dag_id = path.stem
    built = build(draft, DagLimits())
    work_s = sum(built.block.expected_ms) / 1000 / len(CREW)
    path_s = critical_path(built).length_ms / 1000
    return max(1.0, work_s / _TARGET_S, path_s / _TARGET_S)


if __name__ == "__main__":
    main()
