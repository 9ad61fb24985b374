"""The agent: runs the handlers that a program registers, for whichever tasks the coordinator assigns to
it."""

from __future__ import annotations

import asyncio
import platform
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Final, TypeVar

from agent_sdk import builtin
from agent_sdk._channels import AGENT_CONNECT_TIMEOUT_MS, AGENT_KEEPALIVE_MS, parse_endpoints
from agent_sdk._dag import Resources
from agent_sdk._executor import Handler
from agent_sdk._gauges import Gauges
from agent_sdk._profile import Profile, machine_resources
from agent_sdk._runtime import Graces, Runtime
from agent_sdk._surroundings import Surroundings, this_machine
from agent_sdk.errors import AlreadyExists, WrongState

AnyHandler = TypeVar("AnyHandler", bound=Handler)

_MAY_CHANGE: Final = frozenset(field.name for field in fields(Profile)) - {"agent_id"}


class Agent:
    """Opens a session with the leader, runs what it assigns, and finds the new leader when the old one is
    gone.

    `slots` attempts run at once, `queue` more may wait here; how many do is the coordinator's choice.
    Keep `agent_id` over restarts to keep the agent's history. Placement looks at `capabilities` (skill to
    level), `labels`, `zone`, `resources` (default: all cores and memory of the machine), `tools`,
    `permissions`, `environments`, `protocols`, `cached_models`; at `speed` relative to a usual agent,
    `busy_watts` that one busy slot adds (0: not known), `tool_limits` and `model_limits` (tasks at once that
    use one), the `data` items and locations that are here, and the `groups` of agents that it belongs to.
    All of it may be changed while it runs: `update`.

    The agent measures the load of its machine. `gauges` adds what it cannot know: it returns any of `gpu` and
    `packet_loss` (0 to 1), `gpu_memory_free_bytes` and `latency_ms`, is called once per load interval in the
    event loop, and must not block. What it cannot mean is logged once and dropped.

    A stopped coroutine has `cancel_grace_s` to end by itself; when the agent leaves, what runs has
    `drain_grace_s`. `effects_path` names a file that records the start and end of every attempt, for
    drills; `surroundings` stand in for this machine in a simulation.
    """

    def __init__(
        self,
        endpoints: str | Iterable[str],
        agent_id: str | None = None,
        *,
        slots: int = 3,
        queue: int = 1_000,
        capabilities: Mapping[str, int] | None = None,
        resources: Resources | None = None,
        labels: Mapping[str, str] | None = None,
        zone: str = "",
        tools: Sequence[str] = (),
        permissions: Sequence[str] = (),
        environments: Sequence[str] = (),
        protocols: Sequence[str] = (),
        cached_models: Sequence[str] = (),
        speed: float = 1.0,
        busy_watts: float = 0.0,
        tool_limits: Mapping[str, int] | None = None,
        model_limits: Mapping[str, int] | None = None,
        data: Sequence[str] = (),
        groups: Sequence[str] = (),
        cancel_grace_s: float = 5.0,
        drain_grace_s: float = 30.0,
        effects_path: str | Path | None = None,
        gauges: Gauges | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        given = {name: {} if value is None else value for name, value in locals().items()}
        self._surroundings = surroundings or this_machine(AGENT_KEEPALIVE_MS, AGENT_CONNECT_TIMEOUT_MS)
        self._endpoints = parse_endpoints(endpoints)
        self._profile = Profile(
            agent_id=agent_id or f"{platform.node() or 'agent'}-{self._surroundings.new_id()[:8]}",
            resources=machine_resources() if resources is None else resources,
            **{name: given[name] for name in _MAY_CHANGE - {"resources"}},
        )
        self._changing = threading.Lock()
        self._graces = Graces(cancel_s=cancel_grace_s, drain_s=drain_grace_s)
        self._effects_path = effects_path
        self._gauges = gauges
        self._handlers: dict[str, Handler] = {}
        self._runtime: Runtime | None = None

    @property
    def agent_id(self) -> str:
        """The name under which the coordinator knows it."""
        return self._profile.agent_id

    def handler(self, task_type: str) -> Callable[[AnyHandler], AnyHandler]:
        """Decorator: run tasks of this type ("*": of any other type) by the function, a coroutine or a plain
        one.

        It is given a `TaskContext` and returns the result: bytes, text, anything that is fit for JSON, None,
        or a `Reference` to what it stored elsewhere. Whatever it raises is a failed attempt, worth a retry
        except for `PermanentError`. Plain functions run in threads; a coroutine must not block the event
        loop. Register before the agent runs. Raises AlreadyExists for a second handler of one type.
        """

        def register(function: AnyHandler) -> AnyHandler:
            if task_type in self._handlers:
                raise AlreadyExists(
                    f"there is a handler for {task_type!r} already", fields={"type": task_type}
                )
            self._handlers[task_type] = function
            return function

        return register

    def update(
        self,
        *,
        slots: int | None = None,
        queue: int | None = None,
        capabilities: Mapping[str, int] | None = None,
        resources: Resources | None = None,
        labels: Mapping[str, str] | None = None,
        zone: str | None = None,
        tools: Sequence[str] | None = None,
        permissions: Sequence[str] | None = None,
        environments: Sequence[str] | None = None,
        protocols: Sequence[str] | None = None,
        cached_models: Sequence[str] | None = None,
        speed: float | None = None,
        busy_watts: float | None = None,
        tool_limits: Mapping[str, int] | None = None,
        model_limits: Mapping[str, int] | None = None,
        data: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        """Offer this from now on; what is left out stays as it is. From any thread, running or not.

        The coordinator is told at once, and in every session to come. What the agent holds it keeps, also
        where that is more than it takes now. Raises InvalidRequest for what no agent can be; what only the
        coordinator can tell, such as its bounds, is logged if it refuses, and what it took last holds.
        """
        given = locals()
        changes = {name: given[name] for name in _MAY_CHANGE if given[name] is not None}
        with self._changing:
            self._profile = replace(self._profile, **changes)
            if self._runtime is not None:
                self._runtime.change(self._profile)

    def add_builtins(self, *, shell: bool = False, simulate: bool = False) -> None:
        """Add handlers for trying things: `sleep`, `noop`, `fail`, `echo`, `shell` if allowed, and with
        `simulate` a stand-in for every other type; see `agent_sdk.builtin`."""
        for task_type, function in builtin.handlers(shell=shell, simulate=simulate).items():
            self.handler(task_type)(function)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then leave in order: hand back what waits, let what runs end within
        the grace, say goodbye. A second signal ends it at once. For the main thread. Raises as
        `run_async`."""
        asyncio.run(self._run_with_signals())

    async def run_async(self) -> None:
        """Serve until `stop`, in the running event loop. Raises InvalidRequest, AccessDenied or Unsupported
        when the coordinator refuses its first session; everything else it sits out."""
        if self._runtime is not None:
            raise WrongState(f"agent {self.agent_id!r} runs already")
        with self._changing:
            self._runtime = Runtime(
                self._endpoints,
                self._profile,
                self._handlers,
                self._graces,
                self._effects_path,
                self._gauges,
                self._surroundings,
            )
        try:
            await self._runtime.run()
        finally:
            with self._changing:
                self._runtime = None

    async def stop(self, grace_s: float | None = None) -> None:
        """Leave in order, and return when `run_async` is about to; what runs has `grace_s` seconds to end
        (None: the agent's `drain_grace_s`). Called again: at once. For the loop that the agent runs in."""
        if (runtime := self._runtime) is not None:
            runtime.ask_to_stop(grace_s)
            await runtime.ended()

    async def _run_with_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        await self.run_async()

    def _on_signal(self) -> None:
        if self._runtime is not None:
            self._runtime.ask_to_stop(None)
