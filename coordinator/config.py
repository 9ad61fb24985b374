"""The configuration of a node: a file, the environment and flags, in that order of precedence, low to high.

`load` reads, `gather` lays the three sources over one another, `build` checks; only `load` touches the world.
Every setting has a dotted key ("limits.page_size"), which is its path in the YAML file; in the environment it
is `COORDINATOR__LIMITS__PAGE_SIZE`, and some have a short name there or a flag. `docs/configuration.md` lists
them all, and a test holds the two together. With nothing configured, a node is a cluster of its own on the
loopback interface.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_type_hints

import msgspec
import yaml
from msgspec import Meta, inspect

from coordinator.addresses import UNNAMED, Id, format_address, parse_address, parse_member, parse_route, parts
from coordinator.consensus.membership import Member, Membership
from coordinator.consensus.settings import RaftSettings
from coordinator.core.limits import MAX_TASKS_PER_DAG
from coordinator.dag.limits import DagLimits
from coordinator.errors import ConfigError
from coordinator.forecast.settings import ForecastSettings
from coordinator.scheduling.load.settings import LoadSettings
from coordinator.scheduling.settings import SchedulingSettings

CONFIG_VARIABLE: Final = "COORDINATOR_CONFIG"
"""Names the configuration file where no flag does."""

_PREFIX: Final = "COORDINATOR__"
_SHORT_NAMES: Final = {
    "NODE_ID": "node_id",
    "CLUSTER_ID": "cluster_id",
    "CLUSTER_NODES": "cluster_nodes",
    "DATA_DIR": "data_dir",
    "LISTEN_HOST": "listen_host",
    "ADVERTISE_HOST": "advertise_host",
    "GRPC_PORT": "grpc_port",
    "RAFT_PORT": "raft_port",
    "LOG_LEVEL": "log.level",
    "LOG_FORMAT": "log.format",
}
_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to

Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:_-]{0,253}$")]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Count = Annotated[int, Meta(ge=1, le=100_000_000)]
Size = Annotated[int, Meta(ge=1_024, le=1 << 30)]
FreeBytes = Annotated[int, Meta(ge=0, le=1 << 50)]
Millis = Annotated[int, Meta(ge=1, le=86_400_000)]
Seconds = Annotated[int, Meta(ge=0, le=10 * 366 * 86_400)]


class LimitsSection(DagLimits, frozen=True, kw_only=True):
    """The limits of a DAG, and bounds on what is accepted, queued and kept; beyond one, an error names it.

    `max_message_bytes` bounds a gRPC message, `max_result_bytes` and `max_checkpoint_bytes` what a task may
    leave in the replicated state, `max_queued_commands` and `max_queued_bytes` what waits to be proposed,
    `max_stream_writes` the writes, or submissions, of one stream that wait for their answer.
    `watch_history` events are kept for watchers that lag or resume, and changes of keys that take
    `kv_history_bytes`; `page_size` bounds the items of one answer. Below `min_free_bytes` of free disk a node
    leaves leading to others, and in the end the cluster takes nothing new; 0 switches that off.
    """

    max_unfinished_dags: Count = 50_000
    max_unfinished_tasks: Count = 2_000_000
    max_result_bytes: Size = 256 << 10
    max_checkpoint_bytes: Size = 256 << 10
    max_message_bytes: Size = 4 << 20
    max_agents: Count = 10_000
    max_slots: Count = 10_000
    max_queued_commands: Count = 20_000
    max_queued_bytes: Size = 64 << 20
    max_concurrent_calls: Count = 10_000
    max_watchers: Count = 1_000
    max_stream_writes: Count = 1_000
    watch_history: Count = 100_000
    kv_history_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 32 << 20
    min_free_bytes: FreeBytes = 256 << 20
    free_bytes_check_ms: Millis = 500
    page_size: Annotated[int, Meta(ge=1, le=10_000)] = 1_000


class AgentsSection(msgspec.Struct, frozen=True, kw_only=True):
    """How the leader treats agents, in ms: without a stream one is lost after `disconnect_grace_ms` or, after
    a change of leader, `failover_grace_ms`, or `failover_limit_ms` while others come back. It holds work of
    `look_ahead_ms` beyond its slots; `load_interval_ms` is the shortest pause between its load reports."""

    disconnect_grace_ms: Millis = 50
    failover_grace_ms: Millis = 3_000
    failover_limit_ms: Millis = 30_000
    keepalive_ms: Millis = 1_000
    keepalive_timeout_ms: Millis = 1_500
    look_ahead_ms: Millis = 20
    load_interval_ms: Millis = 1_000
    max_load_reports_per_s: Count = 1_000


class TlsSection(msgspec.Struct, frozen=True, kw_only=True):
    """Links between nodes. With `mode` "required", nodes prove by their certificate who they are; the three
    files are in PEM form. From `warn_days` before the certificate ends, the log says so."""

    mode: Literal["required", "off"] = "required"
    ca: str = ""
    cert: str = ""
    key: str = ""
    warn_days: Count = 30


class RetentionSection(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of the past: the last `finished_dags`, none for longer than `finished_age_s`, and agents
    until `gone_agents_s` after they were lost or left; 0 seconds means for ever. A DAG whose submission was
    broken off is dropped `staged_s` after it began."""

    finished_dags: Count = 100_000
    finished_age_s: Seconds = 30 * 86_400
    gone_agents_s: Seconds = 86_400
    staged_s: Annotated[int, Meta(ge=1, le=86_400)] = 600


