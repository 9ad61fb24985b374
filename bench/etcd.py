"""A cluster of three `etcd` processes on this machine, for comparison, and the calls that are made to it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc

from bench.puts import Put, channel
from coordinator.cli.authority import Authority
from coordinator.cli.ports import free_ports

_HOST: Final = "127.0.0.1"
_NODES: Final = 3
_PATIENCE_S: Final = 30.0
_POLL_S: Final = 0.1
_PUT: Final = "/etcdserverpb.KV/Put"
_STATUS: Final = "/etcdserverpb.Maintenance/Status"

_messages: Any = grpc.protos("bench/etcd.proto")


def version() -> str:
    """The version of the installed `etcd`; empty if there is none."""
    program = shutil.which("etcd")
    if program is None:
        return ""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"etcd Version: (\S+)", told)
    return found.group(1) if found else "unknown"


class EtcdCluster:
    """Three nodes with etcd's defaults, in one folder; a context manager that ends them. With `tls` the links
    between them are mutual TLS, as ours."""

    def __init__(self, folder: Path, *, tls: bool) -> None:
        self._folder = folder
        self._authority = Authority.found(folder, "etcd") if tls else None
        ports = free_ports(_HOST, 2 * _NODES)
        self._client_ports = ports[:_NODES]
        self._peer_ports = ports[_NODES:]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(_NODES):
            with (folder / f"e{number}.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen(self._command(number), stdout=log, stderr=subprocess.STDOUT)
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()

    def leader(self) -> str:
        """The address of the leader. Raises TimeoutError."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            for port in self._client_ports:
                if _leads(f"{_HOST}:{port}"):
                    return f"{_HOST}:{port}"
            time.sleep(_POLL_S)
        raise TimeoutError(f"etcd has no leader after {_PATIENCE_S} s: see the logs in {self._folder}")

    def _command(self, number: int) -> list[str]:
        scheme = "https" if self._authority else "http"
        peers = [f"{scheme}://{_HOST}:{port}" for port in self._peer_ports]
        client = f"http://{_HOST}:{self._client_ports[number]}"
        return [
            "etcd",
            *("--name", f"e{number}"),
            *("--data-dir", str(self._folder / f"e{number}")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peers[number], "--initial-advertise-peer-urls", peers[number]),
            *("--initial-cluster", ",".join(f"e{at}={peer}" for at, peer in enumerate(peers))),
            *("--initial-cluster-token", f"bench-{os.getpid()}"),
            *("--log-level", "error"),
            *self._tls_flags(number),
        ]

    def _tls_flags(self, number: int) -> list[str]:
        if self._authority is None:
            return []
        files = self._authority.issue(f"e{number}", [_HOST])
        return [
            "--peer-client-cert-auth",
            *("--peer-trusted-ca-file", str(files.ca)),
            *("--peer-cert-file", str(files.cert)),
            *("--peer-key-file", str(files.key)),
        ]


@asynccontextmanager
async def put_to(address: str) -> AsyncIterator[Put]:
    """Writes at a node; each is a call of its own, as etcd knows no other way."""
    async with channel(address) as opened:
        call = opened.unary_unary(
            _PUT,
            request_serializer=_messages.PutRequest.SerializeToString,
            response_deserializer=_messages.PutResponse.FromString,
        )

        async def put(key: str, value: bytes) -> None:
            await call(_messages.PutRequest(key=key.encode(), value=value))

        yield put


def _leads(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            _STATUS,
            request_serializer=_messages.StatusRequest.SerializeToString,
            response_deserializer=_messages.StatusResponse.FromString,
        )
        try:
            status = call(_messages.StatusRequest(), timeout=1.0)
        except grpc.RpcError:
            return False
        return bool(status.leader and status.leader == status.header.member_id)
