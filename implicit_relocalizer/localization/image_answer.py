# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From an image message to an answer: everything that happens before answers are compared."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.localization.agreement import Fix, Transform
from implicit_relocalizer.localization.camera_check import (
    calibration_from_message,
    check_aspect,
    intrinsics_of_image,
)
from implicit_relocalizer.localization.estimate import (
    MappedBounds,
    PoseEstimate,
    check_estimate,
    check_inside_map,
    least_confidence,
)
from implicit_relocalizer.localization.frames import Frames, NoTransformError
from implicit_relocalizer.localization.image_decoding import rgb_from_message
from implicit_relocalizer.localization.parameters import Parameters
from implicit_relocalizer.localization.rejection import NoPoseError, Reason
from implicit_relocalizer.localization.stamps import stamp_to_ns
from implicit_relocalizer.network.model_file import ModelMetadata

# The first image may arrive just before the CameraInfo that was published with it.
_CAMERA_INFO_PATIENCE_S = 0.5

# Waits until a condition holds, at most so many seconds.
WaitFor = Callable[[Callable[[], bool], float], object]


class Runner(Protocol):
    """What is asked of a model; `ModelRunner` is one."""

    metadata: ModelMetadata

    @property
    def bounds(self) -> MappedBounds:
        """Where the training cameras were."""
        ...

    def locate(self, image_hw3: NDArray[np.uint8], K_33: NDArray[np.float64],
               with_points: bool = False) -> PoseEstimate:
        """Estimate the camera's pose."""
        ...


@dataclass(frozen=True, eq=False)
class ImageAnswer:
    """What became of one image.

    Attributes:
        stamp_ns: Of the image.
        camera_frame: Optical frame that the answer is of.
        fix: The answer; None where the image was refused.
        refusal: Why it was refused.
        inference_s: How long the model took; None where it was not asked.
        confidence: Of the answer, accepted or not.
    """

    stamp_ns: int
    camera_frame: str
    fix: Fix | None
    refusal: NoPoseError | None
    inference_s: float | None
    confidence: float | None


class ImageAnswerer:
    """Answers one image after the other, on the thread that calls.

    Messages may be rclpy's or those of a recording: their fields count, not their classes.
    """

    def __init__(self, runner: Runner, frames: Frames, settings: Callable[[], Parameters],
                 wants_points: Callable[[], bool], moves_robot: Callable[[], bool],
                 camera_info_topic: str, warn_once: Callable[[str], object],
                 wait_for: WaitFor | None = None,
                 clock_s: Callable[[], float] = time.perf_counter,
                 decode: Callable[[Any], NDArray[np.uint8]] = rgb_from_message) -> None:
        """
        Args:
            runner: The model.
            frames: The robot's transforms.
            settings: Gives the parameters as they are now.
            wants_points: Whether anybody wants the points of an answer.
            moves_robot: Whether we broadcast the camera or the base below the map ourselves, so
                that a way from odometry to the camera would lead through our own answers.
            camera_info_topic: For people.
            warn_once: Gets the same sentence with every image that it is true of.
            wait_for: How to wait for the first CameraInfo; by default, for another thread.
            clock_s: Measures how long the model takes.
            decode: Makes an RGB array of an image message, or raises NoPoseError.
        """
        self._camera_info_topic = camera_info_topic
        self._runner = runner
        self._frames = frames
        self._settings = settings
        self._wants_points = wants_points
        self._moves_robot = moves_robot
        self._warn_once = warn_once
        self._wait_for = wait_for or self._wait_for_thread
        self._clock_s = clock_s
        self._decode = decode
        self._camera_info: Any = None
        self._news = threading.Condition()
        self._waits = True

    def take_camera_info(self, info: Any) -> None:
        """The newest one holds; from any thread."""
        with self._news:
            self._camera_info = info
            self._news.notify_all()

    def stop_waiting(self) -> None:
        """Let an answer under way end soon."""
        with self._news:
            self._waits = False
            self._news.notify_all()

    def answer(self, image: Any) -> ImageAnswer:
        """Decode, locate and judge an image on its own.

        Args:
            image: sensor_msgs/Image or CompressedImage.
        """
        settings = self._settings()
        camera_frame = settings.camera_frame or image.header.frame_id
        stamp_ns = stamp_to_ns(image.header)
        inference_s = confidence = fix = refusal = None
        try:
            _check_camera_frame(settings, camera_frame)
            rgb_hw3 = self._decode(image)
            K_33 = self._intrinsics((rgb_hw3.shape[1], rgb_hw3.shape[0]), settings)
            started_s = self._clock_s()
            estimate = self._runner.locate(rgb_hw3, K_33, self._wants_points())
            inference_s = self._clock_s() - started_s
            confidence = estimate.confidence
            needed = least_confidence(settings.min_confidence, self._runner.metadata.calibration)
            check_estimate(estimate, needed, settings.max_position_std_m)
            check_inside_map(estimate, self._runner.bounds, settings.map_margin_m)
            fix = Fix(stamp_ns, estimate, self._odometry(settings, camera_frame, stamp_ns))
        except NoPoseError as error:
            refusal = error
        return ImageAnswer(stamp_ns, camera_frame, fix, refusal, inference_s, confidence)

    def _intrinsics(self, size: tuple[int, int], settings: Parameters) -> NDArray[np.float64]:
        self._wait_for(lambda: self._camera_info is not None or not self._waits,
                       _CAMERA_INFO_PATIENCE_S)
        info = self._camera_info
        if info is None:
            raise NoPoseError(
                Reason.NO_CAMERA_INFO, f"no CameraInfo came on '{self._camera_info_topic}' so "
                                       f'far; remap camera_info to the topic of this camera')
        calibration = calibration_from_message(info)
        K_33 = intrinsics_of_image(calibration, size, settings.rectified)
        check_aspect(size, self._runner.metadata.image_size)
        if calibration.is_distorted and not settings.rectified:
            self._warn_once(
                'the CameraInfo of these raw images has a distortion that the model does not '
                'know: poses will be off; use a rectified topic (image_proc) and set rectified')
        return K_33

    def _odometry(self, settings: Parameters, camera_frame: str,
                  stamp_ns: int) -> Transform | None:
        """T_odom_camera at the stamp, if it is wanted and known."""
        if settings.odometry == 'none' and not settings.needs_odometry:
            return None
        if not settings.needs_odometry and (
                self._moves_robot()
                or not self._frames.is_connected(settings.odom_frame, camera_frame)):
            return None  # a camera without odometry: do not wait with every image
        try:
            return self._frames.lookup(settings.odom_frame, camera_frame, stamp_ns,
                                       settings.odometry_wait_s)
        except NoTransformError as error:
            if not settings.needs_odometry:
                return None
            raise NoPoseError(
                Reason.NO_ODOMETRY, f'{error}; is odometry running, and its clock that of the '
                                    f'camera? odometry_wait_s is {settings.odometry_wait_s:g} s'
            ) from error

    def _wait_for_thread(self, condition: Callable[[], bool], limit_s: float) -> None:
        with self._news:
            self._news.wait_for(condition, limit_s)


def _check_camera_frame(settings: Parameters, camera_frame: str) -> None:
    if settings.tf_mode != 'none' and camera_frame in ('', settings.map_frame):
        raise NoPoseError(
            Reason.FRAME, f"the camera's frame is '{camera_frame}' and the map's "
                          f"'{settings.map_frame}', no transform can join them; set the frame_id "
                          f'of the images, or the parameter camera_frame')