class BackupSection(msgspec.Struct, frozen=True, kw_only=True):
    """Backups that a node streams: so many at once, each at most this fast and for at most so long, as it
    pins old data on the disk. One waits for `catch_up_s` until the node has applied what it must hold."""

    max_streams: Annotated[int, Meta(ge=1, le=100)] = 2
    bytes_per_s: Annotated[int, Meta(ge=1 << 10, le=1 << 40)] = 64 << 20
    life_s: Annotated[int, Meta(ge=1, le=86_400)] = 3_600
    catch_up_s: Annotated[int, Meta(ge=1, le=86_400)] = 30


class LogSection(msgspec.Struct, frozen=True, kw_only=True):
    """The structured log on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All that one node is told. `members` is `cluster_nodes` read, or this node alone; a port of 0 means any
    free one, and stands as 0 in `members`: only the node that binds it learns the number. They are the
    founders of a new cluster, unless this node waits to `join` one that is there; later the log says who
    belongs to it. `routes` is `raft_routes` read: where this node reaches others, by id."""

    node_id: Id = "n1"
    cluster_id: Id = UNNAMED
    cluster_nodes: str = ""
    data_dir: str = "./coordinator-data"
    listen_host: Host = "127.0.0.1"
    advertise_host: Host = ""
    grpc_port: Port = 7_400
    raft_port: Port = 7_401
    join: bool = False
    raft_routes: str = ""
    members: tuple[Member, ...] = ()
    raft: RaftSettings = RaftSettings()
    limits: LimitsSection = LimitsSection()
    agents: AgentsSection = AgentsSection()
    scheduling: SchedulingSettings = SchedulingSettings()
    load: LoadSettings = LoadSettings()
    tls: TlsSection = TlsSection()
    retention: RetentionSection = RetentionSection()
    backup: BackupSection = BackupSection()
    forecast: ForecastSettings = ForecastSettings()
    log: LogSection = LogSection()

    @property
    def grpc_listen(self) -> str:
        """Where to listen for gRPC, as "host:port"."""
        return format_address(self.listen_host, self.grpc_port)

    @property
    def raft_listen(self) -> str:
        """Where to listen for the other nodes, as "host:port"."""
        return format_address(self.listen_host, self.raft_port)

    @property
    def founders(self) -> Membership:
        """The voters that an empty data folder begins with; none if it is to join."""
        return Membership() if self.join else Membership(voters=self.members)

    @property
    def routes(self) -> dict[str, str]:
        """Where this node reaches others, by id, if not where the cluster knows them."""
        return dict(parse_route(part) for part in parts(self.raft_routes))

    @property
    def myself(self) -> Member:
        """This node with its advertised addresses."""
        return next(member for member in self.members if member.id == self.node_id)


class Given(NamedTuple):
    """The value of a setting, and where it came from, in words."""

    value: object
    source: str


class Setting(NamedTuple):
    """One line of the reference; `variable` is the environment variable that sets it."""

    key: str
    type: Any
    default: object
    variable: str

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        return _allowed(self.type)


DEFAULT: Final = "default"
"""The source of a setting that nobody gave."""


@functools.cache
def settings() -> Mapping[str, Setting]:
    """Every setting by its key, in the order of the reference."""
    short = {key: variable for variable, key in _SHORT_NAMES.items()}
    return {
        key: Setting(key, kind, default, short.get(key, _PREFIX + key.upper().replace(".", "__")))
        for key, kind, default in _fields(NodeConfig, "")
    }


def load(
    path: Path | None, environment: Mapping[str, str], flags: Mapping[str, Given]
) -> tuple[NodeConfig, dict[str, Given]]:
    """Read the file, if there is one, and return the checked configuration and what was given by key.

    `path` overrules the environment's `COORDINATOR_CONFIG`. `flags` hold what was given on the command
    line, by key.

    Raises:
        ConfigError: with the key, the value, its source and what is allowed.
    """
    if path is None and environment.get(CONFIG_VARIABLE):
        path = Path(environment[CONFIG_VARIABLE])
    document = {} if path is None else _read(path)
    given = gather(document, environment, flags, file=str(path))
    return build(given), given


