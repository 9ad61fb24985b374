"""Who may be at the other end of a link: TLS 1.3 with certificates on both sides, and the node's identity in
its certificate.

An identity is a URI, `quorumflow://CLUSTER/NODE`, among the subject alternative names. Host names do not
count: a node keeps its identity when its address changes. Any authority but the cluster's own is unknown.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import time
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from coordinator.errors import ConfigError

log = logging.getLogger(__name__)

SCHEME: Final = "quorumflow"
_DAY_S: Final = 86_400.0
_FLIGHTS: Final = 2
"""TLS 1.3 is agreed after so many turns of either side (RFC 8446, section 2)."""


def identity(cluster: str, node: str) -> str:
    """The URI that names a node in its certificate."""
    return f"{SCHEME}://{cluster}/{node}"


class Contexts(NamedTuple):
    """TLS for both directions; None for links in plain text."""

    listening: ssl.SSLContext | None
    calling: ssl.SSLContext | None


class Trust(Protocol):
    """What a node makes of those at the other end of its links."""

    def contexts(self) -> Contexts:
        """The contexts for a new connection."""

    def objection(self, certificate: object, expected: str) -> str:
        """Why a peer is not the one whose identity is `expected`, by the certificate that it has shown in
        the form of `SSLSocket.getpeercert`; empty if it is."""


class AnyPeer:
    """Links in plain text, and peers are what they say (`tls.mode` off): for a network that is trusted."""

    def contexts(self) -> Contexts:
        """As `Trust.contexts`."""
        return Contexts(None, None)

    def objection(self, certificate: object, expected: str) -> str:
        """As `Trust.objection`."""
        del certificate, expected
        return ""


class NoPeer:
    """A node that is alone and has no certificate: nobody can join it."""

    def contexts(self) -> Contexts:
        """As `Trust.contexts`."""
        return Contexts(None, None)

    def objection(self, certificate: object, expected: str) -> str:
        """As `Trust.objection`."""
        del certificate
        return (
            f"this node has no certificate, and cannot know {expected} by one: give it tls.ca, tls.cert and "
            "tls.key (`coordinator certs` makes them), or set tls.mode=off on every node"
        )


class Certificates:
    """The certificate of this node and the authority that it trusts, read again when a file has changed."""

    def __init__(self, ca: Path, cert: Path, key: Path, *, me: str, warn_days: int) -> None:
        """Read the files; `me` is this node's identity. From `warn_days` before its certificate ends, it is
        said in the log once a day.

        Raises:
            ConfigError: a file cannot be read, or no peer would accept this certificate.
        """
        self._files = (ca, cert, key)
        self._me = me
        self._warn_s = warn_days * _DAY_S
        self._warned_at = 0.0
        self._seen = self._stamp()
        self._loaded, self._ends_at = self._load()
        self._warn()

    def contexts(self) -> Contexts:
        """As `Trust.contexts`. Files that have changed and cannot be used are complained of, and what was
        read before goes on to count."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._loaded, self._ends_at = self._load()
                log.info("read the certificate %s again", self._files[1])
            except ConfigError as error:
                log.error("keeping the former certificate: %s", error)
        self._warn()
        return self._loaded

    def objection(self, certificate: object, expected: str) -> str:
        """As `Trust.objection`."""
        found = _identities(certificate)
        if found == [expected]:
            return ""
        return f"its certificate is of {', '.join(found) or 'no node'}, and it should be of {expected}"

    def _load(self) -> tuple[Contexts, float]:
        listening = self._context(ssl.PROTOCOL_TLS_SERVER)
        calling = self._context(ssl.PROTOCOL_TLS_CLIENT)
        listening.num_tickets = 0  # nobody resumes: each connection shows a certificate
        ca, cert, _ = self._files
        try:
            shown = _rehearse(listening, calling)
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or error.reason
            raise ConfigError(
                f"no peer would accept the certificate {cert} by the authority {ca}: {why}; renew it with "
                "`coordinator certs`, or have tls.cert and tls.ca name files that belong together",
                key="tls.cert",
            ) from error
        objection = self.objection(shown, self._me)
        if objection:
            raise ConfigError(
                f"the certificate {cert} is not this node's: {objection}; mend tls.cert, node_id or "
                "cluster_id",
                key="tls.cert",
            )
        return Contexts(listening, calling), float(ssl.cert_time_to_seconds(shown["notAfter"]))

    def _context(self, protocol: ssl._SSLMethod) -> ssl.SSLContext:
        ca, cert, key = self._files
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        for setting, path in zip(("tls.ca", "tls.cert", "tls.key"), self._files, strict=True):
            _require_readable(setting, path)
        try:
            context.load_verify_locations(ca)
        except ssl.SSLError as error:
            raise ConfigError(f"tls.ca, {ca}, holds no certificate in PEM form", key="tls.ca") from error
        try:
            context.load_cert_chain(cert, key, password=_no_password)
        except ssl.SSLError as error:
            raise ConfigError(
                f"tls.cert, {cert}, and tls.key, {key}, are not a certificate and its own unencrypted key in "
                f"PEM form: {error.reason or error}",
                key="tls.key",
            ) from error
        return context

    def _stamp(self) -> list[tuple[int, int, int] | None]:
        """Tells a file from the one that took its place."""
        stamp: list[tuple[int, int, int] | None] = []
        for path in self._files:
            try:
                found = path.stat()
                stamp.append((found.st_mtime_ns, found.st_size, found.st_ino))
            except OSError:
                stamp.append(None)
        return stamp

    def _warn(self) -> None:
        now = time.time()
        left_s = self._ends_at - now
        if left_s < self._warn_s and now - self._warned_at >= _DAY_S:
            self._warned_at = now
            log.warning(
                "the certificate %s ends in %.1f days; after that no other node takes this one's calls: "
                "put a new one in its place (no restart is needed)",
                self._files[1],
                left_s / _DAY_S,
            )


def _identities(certificate: object) -> list[str]:
    """The URIs of our scheme that a certificate holds."""
    if not isinstance(certificate, dict):
        return []
    names = certificate.get("subjectAltName", ())
    return [value for kind, value in names if kind == "URI" and value.startswith(f"{SCHEME}://")]


def _require_readable(setting: str, path: Path) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {path}: {error.strerror}", key=setting) from error


def _no_password() -> str:
    """Instead of a question on the terminal that nobody reads."""
    return "none"


def _rehearse(listening: ssl.SSLContext, calling: ssl.SSLContext) -> dict[str, Any]:
    """Let the two meet in memory; returns the certificate as a peer sees it. Raises ssl.SSLError."""
    to_listener, to_caller = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = calling.wrap_bio(to_caller, to_listener)
    listener = listening.wrap_bio(to_listener, to_caller, server_side=True)
    for _ in range(_FLIGHTS):
        for side in (caller, listener):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return dict(listener.getpeercert() or {})
