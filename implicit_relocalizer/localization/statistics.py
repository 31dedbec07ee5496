# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What became of the images, and how seldom one need say so."""

from __future__ import annotations

from collections import Counter, deque
from statistics import median

from implicit_relocalizer.localization.rejection import Reason


class RunStatistics:
    """Counts of one run; times are of the last thousand inferences."""

    def __init__(self) -> None:
        self.received = 0
        self.superseded = 0
        self.answered = 0
        self.rejected: Counter[Reason] = Counter()
        self._inference_ms: deque[float] = deque(maxlen=1000)

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
