# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The clock of a recording: messages and timers in the order of time, as fast as they go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Event = TypeVar('Event')
NS_PER_S = 1_000_000_000


@dataclass
class _Timer:
    due_ns: int
    period_ns: int | None  # None: once
    call: Callable[[], None]


class Timeline(Generic[Event]):
    """Runs through events; whoever has to wait lets it run on.

    A call of `run` may come out of an event or a timer that another `run` has brought: so one
    thread of control waits, as the node's inference thread does, while the rest goes on.

    Attributes:
        start_ns: Time of the first event.
        now_ns: Never goes back.
    """

    def __init__(self, events: Iterator[tuple[int, Event]],
                 hear: Callable[[int, Event], None]) -> None:
        """
        Args:
            events: With their times in nanoseconds, in order.
            hear: Called with each at its time.
        """
        self._events = events
        self._hear = hear
        self._next = next(events, None)
        self._timers: list[_Timer] = []
        self.start_ns = self.now_ns = self._next[0] if self._next is not None else 0

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return (self.now_ns - self.start_ns) / NS_PER_S

    def every(self, period_s: float, call: Callable[[], None]) -> None:
        """Call again and again, for the first time after one period."""
        period_ns = max(1, round(period_s * NS_PER_S))
        self._timers.append(_Timer(self.now_ns + period_ns, period_ns, call))

    def at(self, time_ns: int, call: Callable[[], None]) -> None:
        """Call once."""
        self._timers.append(_Timer(time_ns, None, call))

    def run(self) -> None:
        """Go on to the last event."""
        while self._next is not None:
            self._step(None)

    def sleep(self, duration_s: float) -> None:
        """Let time pass."""
        self.wait_for(lambda: False, duration_s)

    def wait_for(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Let time pass until a condition holds; returns whether it came to that in time.

        Time passes the same behind the last event.
        """
        limit_ns = self.now_ns + round(limit_s * NS_PER_S)
        while not condition():
            if not self._step(limit_ns):
                self.now_ns = max(self.now_ns, limit_ns)
                return condition()
        return True

    def _step(self, limit_ns: int | None) -> bool:
        """Bring what comes next, if it comes no later than the limit."""
        timer = min(self._timers, key=lambda timer: timer.due_ns, default=None)
        event = self._next
        if timer is not None and (event is None or timer.due_ns < event[0]):
            if limit_ns is not None and timer.due_ns > limit_ns:
                return False
            self._ring(timer)
            return True
        if event is None or (limit_ns is not None and event[0] > limit_ns):
            return False
        self._next = next(self._events, None)
        self.now_ns = max(self.now_ns, event[0])
        self._hear(*event)
        return True

    def _ring(self, timer: _Timer) -> None:
        self.now_ns = max(self.now_ns, timer.due_ns)
        if timer.period_ns is None:
            self._timers.remove(timer)
        else:
            timer.due_ns += timer.period_ns
        timer.call()
