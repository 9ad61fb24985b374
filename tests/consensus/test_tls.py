"""Nodes know each other by certificates: whoever shows none, another's, another cluster's, an unknown
authority's or an old one is refused on either side, and counted; a certificate is renewed without a restart
(A1, G6)."""

from __future__ import annotations

import asyncio
import importlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from pysyncobj.node import Node

from coordinator.cli.authority import Authority, NodeFiles
from coordinator.cli.ports import free_ports
from coordinator.consensus.framing import PROTOCOL_VERSION, Hello, Refused, frame
from coordinator.consensus.messages import TimeoutNow
from coordinator.consensus.tls import Certificates, NoPeer, identity
from coordinator.errors import ConfigError
from tests.consensus.ends import PLAIN, QUICK, End, answer, ended, stranger

HALF_AN_HOUR_AGO = -1 / 48
HELLO = frame(Hello(PROTOCOL_VERSION, "one", "a", "b"))


def issued(folder: Path, node: str, *, cluster: str = "one", days: float = 100) -> NodeFiles:
    """A certificate of a node by the authority of a folder."""
    return Authority.found(folder, cluster).issue(node, days=days)


def trusting(files: NodeFiles, me: str, *, cluster: str = "one", warn_days: int = 30) -> Certificates:
    return Certificates(*files, me=identity(cluster, me), warn_days=warn_days)


def calling(files: NodeFiles) -> ssl.SSLContext:
    """What a caller that checks nothing itself speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(files.cert, files.key)
    return context


@pytest.fixture
async def linked(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Starts "b", and "a" which dials it, each with what it trusts."""
    ends: list[End] = []

    async def link(trust_a: Any, trust_b: Any) -> tuple[End, End]:
        a, b = End("a", "b", trust=trust_a), End("b", "a", trust=trust_b)
        ends.extend((a, b))
        for end in ends:
            await end.start()
        b.knows(a)
        a.knows(b)
        return a, b

    yield link
    for end in ends:
        await end.transport.close()


def shown(end: End, peer: str) -> tuple[str, int]:
    """The TLS version of the connection to a peer, and the serial number of the certificate it has shown."""
    link = end.transport._outgoing[peer].link
    assert link is not None
    assert link._transport is not None
    session = link._transport.get_extra_info("ssl_object")
    return session.version(), int(session.getpeercert()["serialNumber"], 16)


def serial(files: NodeFiles) -> int:
    return x509.load_pem_x509_certificate(files.cert.read_bytes()).serial_number


async def test_31_nodes_know_each_other_by_their_certificates(
    tmp_path: Path, linked: Callable[..., Any]
) -> None:
    files = {node: issued(tmp_path, node) for node in "ab"}
    a, b = await linked(trusting(files["a"], "a"), trusting(files["b"], "b"))
    for end, peer in ((a, "b"), (b, "a")):
        await end.until(lambda end=end, peer=peer: (peer, True) in end.links)
        assert shown(end, peer) == ("TLSv1.3", serial(files[peer]))
        assert end.transport.send(Node(peer), TimeoutNow(7))
    await a.until(lambda: a.heard == [("b", TimeoutNow(7))])
    await b.until(lambda: b.heard == [("a", TimeoutNow(7))])


def test_31_the_library_s_password_makes_anybody_any_node() -> None:
    syncobj: Any = importlib.import_module("pysyncobj")
    connections: Any = importlib.import_module("pysyncobj.tcp_connection")
    encryptor: Any = importlib.import_module("pysyncobj.encryptor")
    ours, theirs = encryptor.getEncryptor("secret"), encryptor.getEncryptor("secret")
    assert ours.decrypt(theirs.encrypt(b"x")) == b"x", "the salt is constant: one password, one key, anywhere"

    me, peer = (f"127.0.0.1:{port}" for port in sorted(free_ports("127.0.0.1", 2)))
    node = syncobj.SyncObj(me, [peer], syncobj.SyncObjConf(autoTick=False, password="secret"))
    node.doTick(0)
    host, port = me.split(":")
    impostor = connections.TcpConnection(node._poller)
    impostor.encryptor = theirs
    impostor.recvRandKey = b"any"

    def take(key: bytes) -> None:
        impostor.sendRandKey = key
        impostor.send(peer)

    impostor.setOnConnectedCallback(lambda: impostor.send(b"any"))
    impostor.setOnMessageReceivedCallback(take)
    assert impostor.connect(host, int(port))
    for _ in range(1000):
        node.doTick(0.01)
        if node.isNodeConnected(Node(peer)):
            break
    assert node.isNodeConnected(Node(peer)), "who knows the password is whichever node it says"
    node.destroy()
    node.doTick(0)


