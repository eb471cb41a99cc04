"""What every indicator has in common, and the rolling windows that they are made of.

Floats are right here: indicators are analytics on prices, never an amount of money.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from math import fsum
from typing import ClassVar, Generic, TypeVar

V = TypeVar("V")

MAX_PERIOD = 10_000
MAX_MAGNITUDE = 1e100
"""Inputs beyond this are refused, so that their squares stay finite."""
REBASE_UPDATES = 256
"""After so many updates, or one window when that is more, a rolling sum is taken anew."""


class Indicator(ABC, Generic[V]):
    """Fed one bar at a time. `update` takes the fields named by `inputs` and gives the value, or None until enough
    bars have come (`is_ready`). It raises ValueError, and changes nothing, for NaN, infinity and what the indicator
    isn't defined for."""

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    """The fields of a bar that `update` takes, in order."""
    update: Callable[..., V | None]

    def __init__(self) -> None:
        self.value: V | None = None
        self.reset()

    @property
    def is_ready(self) -> bool:
        return self.value is not None

    def reset(self) -> None:
        """Forget every bar."""
        self.value = None
        self._clear()

    @abstractmethod
    def _clear(self) -> None: ...

    def _refuse(self, **values: float) -> ValueError:
        given = ", ".join(f"{name}={value!r}" for name, value in values.items())
        return ValueError(
            f"{self.name} takes finite numbers up to {MAX_MAGNITUDE:g}, got {given}; leave the bar out or repair it"
        )

    def _refuse_bar(self, high: float, low: float, close: float) -> ValueError:
        return ValueError(
            f"{self.name} takes finite numbers up to {MAX_MAGNITUDE:g} with low <= close <= high, "
            f"got high={high!r}, low={low!r}, close={close!r}; leave the bar out or repair it"
        )


def whole(name: str, parameter: str, value: int, least: int) -> int:
    """A period within its range. Raises ValueError naming the indicator and the parameter."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_PERIOD:
        raise ValueError(f"{name} needs {parameter} as a whole number from {least} to {MAX_PERIOD}, not {value!r}")
    return value


class RollingMean:
    """The mean of the last `period` values.

    The running sum is compensated (Neumaier 1974): what rounding loses is carried beside it, so that a value leaves
    the sum as exactly as it came; and it is taken anew every REBASE_UPDATES, which bounds what is left of the error.
    The mean of equal values is exactly that value.
    """

    __slots__ = ("_carry", "_period", "_run", "_sum", "_until_rebase", "window")

    def __init__(self, period: int) -> None:
        self._period = period
        self.clear()

    def clear(self) -> None:
        self.window: deque[float] = deque()
        self._run = 0
        self._sum = self._carry = 0.0
        self._until_rebase = self._rebase_updates()

    def _rebase_updates(self) -> int:
        return max(REBASE_UPDATES, self._period)

    def update(self, value: float) -> float | None:
        window = self.window
        self._run = self._run + 1 if window and window[-1] == value else 1
        window.append(value)
        total, carry = self._sum, self._carry
        joined = total + value
        carry += (total - joined) + value if abs(total) >= abs(value) else (value - joined) + total
        if len(window) > self._period:
            gone = -window.popleft()
            total, joined = joined, joined + gone
            carry += (total - joined) + gone if abs(total) >= abs(gone) else (gone - joined) + total
        elif len(window) < self._period:
            self._sum, self._carry = joined, carry
            return None
        self._until_rebase -= 1
        if self._until_rebase <= 0:
            self._until_rebase = self._rebase_updates()
            joined = fsum(window)
            carry = fsum((*window, -joined))
        self._sum, self._carry = joined, carry
        return value if self._run >= self._period else (joined + carry) / self._period


class RollingDeviation:
    """Mean and squared deviations of the last `period` values.

    Sums of the values and their squares, less an origin near them that is chosen anew every REBASE_UPDATES (one
    window when that is more), so that little cancels; equal values have a deviation of exactly 0.
    """

    __slots__ = ("_mean", "_origin", "_period", "_run", "_squares", "_until_rebase", "_window", "mean")

    def __init__(self, period: int) -> None:
        self._period = period
        self._mean = RollingMean(period)
        self._squares = RollingMean(period)
        self.clear()

    def clear(self) -> None:
        self._window: deque[float] = deque(maxlen=self._period)
        self._run = 0
        self._rebase(0.0)

    def _rebase(self, origin: float) -> None:
        self._origin = self.mean = origin
        self._until_rebase = max(REBASE_UPDATES, self._period)
        self._mean.clear()
        self._squares.clear()
        for value in self._window:
            self._feed(value)

    def _feed(self, value: float) -> float | None:
        offset = value - self._origin
        mean = self._mean.update(offset)
        square = self._squares.update(offset * offset)
        if mean is None or square is None:
            return None
        self.mean = self._origin + mean
        return max(0.0, square - mean * mean)

    def update(self, value: float) -> float | None:
        """The population variance; `mean` is the mean then."""
        window = self._window
        self._run = self._run + 1 if window and window[-1] == value else 1
        if not window:
            self._rebase(value)
        self._until_rebase -= 1
        if self._until_rebase <= 0:
            window.append(value)
            self._rebase(value)
            # The last value of the window was fed by the rebase.
            variance = self._variance()
        else:
            window.append(value)
            variance = self._feed(value)
        if self._run >= self._period:
            self.mean = value
            return 0.0
        return variance

    def _variance(self) -> float | None:
        window = self._window
        if len(window) < self._period:
            return None
        return sum((value - self.mean) ** 2 for value in window) / self._period


class RollingExtreme:
    """The highest (sign 1) or lowest (sign -1) of the last `period` values: a queue that only falls (rises), so that
    each value enters and leaves it once."""

    __slots__ = ("_count", "_period", "_queue", "_sign")

    def __init__(self, period: int, sign: int) -> None:
        self._period = period
        self._sign = sign
        self.clear()

    def clear(self) -> None:
        self._queue: deque[tuple[int, float]] = deque()
        self._count = 0

    def update(self, value: float) -> float | None:
        queue, sign = self._queue, self._sign
        count = self._count = self._count + 1
        while queue and queue[-1][1] * sign <= value * sign:
            queue.pop()
        queue.append((count, value))
        if queue[0][0] <= count - self._period:
            queue.popleft()
        return queue[0][1] if count >= self._period else None
