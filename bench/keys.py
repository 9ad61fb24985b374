"""W7: the log alone, as writes of small values to the leader."""

from __future__ import annotations

from bench.figures import Outcome, Usage
from bench.puts import Connect, Load, Puts, take_turn
from bench.sizes import Sizes
from bench.stage import Stage
from bench.writers import by_calls, on_a_stream


def one_client(stage: Stage, sizes: Sizes) -> Outcome:
    """One write at a time, by the SDK: milliseconds."""
    puts, usage = _measure(stage, Load(1, 1, sizes.writes), on_a_stream)
    return Outcome.at(usage, {"W7": puts.p50, "W7_p99": puts.p99})


def few_clients(stage: Stage, sizes: Sizes) -> Outcome:
    """Eight, each with a connection and one write at a time, on streams and then by calls: writes per
    second."""
    load = Load(8, 1, sizes.writes)
    streams, of_streams = _measure(stage, load, on_a_stream)
    calls, of_calls = _measure(stage, load, by_calls)
    return Outcome(
        {"W7_8": streams.per_s, "W7_8_calls": calls.per_s}, {"W7_8": of_streams, "W7_8_calls": of_calls}
    )


def hundred_clients(stage: Stage, sizes: Sizes) -> Outcome:
    """Each with a connection and one call at a time: writes per second."""
    puts, usage = _measure(stage, Load(100, 1, sizes.writes_of_many), by_calls)
    return Outcome.at(usage, {"W7_100": puts.per_s})


def one_stream(stage: Stage, sizes: Sizes) -> Outcome:
    """A hundred writes under way on the stream of one client: writes per second."""
    puts, usage = _measure(stage, Load(1, 100, sizes.writes_on_a_stream), on_a_stream)
    return Outcome.at(usage, {"W7_stream": puts.per_s})


def _measure(stage: Stage, load: Load, connect: Connect) -> tuple[Puts, Usage]:
    leader = stage.cluster.nodes[stage.cluster.leader()].grpc
    meter = stage.meter()
    turn = stage.run(take_turn(leader, connect, load))
    return Puts.of([turn]), meter.read(load.all_writes)
