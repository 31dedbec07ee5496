# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What became of the images, and how seldom one need say so."""

from __future__ import annotations

from collections import Counter, deque
from statistics import median

from implicit_relocalizer.localization.rejection import Reason

_RATE_WINDOW_S = 3.0


class RunStatistics:
    """Counts of one run; times are of the last thousand inferences.

    Attributes:
        received: Images that came while they were wanted.
        superseded: Of these, those that a newer one replaced before their turn.
        answered: Of these, those whose pose left.
        rejected: Of these, those without a pose, by reason.
        image_rate: Of the images received.
        fix_rate: Of the poses that left.
        image_age_s: From the stamp of the last image answered or refused to its end.
        confidence: Of the last answer of the model, published or not.
    """

    def __init__(self) -> None:
        self.received = 0
        self.superseded = 0
        self.answered = 0
        self.rejected: Counter[Reason] = Counter()
        self.image_rate = RateMeter(_RATE_WINDOW_S)
        self.fix_rate = RateMeter(_RATE_WINDOW_S)
        self.image_age_s: float | None = None
        self.confidence: float | None = None
        self._inference_ms: deque[float] = deque(maxlen=1000)

    @property
    def last_inference_ms(self) -> float | None:
        """How long the model took last; None before it was asked."""
        return self._inference_ms[-1] if self._inference_ms else None

    def add_inference(self, duration_s: float) -> None:
        """Note how long the model took for one image."""
        self._inference_ms.append(1e3 * duration_s)

    def summary(self) -> str:
        """One line for people."""
        parts = [f'{self.received} images received', f'{self.answered} answered',
                 f'{self.superseded} superseded by newer ones']
        parts += [f'{count} rejected ({reason.value})'
                  for reason, count in self.rejected.most_common()]
        if self._inference_ms:
            parts.append(f'inference {median(self._inference_ms):.1f} ms in the median, '
                         f'{max(self._inference_ms):.1f} ms at most')
        return ', '.join(parts)


class RateMeter:
    """Events per second over a window that ends now; time comes from the caller."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._times_s: deque[float] = deque()

    def note(self, now_s: float) -> None:
        """One more event."""
        self._times_s.append(now_s)
        self._forget(now_s)

    def per_second(self, now_s: float) -> float:
        """Events of the window over its length."""
        self._forget(now_s)
        return len(self._times_s) / self._window_s

    def _forget(self, now_s: float) -> None:
        while self._times_s and self._times_s[0] < now_s - self._window_s:
            self._times_s.popleft()


class Throttle:
    """Lets one message of each kind through per period; time comes from the caller."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._last_s: dict[str, float] = {}
        self._held: Counter[str] = Counter()

    def admit(self, kind: str, now_s: float) -> int | None:
        """How many of this kind were held back since the last one, or None to hold this too."""
        last_s = self._last_s.get(kind)
        if last_s is not None and now_s - last_s < self._period_s:
            self._held[kind] += 1
            return None
        self._last_s[kind] = now_s
        return self._held.pop(kind, 0)
