"""`coordinator`: runs a node or an agent, or a whole cluster on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
import structlog

from coordinator import telemetry
from coordinator.addresses import UNNAMED, Id
from coordinator.cli.agent_spec import MAX_AGENTS, AgentSpec, alike, read_agent_specs
from coordinator.cli.exits import exit_of
from coordinator.cli.output import print_rows
from coordinator.cli.program import Program
from coordinator.errors import ConfigError, CoordinatorError

if TYPE_CHECKING:
    from coordinator.config import Given

_FLAGS: Final = (
    "node_id", "cluster_id", "cluster_nodes", "data_dir", "listen_host", "advertise_host", "grpc_port",
    "raft_port", "tls.mode", "tls.ca", "tls.cert", "tls.key", "log.level", "log.format",
)  # fmt: skip
"""Settings with a flag of their own; `--set` reaches all of them."""


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quorumflow")
def main() -> None:
    """Run Quorumflow: a node, an agent, or a whole cluster on this machine.

    Exit codes: 0 done; 1 stopped by a fault; 2 wrong usage or configuration; 3 not found; 4 could not start
    in time; 5 refused by state; 6 an internal error.
    """


# --- a node -------------------------------------------------------------------------------------------------


def config_options(command: Any) -> Any:
    """`--config`, `--set KEY=VALUE`, and a flag for each of the usual settings."""
    for key in reversed(_FLAGS):
        flag = "--" + key.replace(".", "-").replace("_", "-")
        command = click.option(flag, key.replace(".", "__"), metavar="VALUE", help=f"Sets {key}.")(command)
    command = click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any setting.")(
        command
    )
    return click.option("--config", "file", type=click.Path(path_type=Path), help="YAML file.")(command)


@main.command()
@config_options
def serve(file: Path | None, assignments: tuple[str, ...], **flags: str | None) -> None:
    """Run one node until SIGTERM. With no configuration at all it is a cluster of its own on 127.0.0.1:7400.

    Logs to stderr; once it serves, prints its addresses as one line of JSON.
    """
    # Imported here: `up`, `down` and `agent` do not need the server's half of the program, and start sooner.
    from coordinator.config import load

    config, _ = load(file, os.environ, _given(assignments, flags))
    telemetry.configure(level=config.log.level, format=config.log.format, node=config.node_id)
    import uvloop

    from coordinator.api.server import Addresses, run_node
    from coordinator.replica.collecting import spare_what_is_there

    def announce(addresses: Addresses) -> None:
        click.echo(json.dumps({"node_id": config.node_id, "grpc": addresses.grpc, "raft": addresses.raft}))

    spare_what_is_there()
    try:
        uvloop.run(run_node(config, on_ready=announce))
    except CoordinatorError as error:
        structlog.get_logger(__name__).error(
            "stopped", error=error.message, reason=error.reason, **error.fields
        )
        raise SystemExit(exit_of(error)) from error


@main.command()
@config_options
def config(file: Path | None, assignments: tuple[str, ...], **flags: str | None) -> None:
    """Check the configuration, and print every setting with its value and where it came from."""
    from coordinator.config import DEFAULT, Given, load, settings
    from coordinator.plugins import wanted

    checked, given = load(file, os.environ, _given(assignments, flags))
    wanted(checked.scheduling)
    rows = []
    for key, setting in settings().items():
        value, source = given.get(key, Given(setting.default, DEFAULT))
        rows.append([key, str(value), source])
    print_rows(["setting", "value", "source"], rows)


@main.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE[=HOST,...]...")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder.")
@click.option("--cluster-id", default=UNNAMED, show_default=True)
@click.option("--days", type=click.IntRange(1, 3_650), default=365, show_default=True, help="Of the nodes'.")
@click.option(
    "--ca-days", type=click.IntRange(1, 36_500), default=3_650, show_default=True, help="Of a new authority."
)
def certs(nodes: tuple[str, ...], out: Path, cluster_id: str, days: int, ca_days: int) -> None:
    """Make certificates by which nodes know each other, with an authority in the folder for development.

    The authority is made with the first nodes; later ones are added by it. HOSTs are names or addresses of
    the node. Nothing is overwritten: to renew a certificate, move the old one and its key away first.
    """
    from coordinator.cli.authority import Authority

    named = [_node_with_hosts(text) for text in nodes]
    authority = Authority.found(out, _checked_id("--cluster-id", cluster_id), days=ca_days)
    for node, hosts in named:
        files = authority.issue(node, hosts, days=days)
        click.echo(f"{node}: --tls-ca {files.ca} --tls-cert {files.cert} --tls-key {files.key}")
    click.echo(f"keep {out / 'ca.key'} away from the nodes: whoever has it can be any of them")


# --- an agent -----------------------------------------------------------------------------------------------


@main.command()
@click.option("--endpoints", default="127.0.0.1:7400", envvar="AGENT_ENDPOINTS", show_default=True)
@click.option("--id", "id", help="Keep it over restarts. By default the machine's name and a random part.")
@click.option("--slots", type=click.IntRange(1, 10_000), default=3, show_default=True, help="Tasks at once.")
@click.option("--capability", "capabilities", multiple=True, metavar="NAME[=LEVEL]")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE")
@click.option("--zone", default="")
@click.option("--tool", "tools", multiple=True)
@click.option("--permission", "permissions", multiple=True)
@click.option("--environment", "environments", multiple=True)
@click.option("--protocol", "protocols", multiple=True)
@click.option("--cached-model", "cached_models", multiple=True)
@click.option(
    "--speed",
    type=click.FloatRange(0, 1_000, min_open=True),
    default=1.0,
    show_default=True,
    help="Relative to other agents.",
)
@click.option(
    "--busy-watts",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Power that one busy slot adds; 0: not known.",
)
@click.option("--tool-limit", "tool_limits", multiple=True, metavar="NAME=TASKS", help="At once, here.")
@click.option("--model-limit", "model_limits", multiple=True, metavar="NAME=TASKS", help="At once, here.")
@click.option("--data", multiple=True, help="A data item or location that is here.")
@click.option("--group", "groups", multiple=True, help="Of agents, that it belongs to.")
@click.option("--shell", is_flag=True, help="Allow tasks of type shell, which run any command.")
@click.option(
    "--simulate", is_flag=True, help="Sleep through tasks of any other type, for the payload's seconds."
)
@click.option("--effects", "effects_path", type=click.Path(path_type=Path), help="Record every attempt here.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@click.option("--log-format", type=click.Choice(["json", "console"]), default="json")
def agent(
    endpoints: str,
    id: str | None,  # noqa: A002 - the flag's name
    capabilities: tuple[str, ...],
    labels: tuple[str, ...],
    tool_limits: tuple[str, ...],
    model_limits: tuple[str, ...],
    shell: bool,
    simulate: bool,
    log_level: str,
    log_format: str,
    **profile: Any,
) -> None:
    """Run an agent with the built-in handlers sleep, noop, fail, echo, until SIGTERM."""
    from agent_sdk import Agent

    worker = Agent(
        endpoints,
        id,
        capabilities=_numbers(capabilities, "--capability", "1"),
        labels=dict(_pairs(labels, "--label", None)),
        tool_limits=_numbers(tool_limits, "--tool-limit", None),
        model_limits=_numbers(model_limits, "--model-limit", None),
        **profile,
    )
    telemetry.configure(level=log_level, format=log_format, agent=worker.agent_id)
    worker.add_builtins(shell=shell, simulate=simulate)
    worker.run()


# --- a cluster on this machine ------------------------------------------------------------------------------


@main.command()
@click.option("--nodes", type=click.IntRange(1, 9), default=3, show_default=True)
@click.option("--agents", "count", type=click.IntRange(0, MAX_AGENTS), help="By default 8.")
@click.option("--slots", type=click.IntRange(1, 10_000), default=3, show_default=True, help="Of each agent.")
@click.option("--agent-spec", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML list.")
@click.option("--dir", "directory", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--effects", is_flag=True, help="Agents record every attempt in DIR/effects.")
@click.option("--tls", is_flag=True, help="Links between nodes by certificates, made in DIR/certs.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting of every node.")
@click.option("--timeout", "timeout_s", type=float, default=60.0, show_default=True, help="Seconds.")
def up(
    nodes: int,
    count: int | None,
    slots: int,
    agent_spec: Path | None,
    directory: Path,
    effects: bool,
    tls: bool,
    assignments: tuple[str, ...],
    timeout_s: float,
) -> None:
    """Start nodes and agents as processes, and return when all of them serve under a leader.

    DIR/cluster.json says who runs where; DIR/logs holds the logs.
    """
    from coordinator.cli.local_cluster import LocalCluster

    cluster = LocalCluster.start(
        directory,
        nodes=nodes,
        agents=_agents(count, slots, agent_spec),
        effects=effects,
        tls=tls,
        settings={key: str(given.value) for key, given in _given(assignments, {}).items()},
        timeout_s=timeout_s,
    )
    click.echo(
        f"{nodes} nodes and {len(cluster.agents)} agents run; see {cluster.directory / 'cluster.json'}"
    )
    click.echo(f"coordctl --endpoints {','.join(cluster.endpoints)} cluster status")


@main.command()
@click.option("--dir", "directory", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--keep-data/--discard-data", default=True, show_default=True, help="Of the nodes.")
@click.option("--grace", "grace_s", type=float, default=5.0, show_default=True, help="Seconds until SIGKILL.")
def down(directory: Path, keep_data: bool, grace_s: float) -> None:
    """Stop the processes that `up` started in DIR, and no others."""
    from coordinator.cli.local_cluster import LocalCluster

    killed = LocalCluster.attach(directory).stop(grace_s=grace_s, keep_data=keep_data)
    click.echo(f"stopped; killed after {grace_s} s: {', '.join(killed)}" if killed else "stopped")


# --- reading the command line -------------------------------------------------------------------------------


def _given(assignments: Iterable[str], flags: dict[str, str | None]) -> dict[str, Given]:
    from coordinator.config import Given

    given = {key: Given(value, f"flag --set {key}") for key, value in _pairs(assignments, "--set", None)}
    for name, value in flags.items():
        if value is not None:
            key = name.replace("__", ".")
            given[key] = Given(value, "flag --" + key.replace(".", "-").replace("_", "-"))
    return given


def _pairs(texts: Iterable[str], flag: str, default: str | None) -> list[tuple[str, str]]:
    """`name=value` each; a name alone stands for `default`, where there is one."""
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not (equals or default):
            raise ConfigError(f"{flag} is {text!r}; allowed: NAME=VALUE", key=flag, value=text)
        pairs.append((name, value if equals else str(default)))
    return pairs


def _node_with_hosts(text: str) -> tuple[str, list[str]]:
    node, _, hosts = text.partition("=")
    return _checked_id("NODE", node), [host for host in hosts.split(",") if host]


def _checked_id(argument: str, text: str) -> str:
    try:
        return msgspec.convert(text, Id)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{argument} is {text!r}: {error}", key=argument, value=text) from error


def _numbers(texts: Iterable[str], flag: str, default: str | None) -> dict[str, int]:
    return {name: _number(flag, name, text) for name, text in _pairs(texts, flag, default)}


def _number(flag: str, name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1_000_000):
        raise ConfigError(
            f"{flag} {name} is {text!r}; allowed: a number from 1 to 1000000", key=flag, value=text
        )
    return int(text)


def _agents(count: int | None, slots: int, spec: Path | None) -> list[AgentSpec]:
    if spec is None:
        return alike(8 if count is None else count, slots)
    specs = read_agent_specs(spec)
    if count is not None and count != len(specs):
        raise ConfigError(
            f"--agents is {count}, and {spec} lists {len(specs)}; leave --agents out", key="--agents"
        )
    return specs
