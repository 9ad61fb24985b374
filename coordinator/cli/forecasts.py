"""`coordctl forecast`: what load will be, and how right it was to say so."""

from __future__ import annotations

from typing import Final

import click

from coordinator.cli import views
from coordinator.cli.output import Format, print_json, print_table
from coordinator.cli.session import Session, session_options

_COLUMNS: Final = [
    "agent", "series", "horizon", "ahead_s", "model", "now", "forecast", "low", "high", "said", "was",
    "error", "naive_error", "relative_error", "scored",
]  # fmt: skip
_DIGITS: Final = 3


@click.command()
@click.option("--agent", "agent_id", help='Only of this agent; "" for the cluster itself.')
@click.option(
    "--series", default="", help="Only cpu, memory or load of agents, waiting or busy of the cluster."
)
@click.option(
    "--horizon", default="", type=click.Choice(["", "short", "medium", "long"]), help="Only this one."
)
@session_options
@click.pass_obj
def forecast(session: Session, agent_id: str | None, series: str, horizon: str) -> None:
    """Show what load is expected, with what was said of the latest step and what it was.

    The model in use is the one that has been better than the naive forecast, that nothing changes; the naive
    one if none has. A relative error below 1 is better than naive.
    """
    with session.client() as client:
        found = [views.forecast(one) for one in client.forecasts(agent_id, series=series, horizon=horizon)]
    if session.output is Format.JSON:
        print_json({"forecasts": found})
    else:
        print_table([_row(view) for view in found], _COLUMNS)


def _row(view: views.View) -> views.View:
    latest = view["outcomes"][-1] if view["outcomes"] else {"forecast": None, "actual": None}
    row = view | {"agent": view["agent"] or "(cluster)", "said": latest["forecast"], "was": latest["actual"]}
    return {name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in row.items()}
