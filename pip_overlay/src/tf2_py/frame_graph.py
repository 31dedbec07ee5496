# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The tree of frames: which links lie between two frames at a time.

Follows tf2: a frame's parent may change over time, so a path is found by walking from both
frames towards the root at the requested time. Not thread-safe; BufferCore holds the lock.
"""

from __future__ import annotations

from tf2_py.exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
)
from tf2_py.rigid_transform import RigidTransform
from tf2_py.time_cache import LinkSample, StampedLink, StaticCache, TimeCache

MAX_DEPTH = 1000  # tf2's; a longer chain is taken for a loop


class FrameGraph:
    """Caches by child frame; frames that are only parents are known but have no cache."""

    def __init__(self, max_age_ns: int) -> None:
        self._max_age_ns = max_age_ns
        self.caches: dict[str, TimeCache | StaticCache | None] = {}

    def insert(self, child: str, link: StampedLink, *, is_static: bool) -> bool:
        """Takes a link in; False if it is too old. Changing between static and moving starts
        the frame's history anew."""
        cache = self.caches.get(child)
        wanted = StaticCache if is_static else TimeCache
        if not isinstance(cache, wanted):
            cache = StaticCache() if is_static else TimeCache(self._max_age_ns)
            self.caches[child] = cache
        self.caches.setdefault(link.parent, None)
        return cache.insert(link)

    def clear(self) -> None:
        for cache in self.caches.values():
            if cache is not None:
                cache.clear()

    def require(self, frame: str, argument: str) -> None:
        """Raises InvalidArgumentException for impossible names, LookupException for unknown."""
        problem = name_problem(frame)
        if problem:
            raise InvalidArgumentException(
                f'Invalid argument "{frame}" passed to {argument} - {problem}'
            )
        if frame not in self.caches:
            raise LookupException(f'"{frame}" passed to {argument} does not exist. ')

    def latest_stamp_ns(self, frame: str) -> int:
        cache = self.caches.get(frame)
        return cache.latest_stamp_ns if cache is not None else 0

    def T_target_source(self, target: str, source: str, time_ns: int) -> RigidTransform:
        """Between two known frames at a time that is not 0, or 0 where every link is static."""
        source_links, target_links = self.links_between(target, source, time_ns)
        T_top_source = _chain(source_links)
        return _chain(target_links).inverse().compose(T_top_source)

    def links_between(
        self, target: str, source: str, time_ns: int
    ) -> tuple[list[LinkSample], list[LinkSample]]:
        """The links from source, and those from target, up to one frame above both.

        Raises:
            ConnectivityException, ExtrapolationException, LookupException: There is no path.
        """
        source_links: list[LinkSample] = []
        extrapolation: ExtrapolationException | None = None
        frame = source
        while frame != target:
            cache = self.caches.get(frame)
            if cache is None:
                break
            try:
                sample = cache.sample(time_ns)
            except ExtrapolationException as error:
                # Not yet a failure: the target's links may meet the chain below this frame.
                extrapolation = error
                break
            source_links.append(sample)
            frame = sample.parent
            self._refuse_loop(source_links)
        top = frame

        target_links: list[LinkSample] = []
        frame = target
        while frame not in (top, source):
            cache = self.caches.get(frame)
            if cache is None:
                if extrapolation is not None:
                    raise self._on_the_way(extrapolation, target, source)
                raise self._not_connected(target, source)
            try:
                sample = cache.sample(time_ns)
            except ExtrapolationException as error:
                raise self._on_the_way(error, target, source) from None
            target_links.append(sample)
            frame = sample.parent
            self._refuse_loop(target_links)
        if frame == source:
            source_links = []
        return source_links, target_links

    def latest_common_time_ns(self, target: str, source: str) -> int:
        """The newest time at which all links between two known frames are covered.

        Static links limit nothing; 0 if there are no others.
        """
        if target == source:
            return self.latest_stamp_ns(source)
        source_links = self._latest_links(source, until={target})
        if source_links and source_links[-1].parent == target:
            return _earliest_stamp_ns(source_links)
        parents = [link.parent for link in source_links]
        target_links = self._latest_links(target, until={source, *parents})
        meeting = target_links[-1].parent if target_links else ''
        if meeting == source:
            return _earliest_stamp_ns(target_links)
        if meeting not in parents:
            raise self._not_connected(target, source)
        return _earliest_stamp_ns(target_links + source_links[: parents.index(meeting) + 1])

    def as_string(self) -> str:
        lines = []
        for frame, cache in self.caches.items():
            if cache is not None:
                parent = cache.latest.parent if cache.latest else 'NO_PARENT'
                lines.append(f'Frame {frame} exists with parent {parent}.\n')
        return ''.join(lines)

    def _latest_links(self, frame: str, until: set[str]) -> list[StampedLink]:
        """The newest link of frame, of its parent and so on, ending with a parent in until."""
        links: list[StampedLink] = []
        while True:
            cache = self.caches.get(frame)
            if cache is None or cache.latest is None:
                return links
            links.append(cache.latest)
            frame = cache.latest.parent
            if frame in until:
                return links
            self._refuse_loop(links)

    def _refuse_loop(self, links: list) -> None:
        if len(links) > MAX_DEPTH:
            raise LookupException(
                f'The tf tree is invalid because it contains a loop.\n{self.as_string()}\n'
            )

    @staticmethod
    def _on_the_way(
        error: ExtrapolationException, target: str, source: str
    ) -> ExtrapolationException:
        return ExtrapolationException(
            f'{error}, when looking up transform from frame [{source}] to frame [{target}]'
        )

    @staticmethod
    def _not_connected(target: str, source: str) -> ConnectivityException:
        return ConnectivityException(
            f"Could not find a connection between '{target}' and '{source}' because they are "
            'not part of the same tree.Tf has two or more unconnected trees.'
        )


def name_problem(frame: str) -> str:
    """Why tf2 accepts no such frame name in a lookup; empty if it does."""
    if not frame:
        return 'in tf2 frame_ids cannot be empty'
    if frame.startswith('/'):
        return "in tf2 frame_ids cannot start with a '/'"
    return ''


def _chain(links: list[LinkSample]) -> RigidTransform:
    """T_top_bottom of links listed from the bottom up."""
    T_top_bottom = RigidTransform.identity()
    for link in links:
        T_top_bottom = link.T_parent_child().compose(T_top_bottom)
    return T_top_bottom


def _earliest_stamp_ns(links: list[StampedLink]) -> int:
    return min((link.stamp_ns for link in links if link.stamp_ns), default=0)