@pytest.mark.parametrize(
    ("node", "cluster", "counter"),
    [("c", "one", "identities_refused"), ("a", "two", "identities_refused")],
    ids=["another node's", "another cluster's"],
)
async def test_a_caller_with_another_identity_is_refused(
    node: str, cluster: str, counter: str, tmp_path: Path, linked: Callable[..., Any]
) -> None:
    authority = Authority.found(tmp_path, "one")
    stranger_s = Authority(tmp_path / "two", cluster, authority._certificate, authority._key)
    (tmp_path / "two").mkdir()
    wrong = stranger_s.issue(node)._replace(ca=tmp_path / "ca.crt")
    a, b = await linked(trusting(wrong, node, cluster=cluster), trusting(issued(tmp_path, "b"), "b"))
    await b.counted(counter)
    reader, writer = await stranger(b, calling(wrong))
    writer.write(HELLO + frame(TimeoutNow(1)))
    refusal = await answer(reader)
    assert isinstance(refusal, Refused)
    assert refusal.reason == (
        f"its certificate is of quorumflow://{cluster}/{node}, and it should be of quorumflow://one/a"
    )
    assert await ended(reader)
    writer.close()
    assert (b.heard, a.links) == ([], [])


async def test_a_listener_with_another_identity_is_not_spoken_to(
    tmp_path: Path, linked: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    wrong = trusting(issued(tmp_path, "c"), "c")
    with caplog.at_level(logging.INFO):
        a, b = await linked(trusting(issued(tmp_path, "a"), "a"), wrong)
        await a.counted("identities_refused")
    assert "its certificate is of quorumflow://one/c, and it should be of quorumflow://one/b" in caplog.text
    assert (a.links, b.heard) == ([], [])


async def test_a_caller_of_another_authority_is_refused(tmp_path: Path, linked: Callable[..., Any]) -> None:
    a, b = await linked(
        trusting(issued(tmp_path / "1", "a"), "a"), trusting(issued(tmp_path / "2", "b"), "b")
    )
    await a.counted("connections_failed")
    reader, writer = await stranger(b, calling(issued(tmp_path / "3", "a")))
    writer.write(HELLO)
    assert await ended(reader)
    writer.close()
    await b.counted("tls_refused")
    assert (a.links, b.heard) == ([], [])


async def test_a_caller_whose_certificate_has_ended_is_refused(
    tmp_path: Path, linked: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    _, b = await linked(PLAIN, trusting(issued(tmp_path, "b"), "b"))
    reader, writer = await stranger(b, calling(issued(tmp_path, "a", days=HALF_AN_HOUR_AGO)))
    with caplog.at_level(logging.WARNING):
        writer.write(HELLO)
        assert await ended(reader)
    assert "certificate has expired" in caplog.text
    writer.close()
    assert b.heard == []


def without_certificate(context: ssl.SSLContext) -> ssl.SSLContext:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    return bare


def of_former_days(context: ssl.SSLContext) -> ssl.SSLContext:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.parametrize("weaken", [without_certificate, of_former_days])
async def test_neither_a_missing_certificate_nor_an_older_tls_is_let_in(
    weaken: Callable[[ssl.SSLContext], ssl.SSLContext], tmp_path: Path, linked: Callable[..., Any]
) -> None:
    _, b = await linked(PLAIN, trusting(issued(tmp_path, "b"), "b"))
    before = b.transport.counters["tls_refused"]
    try:
        reader, writer = await stranger(b, weaken(calling(issued(tmp_path, "a"))))
        writer.write(HELLO)
        assert await ended(reader)
        writer.close()
    except OSError:
        pass  # it may hear of it while it still greets
    await b.counted("tls_refused", before + 1)
    assert b.heard == []


async def test_plain_text_does_not_reach_a_tls_port_and_the_reverse(
    tmp_path: Path, linked: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        a, b = await linked(PLAIN, trusting(issued(tmp_path, "b"), "b"))
        await a.counted("connections_failed")
        await b.counted("connections_failed")
        await a.counted("frames_refused")
        await b.counted("tls_refused")
    assert "it speaks TLS, and this node does not: tls.mode must be the same on all nodes" in caplog.text
    assert (a.links, b.links) == ([], [])


async def test_a_node_that_is_alone_without_a_certificate_lets_nobody_in(linked: Callable[..., Any]) -> None:
    a, b = await linked(PLAIN, NoPeer())
    await b.counted("identities_refused")
    reader, writer = await stranger(b)
    writer.write(HELLO)
    refusal = await answer(reader)
    assert isinstance(refusal, Refused)
    assert "tls.mode=off" in refusal.reason
    writer.close()
    assert (a.links, b.heard) == ([], [])


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, HELLO, b"\x16\x03\x01\xff\xff"])
async def test_garbage_costs_the_connection_alone(
    garbage: bytes, tmp_path: Path, linked: Callable[..., Any]
) -> None:
    a, b = await linked(*(trusting(issued(tmp_path, node), node) for node in "ab"))
    await a.until(lambda: ("b", True) in a.links)
    reader, writer = await stranger(b)
    writer.write(garbage)
    assert await ended(reader)
    writer.close()
    await b.counted("tls_refused", 1)
    assert a.links == [("b", True)]
    assert a.transport.send(Node("b"), TimeoutNow(1))
    await b.until(lambda: b.heard == [("a", TimeoutNow(1))])


async def test_handshakes_that_are_begun_and_left_are_bounded_in_number_and_time(
    tmp_path: Path, linked: Callable[..., Any]
) -> None:
    _, b = await linked(PLAIN, trusting(issued(tmp_path, "b"), "b"))
    b.transport.set_route("a", "127.0.0.1:1")
    mute = await asyncio.gather(*(stranger(b) for _ in range(QUICK.max_unidentified_links + 3)))
    for reader, writer in mute:
        assert await ended(reader)
        writer.close()
    assert b.transport.counters["links_refused"] >= 1
    await b.until(lambda: b.transport.counters["tls_refused"] >= 1 and not b.transport._unidentified)


async def test_a_certificate_is_renewed_without_a_restart(
    tmp_path: Path, linked: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    files = issued(tmp_path, "b")
    a, _ = await linked(trusting(issued(tmp_path, "a"), "a"), trusting(files, "b"))

    async def connected_anew() -> int:
        ups = a.links.count(("b", True))
        link = a.transport._outgoing["b"].link
        if link is not None:
            link.abort()
        await a.until(lambda: a.links.count(("b", True)) > ups)
        return shown(a, "b")[1]

    first = await connected_anew()
    assert first == serial(files)

    files.cert.write_bytes(b"half of a")
    with caplog.at_level(logging.ERROR):
        assert await connected_anew() == first, "what cannot be read changes nothing"
    assert "keeping the former certificate" in caplog.text

    for path in (files.cert, files.key):
        path.unlink()
    issued(tmp_path, "b")
    assert await connected_anew() == serial(files) != first


def spoilt(files: NodeFiles, folder: Path) -> dict[str, tuple[NodeFiles, str]]:
    """Files that a node must not start with, by what is wrong with them, and what it says of them."""
    text = folder / "text"
    text.write_text("no certificate")
    return {
        "missing": (
            files._replace(cert=folder / "none.crt"),
            "tls.cert: cannot read .*none.crt: No such file",
        ),
        "no key": (files._replace(key=folder / "none.key"), "tls.key: cannot read .*none.key"),
        "not PEM": (files._replace(ca=text), "tls.ca, .*text, holds no certificate"),
        "another's key": (
            files._replace(key=issued(folder, "x").key),
            "not a certificate and its own unencry",
        ),
        "another authority": (files._replace(ca=issued(folder / "2", "y").ca), "no peer would accept"),
        "ended": (issued(folder, "z", days=HALF_AN_HOUR_AGO), "has expired; renew it"),
        "another node's": (
            issued(folder, "c"),
            "is not this node's: its certificate is of quorumflow://one/c",
        ),
    }


@pytest.mark.parametrize(
    "what",
    ["missing", "no key", "not PEM", "another's key", "another authority", "ended", "another node's"],
)
def test_a_node_does_not_start_with_a_certificate_that_no_peer_would_take(what: str, tmp_path: Path) -> None:
    files, complaint = spoilt(issued(tmp_path, "a"), tmp_path)[what]
    with pytest.raises(ConfigError, match=complaint):
        trusting(files, "a")


def test_an_end_that_comes_near_is_told_once_a_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = issued(tmp_path, "a", days=29)
    with caplog.at_level(logging.WARNING):
        trust = trusting(files, "a", warn_days=30)
        trust.contexts()
        trusting(files, "a", warn_days=28)
    assert caplog.text.count("ends in 29.0 days") == 1
