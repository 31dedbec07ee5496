# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a buffer remembers of one frame: its parent and pose over time, or for all time.

Times are integer nanoseconds; 0 asks for the latest.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from tf2_py.exceptions import ExtrapolationException
from tf2_py.rigid_transform import RigidTransform


@dataclass(frozen=True)
class StampedLink:
    """The pose of a frame in its parent at one time; rotation is x, y, z, w."""

    stamp_ns: int
    parent: str
    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]

    def T_parent_child(self) -> RigidTransform:
        return RigidTransform(Rotation.from_quat(self.rotation), np.array(self.translation))


@dataclass(frozen=True)
class LinkSample:
    """A link at a requested time: one stored value, or two and the fraction between them."""

    older: StampedLink
    newer: StampedLink | None = None
    fraction: float = 0.0

    @property
    def parent(self) -> str:
        return self.older.parent

    def T_parent_child(self) -> RigidTransform:
        T_parent_child = self.older.T_parent_child()
        # A frame that changed its parent in between keeps the older value: nothing to interpolate.
        if self.newer is None or self.newer.parent != self.older.parent:
            return T_parent_child
        return T_parent_child.interpolate(self.newer.T_parent_child(), self.fraction)


class TimeCache:
    """Links of a moving frame, the last max_age_ns before the newest."""

    def __init__(self, max_age_ns: int) -> None:
        self._max_age_ns = max_age_ns
        self._links: list[StampedLink] = []

    def __len__(self) -> int:
        return len(self._links)

    def insert(self, link: StampedLink) -> bool:
        """Takes the link in; False if it is older than what the cache keeps.

        Stamps may arrive out of order. A repeated link is dropped; of different links with one
        stamp the last that came counts.
        """
        if self._links:
            oldest_kept_ns = self.latest_stamp_ns - self._max_age_ns
            del self._links[: self._first_index_from(oldest_kept_ns)]
            if link.stamp_ns < oldest_kept_ns:
                return False
        position = bisect_right(self._links, link.stamp_ns, key=_stamp_ns)
        first_same = position
        while first_same > 0 and self._links[first_same - 1].stamp_ns == link.stamp_ns:
            first_same -= 1
        if link not in self._links[first_same:position]:
            self._links.insert(position, link)
        return True

    def sample(self, time_ns: int) -> LinkSample:
        """The link at a time.

        Raises:
            ExtrapolationException: The time is not covered.
        """
        if not self._links:
            raise ExtrapolationException(_only_one_time(time_ns, 0))
        if time_ns in (0, self.latest_stamp_ns):
            return LinkSample(self._links[-1])
        if len(self._links) == 1:
            raise ExtrapolationException(_only_one_time(time_ns, self.latest_stamp_ns))
        if time_ns > self.latest_stamp_ns:
            raise ExtrapolationException(
                'Lookup would require extrapolation into the future.  Requested time '
                f'{format_time(time_ns)} but the latest data is at time '
                f'{format_time(self.latest_stamp_ns)}'
            )
        if time_ns < self.oldest_stamp_ns:
            raise ExtrapolationException(
                'Lookup would require extrapolation into the past.  Requested time '
                f'{format_time(time_ns)} but the earliest data is at time '
                f'{format_time(self.oldest_stamp_ns)}'
            )
        if time_ns == self.oldest_stamp_ns:
            return LinkSample(self._links[0])
        newer_index = bisect_right(self._links, time_ns, key=_stamp_ns)
        older, newer = self._links[newer_index - 1], self._links[newer_index]
        fraction = (time_ns - older.stamp_ns) / (newer.stamp_ns - older.stamp_ns)
        return LinkSample(older, newer, fraction)

    @property
    def latest(self) -> StampedLink | None:
        return self._links[-1] if self._links else None

    @property
    def latest_stamp_ns(self) -> int:
        return self._links[-1].stamp_ns if self._links else 0

    @property
    def oldest_stamp_ns(self) -> int:
        return self._links[0].stamp_ns if self._links else 0

    def clear(self) -> None:
        self._links.clear()

    def _first_index_from(self, stamp_ns: int) -> int:
        return bisect_right(self._links, stamp_ns - 1, key=_stamp_ns)


class StaticCache:
    """The one link of a frame that does not move; valid at every time, kept when cleared."""

    latest_stamp_ns = 0
    oldest_stamp_ns = 0

    def __init__(self) -> None:
        self.latest: StampedLink | None = None

    def __len__(self) -> int:
        return 1

    def insert(self, link: StampedLink) -> bool:
        # Stamp 0: a static link holds at every time and so limits no latest common time.
        self.latest = StampedLink(0, link.parent, link.translation, link.rotation)
        return True

    def sample(self, time_ns: int) -> LinkSample:
        assert self.latest is not None, 'a static cache is made for a link'
        return LinkSample(self.latest)

    def clear(self) -> None:
        """Nothing: static links outlive a jump in time."""


def format_time(time_ns: int) -> str:
    """Seconds, as tf2 prints them."""
    return f'{time_ns * 1e-9:.6f}'


def _stamp_ns(link: StampedLink) -> int:
    return link.stamp_ns


def _only_one_time(requested_ns: int, stored_ns: int) -> str:
    return (
        f'Lookup would require extrapolation at time {format_time(requested_ns)}, '
        f'but only time {format_time(stored_ns)} is in the buffer'
    )
