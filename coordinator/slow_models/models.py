"""The slow models by name, each imported when it is first asked."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import numpy as np

from coordinator.slow_models.frames import Answer, Question
from coordinator.slow_models.interface import PathModel

MODELS: Final = {
    "arima": ("coordinator.slow_models.arima", "Arima"),
    "lstm": ("coordinator.slow_models.lstm", "Lstm"),
    "prophet": ("coordinator.slow_models.prophet", "Prophet"),
}


class Answering:
    """Answers questions, and keeps the models between them."""

    def __init__(self) -> None:
        self._made: dict[str, PathModel] = {}

    def answer(self, question: Question) -> Answer:
        """What the model says; or why it says nothing, be it that its library is not there."""
        try:
            past = np.frombuffer(question.past, np.float64).reshape(question.steps, question.series)
            paths = self._model(question.model).paths(past, question.season, question.ahead)
        except Exception as error:
            # Whatever a library raises, the node goes on without it.
            return Answer(error=f"{type(error).__name__}: {error}")
        return Answer(np.ascontiguousarray(paths, np.float64).tobytes())

    def _model(self, name: str) -> PathModel:
        if name not in self._made:
            module, made = MODELS[name]
            self._made[name] = getattr(import_module(module), made)()
        return self._made[name]