def gather(
    document: Mapping[str, object],
    environment: Mapping[str, str],
    flags: Mapping[str, Given],
    *,
    file: str = "file",
) -> dict[str, Given]:
    """Lay the sources over one another and return what was given, by key.

    Raises:
        ConfigError: for a key that is not a setting.
    """
    known = settings()
    given = {key: Given(value, f"file {file}") for key, value in _flatten(document, "")}
    for variable, text in environment.items():
        key = _SHORT_NAMES.get(variable)
        if variable.startswith(_PREFIX):
            key = variable.removeprefix(_PREFIX).lower().replace("__", ".")
        if key is not None:
            given[key] = Given(text, f"environment variable {variable}")
    given.update(flags)
    for key, (value, source) in given.items():
        if key not in known:
            raise _unknown(key, value, source, list(known))
    return given


def build(given: Mapping[str, Given]) -> NodeConfig:
    """Check what was given and complete it with defaults. Raises ConfigError."""
    values = {key: _convert(setting, given[key]) for key, setting in settings().items() if key in given}
    members = _parse_members(given["cluster_nodes"]) if "cluster_nodes" in given else ()
    node_id = values.get("node_id", "n1")
    own = next((member for member in members if member.id == node_id), None)
    if own is not None:
        values = _own_addresses(own) | values
    elif members:
        allowed = "one of cluster_nodes: " + ", ".join(member.id for member in members)
        raise _refused("node_id", given.get("node_id", Given(node_id, DEFAULT)), allowed)
    config = _assemble(values, given)
    config = msgspec.structs.replace(config, members=members or (_alone(config, given),))
    for key, holds, allowed in _rules(config):
        if not holds:
            raise _refused(key, given.get(key, Given(_value(config, key), DEFAULT)), allowed)
    return config


# --- reading ---


def _read(path: Path) -> Mapping[str, object]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error}", path=path) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"the configuration file {path} is not YAML: {error}", path=path) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"the configuration file {path} holds a {type(document).__name__}; it must map keys to values",
            path=path,
        )
    return document


