"""Carries out the faults of a plan, and measures what each does to those who work meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final

from agent_sdk import QuorumflowError
from chaos.drills.incident import Incident
from chaos.drills.lookout import Lookout
from chaos.faults import Fault, Site, Wound
from chaos.faults.base import await_event, now_ms
from chaos.load.submissions import SteadyLoad
from chaos.plan import Plan, Timed, Track
from chaos.recorder import Recorder
from coordinator.errors import CoordinatorError, Unavailable
from coordinator.replica.collecting import spare_what_is_there

_RUNNING: Final = 3
"""A fault strikes when at least so many tasks run."""
_AFTER_S: Final = 0.5
"""A pause in the service counts to a fault until so long after it was healed and overcome."""


class Conductor:
    """Strikes, waits, heals, and notes an `Incident` each time; `on_incident` is told of each as it ends."""

    def __init__(
        self,
        site: Site,
        load: SteadyLoad,
        recorder: Recorder,
        lookout: Lookout,
        on_incident: Callable[[Incident], None],
    ) -> None:
        self.incidents: list[Incident] = []
        self._site = site
        self._load = load
        self._recorder = recorder
        self._lookout = lookout
        self._on_incident = on_incident
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def run(self, plan: Plan, seed: int) -> None:
        """Carry out the plan; returns when its last fault is healed and overcome.

        Raises:
            CoordinatorError, QuorumflowError: a fault could not be struck or healed, so that nothing can be
                said of the rest.
        """
        spare_what_is_there()
        end = time.monotonic() + plan.duration_s
        threads = [
            threading.Thread(
                target=self._guarded,
                args=(self._follow, track, end, random.Random(f"{seed}/{at}")),  # noqa: S311 - a drill
                name=f"track {at}",
            )
            for at, track in enumerate(plan.tracks)
        ]
        if plan.schedule:
            args = (self._keep_to, sorted(plan.schedule, key=lambda timed: timed.at_s), seed)
            threads.append(threading.Thread(target=self._guarded, args=args, name="schedule"))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.incidents.sort(key=lambda incident: incident.at_ms)
        if self._failure is not None:
            raise self._failure

    # --- when to strike -------------------------------------------------------------------------------------

    def _guarded(self, act: Callable[..., None], *args: object) -> None:
        try:
            act(*args)
        except (CoordinatorError, QuorumflowError, OSError) as error:
            self._failure = self._failure or error

    def _follow(self, track: Track, end: float, rng: random.Random) -> None:
        struck = 0
        while self._failure is None and (track.rounds is None or struck < track.rounds):
            pause_s = rng.uniform(*track.pause_s)
            if time.monotonic() + pause_s >= end:
                return
            time.sleep(pause_s)
            if track.order == "turn":
                fault = track.faults[struck % len(track.faults)]
            else:
                fault = rng.choices(track.faults, [one.weight for one in track.faults])[0]
            struck += 1
            self._carry_out(fault, rng)

    def _keep_to(self, schedule: list[Timed], seed: int) -> None:
        began = time.monotonic()
        running = []
        for at, timed in enumerate(schedule):
            time.sleep(max(0.0, began + timed.at_s - time.monotonic()))
            args = (self._carry_out, timed.strike, random.Random(f"{seed}/schedule/{at}"))  # noqa: S311
            running.append(threading.Thread(target=self._guarded, args=args, name=f"timed {at}"))
            running[-1].start()
        for thread in running:
            thread.join()

    # --- one fault ------------------------------------------------------------------------------------------

    def _carry_out(self, fault: Fault, rng: random.Random) -> None:
        await_event(f"{_RUNNING} tasks run", self._busy)
        before = self._site.leader()
        wound = fault.strike(self._site)
        struck = time.monotonic()
        gone_ms = wound.in_effect_ms or wound.at_ms
        problems = [wound.problem] if wound.problem else []
        try:
            if wound.majority:
                problems += _problem(lambda: self._await_service(gone_ms))
            time.sleep(max(0.0, struck + fault.hold(rng) - time.monotonic()))
        finally:
            healed_ms = now_ms()
            problems += _problem(wound.heal)
        problems += _problem(lambda: self._await_service(gone_ms))
        problems += _problem(lambda: self._await_recovery(wound, healed_ms))
        overcome_ms = now_ms()
        time.sleep(_AFTER_S)
        self._note(self._incident(fault, wound, before, gone_ms, healed_ms, overcome_ms, problems))

    def _busy(self) -> bool:
        return self._site.client.cluster_status().tasks.get("RUNNING", 0) >= _RUNNING

    def _await_service(self, gone_ms: int) -> None:
        await_event(
            "a submission is acknowledged", lambda: self._load.acknowledged_after(gone_ms) is not None
        )
        await_event("a leader assigns", lambda: self._recorder.first_assignment_after(gone_ms) is not None)
        await_event("an agent begins", lambda: self._recorder.first_beginning_after(gone_ms) is not None)

    def _await_recovery(self, wound: Wound, healed_ms: int) -> None:
        """Until all nodes that were hit have what was committed when they were healed."""
        target = self._site.client.cluster_status().commit_index
        nodes = wound.whole or wound.nodes

        def caught_up() -> bool:
            return all(self._lookout.applied(node, healed_ms) >= target for node in nodes)

        await_event(f"{', '.join(nodes)} catch up with entry {target}", caught_up)

    def _incident(
        self,
        fault: Fault,
        wound: Wound,
        before: str,
        gone_ms: int,
        healed_ms: int,
        overcome_ms: int,
        problems: list[str],
    ) -> Incident:
        since = wound.at_ms

        def after(moment: int | None) -> int | None:
            return None if moment is None else moment - since

        return Incident(
            fault=fault.kind,
            note=wound.note,
            nodes=wound.nodes,
            agents=wound.agents,
            hit_leader=wound.leader,
            majority=wound.majority,
            leader_before=before,
            leader_after=self._site.leader(),
            at_ms=since,
            healed_ms=healed_ms,
            acknowledged_ms=after(self._load.acknowledged_after(gone_ms)),
            assigned_ms=after(self._recorder.first_assignment_after(gone_ms)),
            begun_ms=after(self._recorder.first_beginning_after(gone_ms)),
            pause_ms=self._load.longest_pause(since, overcome_ms + int(_AFTER_S * 1000)),
            recovered_ms=overcome_ms - healed_ms,
            problem="; ".join(problems),
        )

    def _note(self, incident: Incident) -> None:
        with self._lock:
            self.incidents.append(incident)
            self._on_incident(incident)
            # All that is kept for the verdict would be looked at again and again, after an hour for most of a
            # second in which the clients stand still: it would be taken for a pause in the service.
            spare_what_is_there()


def _problem(wait: Callable[[], None]) -> list[str]:
    """What did not come about in time, in words."""
    try:
        wait()
    except Unavailable as error:
        return [error.message]
    return []
