"""Returns, deviation and correlation: held to numpy, which shares no code with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.market.statistics import correlation, log_returns, mean, sample_deviation

PRICES = st.floats(0.0001, 1e6)
VALUES = st.floats(-10, 10, allow_nan=False).map(lambda value: round(value, 6))


@given(st.lists(PRICES, min_size=2, max_size=200))
def test_returns_mean_and_deviation_are_numpys(closes: list[float]) -> None:
    returns = log_returns(closes)
    expected = np.diff(np.log(np.array(closes)))
    assert np.allclose(returns, expected, rtol=1e-9, atol=1e-9)
    assert math.isclose(mean(returns) or 0, float(np.mean(expected)), rel_tol=1e-9, abs_tol=1e-9)
    deviation = sample_deviation(returns)
    if len(returns) < 2:
        assert deviation is None
    else:
        assert math.isclose(deviation or 0, float(np.std(expected, ddof=1)), rel_tol=1e-7, abs_tol=1e-9)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=100))
def test_the_correlation_is_numpys(pairs: list[tuple[float, float]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    found = correlation(first, second)
    if np.std(first) < 1e-6 or np.std(second) < 1e-6:
        return
    assert found is not None
    assert math.isclose(found, float(np.corrcoef(first, second)[0, 1]), rel_tol=1e-6, abs_tol=1e-6)
    assert -1 <= found <= 1


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [2, 4, 6], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, -1, 1, -1], [1, 1, -1, -1], 0.0),
        ([1, 2, 3], [5, 5, 5], None),
        ([1], [1], None),
        ([], [], None),
    ],
)
def test_the_correlation_of_what_can_be_seen_at_once(
    first: list[float], second: list[float], expected: float | None
) -> None:
    assert correlation(first, second) == (None if expected is None else pytest.approx(expected))


def test_what_can_not_be_measured_is_refused_or_none() -> None:
    with pytest.raises(ValueError, match="positive"):
        log_returns([1.0, 0.0])
    with pytest.raises(ValueError, match="paired"):
        correlation([1.0, 2.0], [1.0])
    assert (mean([]), sample_deviation([0.1]), log_returns([5.0])) == (None, None, [])
