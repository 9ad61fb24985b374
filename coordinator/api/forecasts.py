"""Forecasts of load in the wire's words."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from coordinator.errors import InvalidRequest
from coordinator.forecast.bank import Forecast, Key
from coordinator.forecast.horizons import horizons
from coordinator.replica.forecasting import SERIES, Forecasting
from quorumflow_proto.v1 import operator_pb2 as pb

_HORIZONS: Final = [horizon.name for horizon in horizons()]


def check_filter(request: pb.GetForecastsRequest) -> None:
    """Raises InvalidRequest for a name that nothing has."""
    for what, name, known in (("series", request.series, SERIES), ("horizon", request.horizon, _HORIZONS)):
        if name and name not in known:
            raise InvalidRequest(f"there is no {what} {name!r}; there are {', '.join(known)}", field=what)


def page_of(
    forecasting: Forecasting, known: list[Key], request: pb.GetForecastsRequest, size: int
) -> pb.GetForecastsReply:
    """As many whole series as fit into `size` forecasts, one at least, after that which the token names."""
    reply = pb.GetForecastsReply()
    agent, _, series = request.page_token.rpartition("/")
    begin = bisect_right(known, (agent, series)) if request.page_token else 0
    for at in range(begin, len(known)):
        found = forecasting.forecasts(known[at], request.horizon)
        if reply.forecasts and len(reply.forecasts) + len(found) > size:
            reply.next_page_token = "/".join(known[at - 1])
            break
        reply.forecasts.extend(_to_proto(one) for one in found)
    return reply


def _to_proto(one: Forecast) -> pb.ForecastView:
    agent_id, series = one.key
    view = pb.ForecastView(
        agent_id=agent_id,
        series=series,
        horizon=one.horizon,
        ahead_s=one.lead_s,
        target_ms=one.target_ms,
        model=one.model,
        value=one.value,
        low=one.low,
        high=one.high,
        now=one.now,
        scored=one.scored,
        outcomes=[pb.ForecastOutcome(**outcome._asdict()) for outcome in one.outcomes],
    )
    if one.scored:
        view.error, view.naive_error = one.error, one.naive_error
    return view
