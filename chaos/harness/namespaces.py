"""Nodes in network namespaces of their own, joined by a bridge: real packets are dropped, slowed and lost.

Needs root and the programs ip, iptables and tc; delay needs the kernel's netem as well. Clients and agents
stay outside and reach every node through the bridge: only what nodes say to each other is touched.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from typing import Final

from chaos.harness.network import Link, Manner, Shape
from coordinator.errors import StartFailed

_PROGRAMS: Final = ("ip", "iptables", "tc")
_NETWORK: Final = "10.213.{network}.{host}"
_FIRST_HOST: Final = 11
_BURST: Final = "64kb"
_QUEUE: Final = "400ms"
_DEVICE: Final = "eth0"
_RESET_S: Final = 0.2


class Namespaces:
    """One namespace per node."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._name = f"qf{secrets.token_hex(2)}"
        network = secrets.randbelow(250) + 1
        self._gateway = _NETWORK.format(network=network, host=1)
        self.hosts = {
            node: _NETWORK.format(network=network, host=_FIRST_HOST + at) for at, node in enumerate(nodes)
        }
        """The address of each node."""
        self._rules: dict[Link, list[str]] = {}
        self._losses: dict[Link, list[str]] = {}

    @staticmethod
    def missing() -> str:
        """What this machine lacks for it; empty if nothing."""
        if os.geteuid() != 0:
            return "network namespaces need root"
        absent = [program for program in _PROGRAMS if shutil.which(program) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""

    @staticmethod
    def missing_for_delay() -> str:
        """What this machine lacks to delay packets."""
        name = f"qf{secrets.token_hex(2)}"
        with contextlib.suppress(StartFailed):
            _run("ip", "netns", "add", name)
            try:
                _run(
                    "ip",
                    "netns",
                    "exec",
                    name,
                    "tc",
                    "qdisc",
                    "add",
                    "dev",
                    "lo",
                    "root",
                    "netem",
                    "delay",
                    "1ms",
                )
            except StartFailed:
                return "the kernel has no netem"
            finally:
                _run("ip", "netns", "del", name)
        return ""

    def start(self) -> None:
        """Make the bridge and the namespaces. Raises StartFailed."""
        _run("ip", "link", "add", self._name, "type", "bridge")
        _run("ip", "addr", "add", f"{self._gateway}/24", "dev", self._name)
        _run("ip", "link", "set", self._name, "up")
        for at, (node, address) in enumerate(self.hosts.items()):
            outside = f"{self._name}-{at}"
            _run("ip", "netns", "add", self._namespace(node))
            _run(
                "ip",
                "link",
                "add",
                outside,
                "type",
                "veth",
                "peer",
                "name",
                _DEVICE,
                "netns",
                self._namespace(node),
            )
            _run("ip", "link", "set", outside, "master", self._name, "up")
            self._inside(node, "ip", "addr", "add", f"{address}/24", "dev", _DEVICE)
            self._inside(node, "ip", "link", "set", _DEVICE, "up")
            self._inside(node, "ip", "link", "set", "lo", "up")

    def close(self) -> None:
        """Remove all of it, as far as it is there."""
        for node in self.hosts:
            with contextlib.suppress(StartFailed):
                _run("ip", "netns", "del", self._namespace(node))
        with contextlib.suppress(StartFailed):
            _run("ip", "link", "del", self._name)

    def prefix(self, node: str) -> list[str]:
        """The command in front of another that runs it in the node's namespace."""
        return ["ip", "netns", "exec", self._namespace(node)]

    # --- Network --------------------------------------------------------------------------------------------

    def cut(self, links: Iterable[Link], manner: Manner) -> None:
        """See `Network`. What arrives from the source is dropped or refused at the target."""
        for link in links:
            self._replace(self._rules, link, _verdict(manner))

    def mend(self, links: Iterable[Link]) -> None:
        """See `Network`."""
        for link in links:
            self._replace(self._rules, link, [])

    def shape(self, links: Iterable[Link], shape: Shape) -> None:
        """See `Network`. Loss is one link's; delay and throughput are those of all that the source
        sends."""
        chosen = list(links)
        for link in chosen:
            loss = ["-m", "statistic", "--mode", "random", "--probability", f"{shape.loss:.4f}", "-j", "DROP"]
            self._replace(self._losses, link, loss if shape.loss else [])
        for node in {link.source for link in chosen}:
            self._slow(node, shape)

    def reset(self, links: Iterable[Link]) -> None:
        """See `Network`. Whatever is sent in a moment, heartbeats at least, is answered with a reset."""
        chosen = list(links)
        self.cut(chosen, "reset")
        time.sleep(_RESET_S)
        self.mend(chosen)

    # --- inside ---------------------------------------------------------------------------------------------

    def _namespace(self, node: str) -> str:
        return f"{self._name}-{node}"

    def _inside(self, node: str, *command: str) -> None:
        _run(*self.prefix(node), *command)

    def _replace(self, rules: dict[Link, list[str]], link: Link, verdict: list[str]) -> None:
        match = ["INPUT", "-s", self.hosts[link.source], "-p", "tcp"]
        if former := rules.pop(link, None):
            self._inside(link.target, "iptables", "-D", *match, *former)
        if verdict:
            self._inside(link.target, "iptables", "-I", *match, *verdict)
            rules[link] = verdict

    def _slow(self, node: str, shape: Shape) -> None:
        with contextlib.suppress(StartFailed):
            # There may be none yet.
            self._inside(node, "tc", "qdisc", "del", "dev", _DEVICE, "root")
        on = ["tc", "qdisc", "add", "dev", _DEVICE, "root"]
        if shape.delay_ms or shape.jitter_ms:
            rate = ["rate", f"{int(shape.bytes_per_s * 8)}bit"] if shape.bytes_per_s else []
            self._inside(node, *on, "netem", "delay", f"{shape.delay_ms}ms", f"{shape.jitter_ms}ms", *rate)
        elif shape.bytes_per_s:
            bits = f"{int(shape.bytes_per_s * 8)}bit"
            self._inside(node, *on, "tbf", "rate", bits, "burst", _BURST, "latency", _QUEUE)


def _verdict(manner: Manner) -> list[str]:
    return ["-j", "DROP"] if manner == "silent" else ["-j", "REJECT", "--reject-with", "tcp-reset"]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode != 0:
        raise StartFailed(
            f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}", command=list(command)
        )
