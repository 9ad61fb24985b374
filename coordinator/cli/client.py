"""`coordctl`: submits DAGs to a cluster and follows them. Exit codes are those of `coordinator.cli.exits`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from agent_sdk.types import FINAL_STATES, DagEvent, DagStatus
from coordinator.cli import views
from coordinator.cli.backups import backup, restore
from coordinator.cli.decisions import decisions, print_explanation
from coordinator.cli.exits import Exit
from coordinator.cli.forecasts import forecast
from coordinator.cli.groups import groups
from coordinator.cli.keys import kv
from coordinator.cli.members import member
from coordinator.cli.namespaces import namespace
from coordinator.cli.output import Format, note, print_json, print_record, print_table
from coordinator.cli.program import Program
from coordinator.cli.reservations import reservation
from coordinator.cli.session import Session, root_options, session_options, stale_option
from coordinator.errors import WrongState

_DAG_STATES: Final = ("STAGING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@root_options
@click.version_option(package_name="quorumflow")
def main() -> None:
    """Submit DAGs to a Quorumflow cluster, and follow them.

    Exit codes: 0 done; 1 the DAG failed or was cancelled; 2 wrong usage or input; 3 not found; 4 the cluster
    did not answer in time; 5 refused by state or limit; 6 an internal error.
    """


# --- DAGs ---------------------------------------------------------------------------------------------------


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--wait", is_flag=True, help="Wait until it has ended; exit with 1 unless it COMPLETED.")
@click.option("--speedup", type=float, default=1.0, show_default=True, help="Divide a trace's run times.")
@click.option("--name", help="The DAG's name, instead of the file's.")
@click.option("--namespace", help="The DAG's namespace, instead of the file's.")
@click.option("--policy", help="How it is placed, instead of the file's.")
@click.option("--dag-id", help="The DAG's id; a second submission under it is refused.")
@session_options
@click.pass_obj
def submit(session: Session, /, file: Path, wait: bool, speedup: float, **header: str | None) -> None:
    """Submit the workflow in FILE (our YAML or JSON, or WfFormat); "-" reads it from stdin."""
    # Imported here: building DAGs loads half of the server, which no other command needs.
    from coordinator.cli.workflow_file import read_spec

    spec = read_spec(file, speedup)
    for name, value in header.items():
        if value is not None:
            setattr(spec, name, value)
    with session.client() as client:
        dag_id = client.submit_spec(spec)
        if not wait:
            session.show({"dag_id": dag_id})
            return
        status = client.wait(dag_id, session.timeout_s)
    session.show(views.ended(status))
    _exit_unless_completed(status)


@main.command()
@click.argument("dag_id")
@click.option("--tasks", is_flag=True, help="Also every task with its attempts.")
@click.option("--check", is_flag=True, help="Exit with 1 if it FAILED or was CANCELLED.")
@stale_option
@session_options
@click.pass_obj
def status(session: Session, dag_id: str, tasks: bool, check: bool, stale: bool) -> None:
    """Show a DAG."""
    with session.client() as client:
        found = client.get(dag_id, allow_stale=stale)
        view = views.dag(found)
        if tasks:
            view = views.dag_with_tasks(found, client.tasks(dag_id, allow_stale=stale))
    if stale:
        view |= views.freshness(found)
    if tasks and session.output is Format.TABLE:
        rows = view.pop("tasks")
        print_record(view)
        print_table(
            [_task_row(row) for row in rows], ["id", "state", "attempts", "agent", "progress", "reason"]
        )
    else:
        session.show(view)
    if check and found.finished:
        _exit_unless_completed(found)


@main.command(name="list")
@click.option("--state", "states", multiple=True, type=click.Choice(_DAG_STATES, case_sensitive=False))
@click.option("--namespace", default="", help="Only this one's DAGs.")
@stale_option
@session_options
@click.pass_obj
def list_dags(session: Session, states: tuple[str, ...], namespace: str, stale: bool) -> None:
    """List DAGs, finished ones that are still kept included."""
    with session.client() as client:
        found = list(client.list(namespace=namespace, states=states, allow_stale=stale))
    dags = [views.dag(one) | (views.freshness(one) if stale else {}) for one in found]
    if session.output is Format.JSON:
        print_json({"dags": dags})
    else:
        columns = ["dag_id", "name", "namespace", "state", "tasks", "makespan_s"]
        print_table(dags, [*columns, "stale", "age_ms"] if stale else columns)


@main.command()
@click.argument("dag_id", default="")
@click.option("--from-revision", type=click.IntRange(min=0), default=0, help="Replay from here.")
@session_options
@click.pass_obj
def watch(session: Session, dag_id: str, from_revision: int) -> None:
    """Print events as they happen, one a line: of DAG_ID until it has ended, or of everything."""
    with session.client() as client:
        if dag_id:
            found = client.get(dag_id)
            if found.finished and not from_revision:
                session.show(views.ended(found))
                return
            from_revision = from_revision or found.revision + 1
        for change in client.watch(dag_id, from_revision):
            view = views.event(change)
            if session.output is Format.JSON:
                print_json(view)
            else:
                click.echo(" ".join(str(value) for value in view.values() if value != ""))
            if dag_id and isinstance(change, DagEvent) and change.state in FINAL_STATES:
                return


@main.command()
@click.argument("dag_id")
@click.option("--task", "task_id", help="Only this task, and what depends on it.")
@click.option("--reason", default="", help="Kept with what is cancelled.")
@session_options
@click.pass_obj
def cancel(session: Session, dag_id: str, task_id: str | None, reason: str) -> None:
    """Cancel a DAG: once this returns, no further task of it starts."""
    with session.client() as client:
        if task_id is None:
            session.show({"dag_id": dag_id, "state": client.cancel(dag_id, reason)})
        else:
            state = client.cancel_task(dag_id, task_id, reason)
            session.show({"dag_id": dag_id, "task_id": task_id, "state": state})


# --- tasks --------------------------------------------------------------------------------------------------


@main.command()
@click.argument("dag_id")
@click.argument("task_id")
@click.option("--reason", default="", help="Kept with the attempt.")
@session_options
@click.pass_obj
def reschedule(session: Session, dag_id: str, task_id: str, reason: str) -> None:
    """Take a task from its agent, or end its wait for the next attempt."""
    with session.client() as client:
        state = client.reschedule(dag_id, task_id, reason)
    session.show({"dag_id": dag_id, "task_id": task_id, "state": state})


@main.command()
@click.argument("dag_id")
@click.argument("task_id")
@stale_option
@session_options
@click.pass_obj
def result(session: Session, dag_id: str, task_id: str, stale: bool) -> None:
    """Print what a task left, byte for byte; exit with 1 if it did not complete."""
    with session.client() as client:
        found = client.result(dag_id, task_id, allow_stale=stale)
    if found.state not in FINAL_STATES:
        raise WrongState(f"task {task_id!r} is {found.state} and has no result yet", state=found.state)
    if session.output is Format.JSON:
        print_json(views.result(found) | (views.freshness(found) if stale else {}))
    elif found.state == "COMPLETED":
        sys.stdout.buffer.write(found.data or found.reference.encode())
    else:
        click.echo(f"task {task_id!r} is {found.state}: {found.error or 'no reason was given'}", err=True)
    if stale and session.output is not Format.JSON:
        note(views.freshness(found))
    if found.state != "COMPLETED":
        raise SystemExit(Exit.FAILED)


@main.command()
@click.argument("dag_id")
@click.argument("task_id")
@session_options
@click.pass_obj
def explain(session: Session, dag_id: str, task_id: str) -> None:
    """Say why a task is not running, or why its agent has it."""
    with session.client() as client:
        found = client.explain(dag_id, task_id)
    view = views.explanation(dag_id, task_id, found)
    if session.output is Format.JSON:
        print_json(view)
    else:
        print_explanation(view, found)


# --- the key-value space ------------------------------------------------------------------------------------

main.add_command(kv)
main.add_command(member)
main.add_command(namespace)
main.add_command(reservation)
main.add_command(backup)
main.add_command(decisions)
main.add_command(forecast)
main.add_command(groups)
main.add_command(restore)


# --- the cluster --------------------------------------------------------------------------------------------


@main.command()
@session_options
@click.pass_obj
def agents(session: Session) -> None:
    """List the agents."""
    with session.client() as client:
        found = [views.agent(one) for one in client.agents()]
    if session.output is Format.JSON:
        print_json({"agents": found})
    else:
        counts = ["slots", "held", "running", "completed", "failed"]
        print_table(found, ["id", "state", *counts, "load", "overloaded", "capabilities", "labels"])


@main.group()
def cluster() -> None:
    """About the cluster itself."""


@cluster.command(name="status")
@session_options
@click.pass_obj
def cluster_status(session: Session) -> None:
    """Show the leader, its term and every node."""
    with session.client() as client:
        view = views.cluster(client.cluster_status())
    if session.output is Format.TABLE:
        nodes = view.pop("nodes")
        print_record(view)
        columns = [
            "id", "role", "kind", "grpc", "raft", "applied_index", "lag", "digest", "draining", "version",
            "alarms",
        ]  # fmt: skip
        print_table(nodes, columns)
    else:
        session.show(view)


@main.group()
def drain() -> None:
    """Give an agent or a node nothing new."""


@drain.command(name="agent")
@click.argument("agent_id")
@click.option("--undo", is_flag=True, help="Let it work again.")
@session_options
@click.pass_obj
def drain_agent(session: Session, agent_id: str, undo: bool) -> None:
    """Let an agent finish what it holds and give it nothing new."""
    with session.client() as client:
        session.show({"agent_id": agent_id, "state": client.drain_agent(agent_id, undo=undo)})


@drain.command(name="node")
@click.argument("node_id")
@click.option("--undo", is_flag=True, help="Let it lead again.")
@session_options
@click.pass_obj
def drain_node(session: Session, node_id: str, undo: bool) -> None:
    """Move leadership away from a node and keep it from standing for election."""
    with session.client() as client:
        session.show({"node_id": node_id, "leader": client.drain_node(node_id, undo=undo)})


def _exit_unless_completed(found: DagStatus) -> None:
    if found.state != "COMPLETED":
        raise SystemExit(Exit.FAILED)


def _task_row(task: views.View) -> views.View:
    attempts = task["attempts"]
    return task | {"attempts": len(attempts), "agent": attempts[-1]["agent"] if attempts else ""}


if __name__ == "__main__":
    main()
