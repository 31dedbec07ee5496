# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The one transform that places the robot in the map, by `tf_mode`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from implicit_relocalizer.localization.agreement import Fix, Transform
from implicit_relocalizer.localization.frames import (
    Frames,
    NoTransformError,
    map_from_odometry,
)
from implicit_relocalizer.localization.parameters import Parameters
from implicit_relocalizer.localization.rejection import NoPoseError, Reason


@dataclass(frozen=True, eq=False)
class PlacedFrame:
    """A frame in its parent at a stamp."""

    stamp_ns: int
    parent: str
    child: str
    T_parent_child: Transform


class MapTransform:
    """Sends nothing before the first accepted fix.

    `map_to_camera` and `map_to_base` are sent with the stamp of each accepted image;
    `map_to_odom` holds until the next fix, and is to be sent again at a steady rate, stamped
    ahead of the clock so that others can use it at once (as AMCL does).
    """

    def __init__(self, settings: Parameters, send: Callable[[PlacedFrame], None],
                 now_ns: Callable[[], int]) -> None:
        """
        Args:
            settings: The parameters.
            send: Broadcasts a transform.
            now_ns: The clock that `map_to_odom` is stamped by.
        """
        self._settings = settings
        self._send = send
        self._now_ns = now_ns
        self._T_map_odom: Transform | None = None
        self._is_lost = False
        self._moves_robot = False

    def use(self, settings: Parameters) -> None:
        """Go by other parameters, as far as they may change."""
        self._settings = settings

    @property
    def moves_robot(self) -> bool:
        """Whether the camera or the base was broadcast below the map."""
        return self._moves_robot

    def place(self, fix: Fix, camera_frame: str, frames: Frames) -> None:
        """Broadcast what an accepted fix says.

        Raises:
            NoTransformError: the camera is not connected to the base (`map_to_base`).
            NoPoseError: the frame to be placed has another parent, which a second one would
                contradict.
        """
        settings = self._settings
        self._is_lost = False
        if settings.tf_mode == 'map_to_camera':
            self._refuse_second_parent(frames, settings.base_frame, camera_frame)
            self._send(PlacedFrame(fix.stamp_ns, settings.map_frame, camera_frame,
                                   fix.T_map_camera))
            self._moves_robot = True
        elif settings.tf_mode == 'map_to_base':
            self._refuse_second_parent(frames, settings.odom_frame, settings.base_frame)
            T_camera_base = frames.lookup(camera_frame, settings.base_frame, fix.stamp_ns)
            self._send(PlacedFrame(fix.stamp_ns, settings.map_frame, settings.base_frame,
                                   fix.T_map_camera @ T_camera_base))
            self._moves_robot = True
        elif settings.tf_mode == 'map_to_odom':
            assert fix.T_odom_camera is not None, 'needs_odometry refuses such images'
            self._T_map_odom = map_from_odometry(fix.T_map_camera, fix.T_odom_camera)
            self.send_again()

    def lose(self) -> None:
        """The place is not known any more: `tf_when_lost` says what is sent."""
        self._is_lost = True

    def forget(self) -> None:
        """What was sent does not hold any more: say nothing until the next fix."""
        self._T_map_odom = None

    def send_again(self) -> None:
        """Send what holds (`map_to_odom`); to be called `tf_rate_hz` times a second."""
        withheld = self._is_lost and self._settings.tf_when_lost == 'withhold'
        if self._T_map_odom is None or withheld:
            return
        ahead_ns = self._now_ns() + int(1e9 * self._settings.tf_tolerance)
        self._send(PlacedFrame(ahead_ns, self._settings.map_frame, self._settings.odom_frame,
                               self._T_map_odom))

    def _refuse_second_parent(self, frames: Frames, parent: str, child: str) -> None:
        # Once we have sent, the two are connected through us: only before can it be told.
        if not self._moves_robot and parent != child and frames.is_connected(parent, child):
            raise NoPoseError(
                Reason.SECOND_PARENT,
                f"'{child}' is placed by '{parent}' already, and a frame has one parent: "
                f'{self._settings.tf_mode} is not broadcast; set tf_mode to map_to_odom, or to '
                f'none')


def no_mount(error: NoTransformError) -> NoPoseError:
    """What to say where the camera's place on the robot is not known; it refuses no image."""
    return NoPoseError(
        Reason.NO_CAMERA_TF, f'{error}; publish where the camera is mounted (the URDF by '
                             f'robot_state_publisher, or a static_transform_publisher)')
