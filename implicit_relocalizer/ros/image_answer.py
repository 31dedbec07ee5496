# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From an image message to an answer: everything that happens off the executor's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from cv_bridge import CvBridge
from numpy.typing import NDArray
from rclpy.impl.rcutils_logger import RcutilsLogger
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from implicit_relocalizer.localization.agreement import Fix, Transform
from implicit_relocalizer.localization.camera_check import check_aspect, intrinsics_of_image
from implicit_relocalizer.localization.estimate import (
    check_estimate,
    check_inside_map,
    least_confidence,
)
from implicit_relocalizer.localization.model_runner import ModelRunner
from implicit_relocalizer.localization.rejection import NoPoseError, Reason
from implicit_relocalizer.ros.conversions import calibration_from_msg
from implicit_relocalizer.ros.frame_tree import FrameTree, NoTransformError
from implicit_relocalizer.ros.image_decoding import rgb_from_msg
from implicit_relocalizer.ros.parameters import Parameters

# The first image may arrive just before the CameraInfo that was published with it.
_CAMERA_INFO_PATIENCE_S = 0.5


@dataclass(frozen=True, eq=False)
class ImageAnswer:
    """What became of one image.

    Attributes:
        header: Of the image.
        camera_frame: Optical frame that the answer is of.
        fix: The answer; None where the image was refused.
        refusal: Why it was refused.
        inference_s: How long the model took; None where it was not asked.
        confidence: Of the answer, accepted or not.
    """

    header: Header
    camera_frame: str
    fix: Fix | None
    refusal: NoPoseError | None
    inference_s: float | None
    confidence: float | None


class ImageAnswerer:
    """Answers one image after the other, on the thread that calls.

    Attributes:
        camera_info_topic: For people.
    """

    def __init__(self, runner: ModelRunner, frames: FrameTree, settings: Callable[[], Parameters],
                 wants_points: Callable[[], bool], moves_robot: Callable[[], bool],
                 camera_info_topic: str, logger: RcutilsLogger) -> None:
        """
        Args:
            runner: The model.
            frames: The robot's transforms.
            settings: Gives the parameters as they are now.
            wants_points: Whether anybody wants the points of an answer.
            moves_robot: Whether we broadcast the camera or the base below the map ourselves, so
                that a way from odometry to the camera would lead through our own answers.
            camera_info_topic: For people.
            logger: Of the node.
        """
        self.camera_info_topic = camera_info_topic
        self._runner = runner
        self._frames = frames
        self._settings = settings
        self._wants_points = wants_points
        self._moves_robot = moves_robot
        self._logger = logger
        self._bridge = CvBridge()
        self._camera_info: CameraInfo | None = None
        self._camera_info_came = threading.Event()

    def take_camera_info(self, info: CameraInfo) -> None:
        """The newest one holds; from any thread."""
        self._camera_info = info
        self._camera_info_came.set()

    def stop_waiting(self) -> None:
        """Let an answer under way end soon."""
        self._camera_info_came.set()

    def answer(self, image: Image | CompressedImage) -> ImageAnswer:
        """Decode, locate and judge an image on its own."""
        settings = self._settings()
        camera_frame = settings.camera_frame or image.header.frame_id
        inference_s = confidence = fix = refusal = None
        try:
            _check_camera_frame(settings, camera_frame)
            rgb_hw3 = rgb_from_msg(self._bridge, image)
            K_33 = self._intrinsics((rgb_hw3.shape[1], rgb_hw3.shape[0]), settings)
            started_s = time.perf_counter()
            estimate = self._runner.locate(rgb_hw3, K_33, self._wants_points())
            inference_s = time.perf_counter() - started_s
            confidence = estimate.confidence
            needed = least_confidence(settings.min_confidence, self._runner.metadata.calibration)
            check_estimate(estimate, needed, settings.max_position_std_m)
            check_inside_map(estimate, self._runner.bounds, settings.map_margin_m)
            fix = Fix(stamp_to_ns(image.header), estimate,
                      self._odometry(settings, camera_frame, image.header))
        except NoPoseError as error:
            refusal = error
        return ImageAnswer(image.header, camera_frame, fix, refusal, inference_s, confidence)

    def _intrinsics(self, size: tuple[int, int], settings: Parameters) -> NDArray[np.float64]:
        self._camera_info_came.wait(_CAMERA_INFO_PATIENCE_S)
        info = self._camera_info
        if info is None:
            raise NoPoseError(
                Reason.NO_CAMERA_INFO, f"no CameraInfo came on '{self.camera_info_topic}' so far; "
                                       f'remap camera_info to the topic of this camera')
        calibration = calibration_from_msg(info)
        K_33 = intrinsics_of_image(calibration, size, settings.rectified)
        check_aspect(size, self._runner.metadata.image_size)
        if calibration.is_distorted and not settings.rectified:
            self._logger.warning(
                'the CameraInfo of these raw images has a distortion that the model does not '
                'know: poses will be off; use a rectified topic (image_proc) and set rectified',
                once=True)
        return K_33

    def _odometry(self, settings: Parameters, camera_frame: str,
                  header: Header) -> Transform | None:
        """T_odom_camera at the stamp, if it is wanted and known."""
        if settings.odometry == 'none' and not settings.needs_odometry:
            return None
        if not settings.needs_odometry and (
                self._moves_robot()
                or not self._frames.is_connected(settings.odom_frame, camera_frame)):
            return None  # a camera without odometry: do not wait with every image
        try:
            return self._frames.lookup(settings.odom_frame, camera_frame, header.stamp,
                                       settings.odometry_wait_s)
        except NoTransformError as error:
            if not settings.needs_odometry:
                return None
            raise NoPoseError(
                Reason.NO_ODOMETRY, f'{error}; is odometry running, and its clock that of the '
                                    f'camera? odometry_wait_s is {settings.odometry_wait_s:g} s'
            ) from error


def stamp_to_ns(header: Header) -> int:
    """The stamp as nanoseconds."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def find_stamp_refusal(header: Header, last_ns: int | None,
                       newest_ns: int) -> NoPoseError | None:
    """Why an image's stamp rules it out, if it does.

    Args:
        header: Of the image.
        last_ns: The newest stamp before it, None for the first image.
        newest_ns: The newest stamp with it; below `last_ns` if time jumped back.
    """
    seconds = f'{header.stamp.sec}.{header.stamp.nanosec:09d}'
    stamp_ns = stamp_to_ns(header)
    if last_ns is None or stamp_ns > last_ns or newest_ns < last_ns:
        return None
    if stamp_ns == last_ns:
        return NoPoseError(
            Reason.DUPLICATE, f'the stamp {seconds} came already; if all images have it, the '
                              f'camera is frozen or its driver sets no stamps')
    return NoPoseError(Reason.OUT_OF_ORDER, f'the stamp {seconds} is older than that of an image '
                                            f'before')


def _check_camera_frame(settings: Parameters, camera_frame: str) -> None:
    if settings.tf_mode != 'none' and camera_frame in ('', settings.map_frame):
        raise NoPoseError(
            Reason.FRAME, f"the camera's frame is '{camera_frame}' and the map's "
                          f"'{settings.map_frame}', no transform can join them; set the frame_id "
                          f'of the images, or the parameter camera_frame')
