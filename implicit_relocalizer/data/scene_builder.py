# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Frames become a scene: bad ones left out and counted, splits assigned, one camera for all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from implicit_relocalizer.data.common_camera import common_pinhole
from implicit_relocalizer.data.frames import (
    Float64Array,
    Frame,
    Lens,
    Scene,
    SceneError,
    SkippedFrame,
    Split,
)
from implicit_relocalizer.data.image_files import image_size
from implicit_relocalizer.data.lens import checked_lens
from implicit_relocalizer.data.poses import checked_pose
from implicit_relocalizer.data.splits import STANDARD, assign_splits

logger = logging.getLogger(__name__)

_REASONS_LOGGED = 3


@dataclass(frozen=True)
class RawFrame:
    """A frame as a reader finds it.

    Attributes:
        name: Unique within the scene.
        image_path: The image as the camera took it.
        lens: The camera that took it; all coefficients zero where it is a pinhole.
        T_world_camera: 4x4, checked when it is added.
        source: What to name where the pose or the camera is wrong, usually a file.
        split: What the benchmark says, None where it says nothing.
        sequence, stamp_s, depth_path, image_bytes: As of `Frame`.
    """

    name: str
    image_path: Path
    lens: Lens
    T_world_camera: Float64Array
    source: object
    split: Split | None = None
    sequence: str = ''
    stamp_s: float | None = None
    depth_path: Path | None = None
    image_bytes: bytes | None = None


class SceneBuilder:
    """Collects frames; a reader wraps each in `frame` and adds it inside."""

    def __init__(self, root: Path, split: str = STANDARD) -> None:
        self._root = Path(root)
        self._split = split
        self._frames: dict[str, RawFrame] = {}
        self._seen: list[str] = []
        self._skipped: list[SkippedFrame] = []

    @contextmanager
    def frame(self, name: str) -> Iterator[None]:
        """Around everything that concerns one frame: a SceneError inside leaves it out."""
        self._seen.append(name)
        try:
            yield
        except SceneError as error:
            self.skip(name, str(error))

    def skip(self, name: str, reason: str) -> None:
        """Count a frame as left out."""
        self._skipped.append(SkippedFrame(name, reason))

    def add(self, frame: RawFrame) -> None:
        """Add a frame whose pose, camera and image are what they should be.

        Raises:
            SceneError: they are not; the message names the file and the value.
        """
        if frame.name in self._frames:
            raise SceneError(f'{frame.image_path}: has the name of '
                             f'{self._frames[frame.name].image_path}; one pose cannot stand for '
                             f'two images')
        T_world_camera = checked_pose(frame.T_world_camera, frame.source)
        checked_lens(frame.lens, frame.source)
        if frame.image_bytes is None:
            size = image_size(frame.image_path)
            expected = frame.lens.image_size
            if size != expected:
                raise SceneError(f'{frame.image_path}: {size[0]}x{size[1]} while its camera is '
                                 f'calibrated at {expected[0]}x{expected[1]}')
        self._frames[frame.name] = replace(frame, T_world_camera=T_world_camera)

    def build(self) -> Scene:
        """The scene.

        Raises:
            SceneError: no usable frame, no such split, or a split without frames.
        """
        self._check_any()
        official = {frame.name: frame.split for frame in self._frames.values()
                    if frame.split is not None}
        try:
            splits = assign_splits(self._root, self._split, set(self._seen), official)
        except SceneError as error:
            raise SceneError(f'{error}{self._first_left_out()}') from None
        raw = [self._frames[name] for name in sorted(self._frames) if name in splits]
        for name in sorted(self._frames.keys() - splits.keys()):
            self.skip(name, 'the benchmark lists it in neither split')
        size, pinholes = common_pinhole([frame.lens for frame in raw])
        frames = []
        for frame, pinhole in zip(raw, pinholes, strict=True):
            if isinstance(pinhole, SceneError):
                self.skip(frame.name, f'{frame.image_path}: {pinhole}')
                continue
            frames.append(Frame(
                name=frame.name, image_path=frame.image_path, K_33=pinhole.K_33,
                T_world_camera=frame.T_world_camera, split=splits[frame.name],
                sequence=frame.sequence, stamp_s=frame.stamp_s, image_bytes=frame.image_bytes,
                # Resampled images no longer lie over their depth.
                depth_path=frame.depth_path if pinhole.lens is None else None,
                lens=pinhole.lens))
        scene = Scene(self._root.resolve().name, self._root, tuple(frames), size,
                      tuple(self._skipped))
        self._report()
        self._check_splits(scene)
        return scene

    def _check_any(self) -> None:
        if not self._seen:
            raise SceneError(f'{self._root}: lists no frames')
        if not self._frames:
            first = self._skipped[0]
            raise SceneError(f'{self._root}: none of the {len(self._seen)} frames can be used; '
                             f'the first, {first.name}: {first.reason}')

    def _check_splits(self, scene: Scene) -> None:
        train, test = len(scene.split('train')), len(scene.split('test'))
        if not train or not test:
            raise SceneError(
                f'{self._root}: {train} training and {test} test frames are left of '
                f'{len(self._seen)}, both need some{self._first_left_out()}')

    def _first_left_out(self) -> str:
        if not self._skipped:
            return ''
        first = self._skipped[0]
        return f' ({len(self._skipped)} were left out, the first, {first.name}: {first.reason})'

    def _report(self) -> None:
        if not self._skipped:
            return
        logger.warning('%s: %d of %d frames left out', self._root, len(self._skipped),
                       len(self._seen))
        for skipped in self._skipped[:_REASONS_LOGGED]:
            logger.warning('left out %s: %s', skipped.name, skipped.reason)
        if len(self._skipped) > _REASONS_LOGGED:
            logger.warning('and %d more', len(self._skipped) - _REASONS_LOGGED)
