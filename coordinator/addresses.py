"""PURE: nodes and their addresses as text: "host:port", members and routes."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from coordinator.consensus.membership import Member

Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]

UNNAMED: Final = "quorumflow"
"""The id of a cluster that nobody has named."""


def parse_address(text: str) -> tuple[str, int]:
    """The host and port of "host:port" or "[v6]:port". Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and colon and port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError(text)
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """ "host:port", with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parts(text: str) -> list[str]:
    """What stands between the commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_member(text: str) -> Member:
    """ "id=raft_host:port/grpc_host:port". Raises ValueError, with the text."""
    member_id, _, addresses = text.partition("=")
    raft, _, grpc = addresses.partition("/")
    try:
        msgspec.convert(member_id, Id)
        if 0 in (parse_address(raft)[1], parse_address(grpc)[1]):
            raise ValueError("the others could not find a port of 0")
    except ValueError as error:
        raise ValueError(repr(text)) from error
    return Member(id=member_id, raft=raft, grpc=grpc)


def parse_route(text: str) -> tuple[str, str]:
    """The id and the address of "id=host:port". Raises ValueError."""
    member_id, _, address = text.partition("=")
    msgspec.convert(member_id, Id)
    parse_address(address)
    return member_id, address