def _flatten(document: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif value is not None or name not in NodeConfig.__struct_fields__:  # a section may be empty
            yield f"{prefix}{name}", value


def _fields(struct: type[msgspec.Struct], prefix: str) -> Iterator[tuple[str, Any, object]]:
    hints = get_type_hints(struct, include_extras=True)
    defaults = struct()
    for name in struct.__struct_fields__:
        default = getattr(defaults, name)
        if isinstance(default, msgspec.Struct):
            yield from _fields(type(default), f"{prefix}{name}.")
        elif name != "members":
            yield prefix + name, hints[name], default


# --- checking one setting ---


def _convert(setting: Setting, given: Given) -> object:
    try:
        value = msgspec.convert(given.value, setting.type, strict=False)
    except msgspec.ValidationError as error:
        raise _refused(setting.key, given, setting.allowed) from error
    unbounded = isinstance(value, int | float) and setting.type in (int, float)
    unreal = isinstance(value, float) and not math.isfinite(value)
    if unreal or (unbounded and value <= 0):
        raise _refused(setting.key, given, setting.allowed)
    return value


def _allowed(kind: Any) -> str:
    info = inspect.type_info(kind)
    if isinstance(info, inspect.LiteralType):
        return ", ".join(str(value) for value in info.values)
    if isinstance(info, inspect.BoolType):
        return "true, false"
    if isinstance(info, inspect.IntType) and info.ge is not None:
        return f"a whole number from {info.ge} to {info.le}"
    if isinstance(info, inspect.FloatType) and info.ge is not None:
        return f"a number from {info.ge:g} to {info.le:g}"
    if isinstance(info, inspect.IntType | inspect.FloatType):
        return "a whole number above 0" if isinstance(info, inspect.IntType) else "a number above 0"
    if isinstance(info, inspect.StrType) and info.pattern:
        return f"text that matches {info.pattern}"
    return "text"


def _refused(key: str, given: Given, allowed: str) -> ConfigError:
    return ConfigError(
        f"{key} is {given.value!r} ({given.source}); allowed: {allowed}",
        key=key,
        value=given.value,
        source=given.source,
        allowed=allowed,
    )


def _unknown(key: str, value: object, source: str, known: list[str]) -> ConfigError:
    close = difflib.get_close_matches(key, known, n=3) or [name for name in known if name.endswith("." + key)]
    hint = f"did you mean {' or '.join(close)}?" if close else "see docs/configuration.md for those there are"
    return ConfigError(
        f"there is no setting {key} ({source}, value {value!r}); {hint}", key=key, source=source
    )


# --- the cluster's members ---


def _parse_members(given: Given) -> tuple[Member, ...]:
    """`id=raft/grpc,id=raft/grpc,...`, both addresses as host:port."""
    try:
        members = tuple(parse_member(part) for part in parts(str(given.value)))
    except ValueError as error:
        raise _refused(
            "cluster_nodes",
            given,
            f"id=raft_host:port/grpc_host:port for each node, separated by commas, not {error}",
        ) from error
    taken: dict[str, str] = {}
    for member in members:
        for name in (member.id, member.raft, member.grpc):
            if name in taken:
                raise _refused(
                    "cluster_nodes", given, f"{name} once only; {taken[name]} and {member.id} both have it"
                )
            taken[name] = member.id
    return members


def _own_addresses(own: Member) -> dict[str, object]:
    """What a node need not be told, since its own entry among the cluster's nodes says it."""
    host, grpc_port = parse_address(own.grpc)
    return {"listen_host": host, "grpc_port": grpc_port, "raft_port": parse_address(own.raft)[1]}


def _alone(config: NodeConfig, given: Mapping[str, Given]) -> Member:
    host = config.advertise_host or config.listen_host
    if host in _WILDCARDS:
        raise _refused(
            "advertise_host", given.get("advertise_host", Given("", DEFAULT)),
            f"how others reach this node, as listen_host {config.listen_host} stands for all addresses",
        )  # fmt: skip
    return Member(
        id=config.node_id,
        raft=format_address(host, config.raft_port),
        grpc=format_address(host, config.grpc_port),
    )


# --- checking settings together ---


def _are_routes(config: NodeConfig) -> bool:
    try:
        return len(config.routes) == len(parts(config.raft_routes))
    except ValueError:
        return False


def _assemble(values: Mapping[str, object], given: Mapping[str, Given]) -> NodeConfig:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *section, name = key.split(".")
        target = nested.setdefault(section[0], {}) if section else nested
        target[name] = value
    try:
        return msgspec.convert(nested, NodeConfig)
    except ConfigError as error:
        # RaftSettings checks itself and does not know who gave what.
        sources = ", ".join(
            f"{key} from {source}" for key, (_, source) in given.items() if key.startswith("raft.")
        )
        raise ConfigError(f"{error.message} (given: {sources})", key="raft") from error


def _rules(config: NodeConfig) -> list[tuple[str, bool, str]]:
    """The key of a setting, whether it agrees with the others, and what it should be."""
    raft, limits = config.raft, config.limits
    alone = len(config.members) == 1 and not config.join
    known_ports = alone or 0 not in (config.grpc_port, config.raft_port)
    distinct_ports = config.raft_port == 0 or config.raft_port != config.grpc_port
    half_message = limits.max_message_bytes // 2
    secured = config.tls.mode == "off" or alone
    named = [config.tls.ca != "", config.tls.cert != "", config.tls.key != ""]
    at_most_half = f"at most half of limits.max_message_bytes, {half_message}"
    return [
        ("listen_host", config.listen_host != "", "a name or address of this machine"),
        ("data_dir", config.data_dir != "", "the path of a folder"),
        ("cluster_nodes", known_ports, "this node alone where grpc_port or raft_port is 0"),
        ("raft_port", distinct_ports, f"0, or another port than grpc_port, {config.grpc_port}"),
        ("raft_routes", _are_routes(config), "id=host:port,id=host:port,..."),
        ("tls.cert", all(named) or not any(named), "a file, as all of tls.ca, tls.cert and tls.key, or none"),
        (
            "tls.cert",
            all(named) or secured,
            "a file where the cluster has other nodes: make certificates with `coordinator certs --out DIR "
            f"--cluster-id {config.cluster_id} {' '.join(member.id for member in config.members)}` and set "
            "tls.ca, tls.cert and tls.key, or, on a network that is trusted, set tls.mode=off on every node",
        ),
        *(config.forecast.rules() + config.scheduling.rules()),
        ("limits.max_dag_tasks", limits.max_dag_tasks <= MAX_TASKS_PER_DAG, f"at most {MAX_TASKS_PER_DAG}"),
        ("limits.max_payload_bytes", limits.max_payload_bytes <= half_message, at_most_half),
        ("limits.max_result_bytes", limits.max_result_bytes <= half_message, at_most_half),
        ("limits.max_checkpoint_bytes", limits.max_checkpoint_bytes <= half_message, at_most_half),
        (
            "limits.max_message_bytes",
            limits.max_message_bytes <= raft.max_entry_bytes,
            f"at most raft.max_entry_bytes, {raft.max_entry_bytes}",
        ),
        (
            "limits.max_queued_bytes",
            limits.max_queued_bytes >= limits.max_message_bytes,
            f"at least limits.max_message_bytes, {limits.max_message_bytes}",
        ),
        *((f"load.{name}", holds, allowed) for name, holds, allowed in config.load.rules()),
    ]


def _value(config: NodeConfig, key: str) -> object:
    return functools.reduce(getattr, key.split("."), config)
