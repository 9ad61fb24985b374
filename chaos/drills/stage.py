"""Sets the stage for a drill: the cluster with what is put around its nodes, and the agents."""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from agent_sdk import Client
from chaos.faults import Need, Site
from chaos.harness.clocks import Clocks
from chaos.harness.disks import SETTINGS, Disks, disks
from chaos.harness.fleet import Fleet
from chaos.harness.namespaces import Namespaces
from chaos.harness.network import Link, Network
from chaos.harness.proxy_process import ProxyProcess
from chaos.plan import Plan
from coordinator.cli.local_cluster import LocalCluster, NodeEntry, Place

_KEEP_ALL: Final = {"retention.finished_dags": "100000000"}
"""Whatever was done in hours is there in the end, to be judged."""


def missing(plan: Plan, *, existing: bool = False) -> str:
    """What this machine lacks for the plan, or for a cluster that is there already (`existing`); empty if
    nothing."""
    if existing:
        return ", ".join(f"{need.value}, which only a cluster of its own gives" for need in plan.needs)
    reasons = []
    if plan.cluster.network == "namespaces":
        reasons.append(Namespaces.missing())
        if Need.DELAY in plan.needs and not reasons[0]:
            reasons.append(Namespaces.missing_for_delay())
    return "; ".join(filter(None, reasons))


@contextlib.contextmanager
def own_cluster(plan: Plan, directory: Path, seed: int) -> Iterator[Site]:
    """A cluster that lives as long as the drill, with agents. Raises StartFailed; WrongState if one runs
    in this folder."""
    with contextlib.ExitStack() as stack:
        props = _Props(plan, directory, seed, stack)
        cluster = stack.enter_context(
            LocalCluster.start(
                directory,
                nodes=plan.cluster.nodes,
                settings=_KEEP_ALL | {key: str(value) for key, value in plan.cluster.settings.items()},
                hosts=props.hosts,
                arrange=props.arrange,
            )
        )
        yield Site(
            known_endpoints=cluster.endpoints,
            client=stack.enter_context(Client(cluster.endpoints)),
            fleet=_fleet(plan, directory, cluster.endpoints, stack),
            rng=_rng(seed),
            cluster=cluster,
            network=props.network,
            clocks=props.clocks,
            disks=props.disks,
        )


@contextlib.contextmanager
def existing_cluster(plan: Plan, directory: Path, endpoints: Sequence[str], seed: int) -> Iterator[Site]:
    """A cluster that others run, with the drill's agents beside theirs."""
    with contextlib.ExitStack() as stack:
        yield Site(
            known_endpoints=endpoints,
            client=stack.enter_context(Client(endpoints)),
            fleet=_fleet(plan, directory, endpoints, stack),
            rng=_rng(seed),
        )


class _Props:
    """What is put around the nodes: made as far as the plan needs it, removed by `stack`."""

    def __init__(self, plan: Plan, directory: Path, seed: int, stack: contextlib.ExitStack) -> None:
        self.network: Network | None = None
        self.clocks: Clocks | None = None
        self.disks: Disks | None = None
        self.hosts: list[str] = []
        self._plan = plan
        self._directory = directory
        self._seed = seed
        self._stack = stack
        self._namespaces: Namespaces | None = None
        if plan.cluster.network == "namespaces":
            self.network = self._namespaces = Namespaces([f"n{at + 1}" for at in range(plan.cluster.nodes)])
            stack.callback(self._namespaces.close)
            self._namespaces.start()
            self.hosts = list(self._namespaces.hosts.values())

    def arrange(self, nodes: Mapping[str, NodeEntry]) -> dict[str, Place]:
        """See `LocalCluster.start`."""
        routes = self._proxy(nodes)
        if Need.CLOCKS in self._plan.needs:
            self.clocks = Clocks(self._directory / "clocks", list(nodes))
            self.clocks.start()
        if Need.DISKS in self._plan.needs:
            self.disks = disks()
            self._stack.callback(self.disks.close)
            self.disks.start({node: Path(entry.data_dir) for node, entry in nodes.items()})
        return {
            node: Place(
                settings=routes.get(node, {}) | (SETTINGS if self.disks is not None else {}),
                prefix=self._namespaces.prefix(node) if self._namespaces is not None else (),
                environment=self.clocks.environment(node) if self.clocks is not None else {},
            )
            for node in nodes
        }

    def _proxy(self, nodes: Mapping[str, NodeEntry]) -> dict[str, dict[str, str]]:
        """The settings that lead each node through the proxies, if the plan hurts links by them."""
        if Need.LINKS not in self._plan.needs or self._namespaces is not None:
            return {}
        proxies = ProxyProcess({node: entry.raft for node, entry in nodes.items()}, seed=self._seed)
        self._stack.callback(proxies.close)
        proxies.start()
        self.network = proxies

        return {
            source: {
                "raft_routes": ",".join(
                    f"{target}={proxies.route(Link(source, target))}" for target in nodes if target != source
                )
            }
            for source in nodes
        }


def _fleet(plan: Plan, directory: Path, endpoints: Sequence[str], stack: contextlib.ExitStack) -> Fleet:
    fleet = Fleet(directory, endpoints, name=f"drill-{secrets.token_hex(3)}", slots=plan.agents.slots)
    stack.callback(fleet.close)
    fleet.join(plan.agents.count)
    return fleet


def _rng(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a drill
