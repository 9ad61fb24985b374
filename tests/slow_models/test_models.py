"""The slow models that are installed, on series whose future is known (D6). The extras are not
part of the development environment: install forecast-arima, forecast-lstm or forecast-prophet to try one."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.slow_models.frames import Question
from coordinator.slow_models.models import MODELS, Answering

LIBRARIES = {"arima": "statsforecast", "lstm": "torch", "prophet": "prophet"}
SEASON = 24


@pytest.fixture(params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> str:
    """Each model whose library is there."""
    name: str = request.param
    library = LIBRARIES[name]
    pytest.importorskip(
        library, reason=f"{library} is not installed (pip install 'quorumflow[forecast-{name}]')"
    )
    return name


def paths(model: str, past: np.ndarray, ahead: int) -> np.ndarray:
    """What the model says."""
    steps, series = past.shape
    question = Question(model, SEASON, ahead, steps, series, past.astype(np.float64).tobytes())
    answer = Answering().answer(question)
    assert answer.error == ""
    return np.frombuffer(answer.paths).reshape(ahead, series)


@pytest.mark.filterwarnings("ignore")
def test_what_can_be_known_is_known(model: str) -> None:
    """D6: a series goes back to its mean, or on with its season, better than if nothing changed."""
    if model == "arima":
        past = returning()
        assert abs(paths(model, past, 12)[-1, 0] - 0.5) < 0.5 * abs(past[-1, 0] - 0.5)
        return
    at = np.arange(352)
    whole = np.stack([0.5 + 0.3 * np.sin(2 * np.pi * (at + shift) / SEASON) for shift in (0, 5, 11)], axis=1)
    past, then = whole[:340], whole[340:]
    assert np.abs(paths(model, past, 12) - then).mean() < 0.5 * np.abs(past[-1] - then).mean()


def returning() -> np.ndarray:
    """A series about 0.5 that ends where it is farthest from there."""
    chance, off = np.random.default_rng(1), [0.0]
    for _ in range(400):
        off.append(0.7 * off[-1] + 0.05 * chance.standard_normal())
    series = 0.5 + np.array(off)
    return series[: 200 + int(np.abs(series[200:] - 0.5).argmax()) + 1, None]


@pytest.mark.filterwarnings("ignore")
def test_a_constant_stays(model: str) -> None:
    """D6."""
    assert paths(model, np.full((100, 1), 0.25), 5) == pytest.approx(np.full((5, 1), 0.25), abs=0.02)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [2, 32, 70])
def test_a_short_past_is_no_error(model: str, steps: int) -> None:
    """D6: it may say nothing."""
    past = np.random.default_rng(1).random((steps, 2))
    assert paths(model, past, 60).shape == (60, 2)


def test_a_model_that_is_not_there_is_an_answer() -> None:
    """D6: nothing raises."""
    assert "KeyError" in Answering().answer(Question("tea leaves", 1, 1, 1, 1, bytes(8))).error
    assert "ValueError" in Answering().answer(Question("arima", 1, 1, 2, 2, bytes(8))).error
