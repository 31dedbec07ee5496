# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Hands the newest item from one thread to another; older ones are dropped."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

Item = TypeVar('Item')


class NewestSlot(Generic[Item]):
    """A queue of length one in which the newest item replaces the waiting one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._closed = False

    def put(self, item: Item) -> bool:
        """Leave an item; never blocks. True if an older one was dropped for it."""
        with self._changed:
            dropped = self._item is not None
            self._item = item
            self._changed.notify_all()
        return dropped

    def take(self, not_before_s: float = 0.0) -> Item | None:
        """Wait for an item and take it; None once the slot is closed.

        Args:
            not_before_s: Monotonic time before which nothing is taken, so that what is taken
                then is the newest.
        """
        with self._changed:
            while not self._closed:
                wait_s = not_before_s - time.monotonic()
                if wait_s > 0.0:
                    self._changed.wait(min(wait_s, threading.TIMEOUT_MAX))
                elif self._item is None:
                    self._changed.wait()
                else:
                    item, self._item = self._item, None
                    return item
        return None

    def close(self) -> None:
        """Wake the taker for the last time."""
        with self._changed:
            self._closed = True
            self._item = None
            self._changed.notify_all()
