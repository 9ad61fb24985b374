"""One recurrent network for all series, by torch (the extra forecast-lstm)."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import numpy as np

from coordinator.slow_models.interface import Paths

_PAST: Final = 64
"""Steps that it looks at."""

_HIDDEN: Final = 32
_ROUNDS: Final = 60
_WINDOWS: Final = 256
"""Windows that a round learns from."""

_RATE: Final = 5e-3
_SEED: Final = 1


class Lstm:
    """Learns from the series of each call on top of what it learnt before, and says all steps at once, as
    changes from the last value in parts of the series' own spread."""

    def __init__(self) -> None:
        self._torch: Any = import_module("torch")
        self._torch.manual_seed(_SEED)
        self._torch.set_num_threads(1)
        self._chance = np.random.default_rng(_SEED)
        self._nets: dict[int, tuple[Any, Any, Any]] = {}

    def paths(self, past: Paths, season: int, ahead: int) -> Paths:
        del season
        reach = min(ahead, len(past) - _PAST)
        told = np.full((ahead, past.shape[1]), np.nan)
        if reach < 1:
            return told
        spread = np.maximum(past.std(axis=0), 1e-6)
        scaled = (past - past.mean(axis=0)) / spread
        self._learn(scaled, reach, ahead)
        last = scaled[-_PAST:].T
        change = self._say(last, ahead).T
        # What no window of the past was long enough for it has not learnt.
        told[:reach] = (past[-1] + change * spread)[:reach]
        return told

    def _net(self, ahead: int) -> tuple[Any, Any, Any]:
        if ahead not in self._nets:
            nn = self._torch.nn
            net, head = nn.LSTM(1, _HIDDEN, batch_first=True), nn.Linear(_HIDDEN, ahead)
            both = [*net.parameters(), *head.parameters()]
            self._nets[ahead] = net, head, self._torch.optim.Adam(both, lr=_RATE)
        return self._nets[ahead]

    def _learn(self, scaled: Paths, reach: int, ahead: int) -> None:
        net, head, optimizer = self._net(ahead)
        begins = len(scaled) - _PAST - reach + 1
        for _ in range(_ROUNDS):
            at = self._chance.integers(0, begins, _WINDOWS)
            of = self._chance.integers(0, scaled.shape[1], _WINDOWS)
            window = np.stack([scaled[begin : begin + _PAST, one] for begin, one in zip(at, of, strict=True)])
            after = np.stack(
                [
                    scaled[begin + _PAST : begin + _PAST + reach, one]
                    for begin, one in zip(at, of, strict=True)
                ]
            )
            said = head(net(self._inputs(window))[0][:, -1])[:, :reach]
            target = self._tensor(after - window[:, -1:])
            loss = self._torch.nn.functional.l1_loss(said, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _say(self, window: Paths, ahead: int) -> Paths:
        net, head, _ = self._net(ahead)
        with self._torch.no_grad():
            return np.asarray(head(net(self._inputs(window))[0][:, -1]).numpy(), np.float64)

    def _inputs(self, window: Paths) -> Any:
        return self._tensor(window - window[:, -1:])[:, :, None]

    def _tensor(self, values: Paths) -> Any:
        return self._torch.as_tensor(values.astype(np.float32))
