"""How many payments a rule has decided in the present minute."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import MINUTE_US


class RateLimits:
    """Counts by the minutes of a clock, so that the state of a rule is two numbers. Not thread-safe."""

    def __init__(self, used: Mapping[str, tuple[int, int]] | None = None) -> None:
        """Begin with nothing used, or with what `used` gave."""
        self._used = dict(used or {})

    @property
    def used(self) -> dict[str, tuple[int, int]]:
        """The newest minute of each rule, and how many it decided in it."""
        return dict(self._used)

    def copy(self) -> RateLimits:
        """Return limits that go on from here: a rule set that takes the place of another resets nothing."""
        return RateLimits(self._used)

    def take(
        self, rule: str, limit: int | None, rows: NDArray[np.int64], now_us: int | NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return which of M payments a rule may decide, bool (M,), and count those.

        Args:
            rule: Its name.
            limit: The most in a minute; None is no limit.
            rows: The payments, in order of arrival, int64 (M,).
            now_us: The time, or that of every payment of the batch, int64 (N,), microseconds. One that is earlier than
                the one before counts in the minute of that one.
        """
        if limit is None or not rows.size:
            return np.ones(rows.shape, dtype=np.bool_)
        minute, used = self._used.get(rule, (np.iinfo(np.int64).min, 0))
        times = np.full(rows.shape, now_us) if isinstance(now_us, int) else now_us[rows]
        minutes = np.maximum(np.maximum.accumulate(times // MINUTE_US), minute)
        rank = np.arange(rows.size) - np.searchsorted(minutes, minutes) + np.where(minutes == minute, used, 0)
        allowed: NDArray[np.bool_] = rank < limit
        last = int(minutes[-1])
        used = (used if last == minute else 0) + int(np.count_nonzero(allowed & (minutes == last)))
        self._used[rule] = (last, used)
        return allowed
