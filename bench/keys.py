"""W7: the log alone, as writes of small values to the leader."""

from __future__ import annotations

import uvloop

from bench.figures import Outcome
from bench.puts import Connect, Load, Puts, take_turn
from bench.sizes import Sizes
from bench.stage import Stage
from bench.writers import by_calls, on_a_stream


def one_client(stage: Stage, sizes: Sizes) -> Outcome:
    """One write at a time, by the SDK: milliseconds."""
    puts, outcome = _measure(stage, Load(1, 1, sizes.writes), on_a_stream)
    return outcome._replace(values={"W7": puts.p50, "W7_p99": puts.p99})


def few_clients(stage: Stage, sizes: Sizes) -> Outcome:
    """Eight, each with a connection and one write at a time, on streams and then by calls: writes per
    second."""
    load = Load(8, 1, sizes.writes)
    puts, streams = _measure(stage, load, on_a_stream)
    by_call, _ = _measure(stage, load, by_calls)
    return streams._replace(values={"W7_8": puts.per_s, "W7_8_calls": by_call.per_s})


def hundred_clients(stage: Stage, sizes: Sizes) -> Outcome:
    """Each with a connection and one call at a time: writes per second."""
    puts, outcome = _measure(stage, Load(100, 1, sizes.writes_of_many), by_calls)
    return outcome._replace(values={"W7_100": puts.per_s})


def one_stream(stage: Stage, sizes: Sizes) -> Outcome:
    """A hundred writes under way on the stream of one client: writes per second."""
    puts, outcome = _measure(stage, Load(1, 100, sizes.writes_on_a_stream), on_a_stream)
    return outcome._replace(values={"W7_stream": puts.per_s})


def _measure(stage: Stage, load: Load, connect: Connect) -> tuple[Puts, Outcome]:
    leader = stage.cluster.nodes[stage.cluster.leader()].grpc
    meter = stage.meter()
    turn = uvloop.run(take_turn(leader, connect, load))
    return Puts.of([turn]), Outcome({}, meter.read(load.all_writes))
