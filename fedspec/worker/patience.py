"""How long a worker goes on trying what may work again without anybody doing anything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Patience:
    """Seconds of trying, about one try a ``poll_s``, until it is over.

    A try counts for two polls at most: the machine may have slept since the last one, and what was out of reach then has had
    no time since.
    """

    length_s: float
    poll_s: float
    spent_s: float = 0.0
    is_new: bool = True
    _last: float | None = None

    @property
    def left_s(self) -> float:
        """Seconds."""
        return max(0.0, self.length_s - self.spent_s)

    def is_over(self, now: float) -> bool:
        """Whether to give up; called at each failure."""
        self.is_new = self._last is None
        if self._last is not None:
            self.spent_s += min(now - self._last, 2 * self.poll_s)
        self._last = now
        return self.spent_s > self.length_s

    def reset(self) -> None:
        """It works."""
        self.spent_s, self._last = 0.0, None
