# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What the node decides without ROS: calibrations, answers, newest-wins, throttling."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from implicit_relocalizer.localization.camera_check import (
    CameraCalibration,
    check_aspect,
    intrinsics_of_image,
)
from implicit_relocalizer.localization.estimate import PoseEstimate, check_estimate
from implicit_relocalizer.localization.model_runner import is_warm
from implicit_relocalizer.localization.newest_slot import NewestSlot
from implicit_relocalizer.localization.rejection import NoPoseError, Reason
from implicit_relocalizer.localization.statistics import RunStatistics, Throttle

K_33 = np.array([[500.0, 0.0, 320.5], [0.0, 510.0, 236.0], [0.0, 0.0, 1.0]])
CALIBRATION = CameraCalibration(size=(640, 480), K_33=K_33,
                                P_34=np.column_stack([K_33 * [[0.9], [0.9], [1]], np.zeros(3)]))
GOOD = PoseEstimate(np.eye(3), np.zeros(3), np.eye(6) * 0.01, 0.7, 0.5)


def test_intrinsics_of_a_plain_image_are_those_of_the_calibration():
    np.testing.assert_array_equal(intrinsics_of_image(CALIBRATION, (640, 480), False), K_33)
    rectified = intrinsics_of_image(CALIBRATION, (640, 480), True)
    np.testing.assert_array_equal(rectified, CALIBRATION.P_34[:, :3])


def test_region_and_binning_move_the_intrinsics_as_they_move_the_image():
    point_camera = np.array([0.11, -0.07, 1.3])
    x, y = (K_33 @ point_camera / point_camera[2])[:2]
    rows, columns = np.mgrid[:480, :640]
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 12.0 ** 2))
    region = spot[80:440, 200:600]
    binned = region.reshape(180, 2, 100, 4).mean(axis=(1, 3))
    calibration = replace(CALIBRATION, binning=(4, 2), roi_offset=(200, 80), roi_size=(400, 360))
    K = intrinsics_of_image(calibration, (100, 180), False)
    seen = (K @ point_camera / point_camera[2])[:2]
    rows, columns = np.mgrid[:180, :100]
    centroid = [(columns * binned).sum(), (rows * binned).sum()] / binned.sum()
    np.testing.assert_allclose(seen, centroid, atol=0.02)


@pytest.mark.parametrize(('calibration', 'size', 'reason', 'text'), [
    (replace(CALIBRATION, K_33=np.zeros((3, 3))), (640, 480), Reason.UNCALIBRATED, 'calibrate'),
    (replace(CALIBRATION, K_33=K_33 * np.nan), (640, 480), Reason.UNCALIBRATED, 'calibrate'),
    (CALIBRATION, (320, 240), Reason.RESOLUTION, '640x480'),
    (replace(CALIBRATION, binning=(2, 2)), (640, 480), Reason.RESOLUTION, '320x240'),
])
def test_unusable_calibrations_are_refused_with_the_values(calibration, size, reason, text):
    with pytest.raises(NoPoseError, match=text) as caught:
        intrinsics_of_image(calibration, size, False)
    assert caught.value.reason is reason


def test_a_model_takes_scaled_images_but_no_other_shape():
    check_aspect((1080, 720), (540, 360))
    check_aspect((161, 107), (540, 360))  # rounded to whole pixels
    with pytest.raises(NoPoseError, match=r'640x480.*540x360'):
        check_aspect((640, 480), (540, 360))


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'t_map_camera_m': np.array([0.0, np.nan, 0.0])}, Reason.INVALID),
    ({'covariance_66': np.full((6, 6), np.inf)}, Reason.INVALID),
    ({'covariance_66': np.zeros((6, 6))}, Reason.INVALID),
    ({'R_map_camera': np.diag([1.0, 1.0, -1.0])}, Reason.INVALID),
    ({'R_map_camera': np.eye(3) * 1.1}, Reason.INVALID),
    ({'confidence': 0.2}, Reason.CONFIDENCE),
    ({'covariance_66': np.diag([1e-4, 0.04, 1e-4, 1e-4, 1e-4, 1e-4])}, Reason.UNCERTAIN),
])
def test_answers_that_may_not_leave(changes, reason):
    check_estimate(GOOD, min_confidence=0.5, max_position_std_m=0.15)
    with pytest.raises(NoPoseError) as caught:
        check_estimate(replace(GOOD, **changes), min_confidence=0.5, max_position_std_m=0.15)
    assert caught.value.reason is reason


def test_the_slot_hands_over_the_newest():
    slot: NewestSlot[int] = NewestSlot()
    assert [slot.put(1), slot.put(2), slot.put(3)] == [False, True, True]
    assert slot.take() == 3
    assert slot.put(4) is False


def test_what_is_taken_late_is_what_came_last():
    slot: NewestSlot[int] = NewestSlot()
    slot.put(1)
    threading.Timer(0.05, slot.put, [2]).start()
    start_s = time.monotonic()
    assert slot.take(not_before_s=start_s + 0.2) == 2
    assert time.monotonic() - start_s >= 0.2


@pytest.mark.parametrize('not_before_s', [0.0, float('inf')])
def test_closing_wakes_the_taker(not_before_s):
    slot: NewestSlot[int] = NewestSlot()
    taken: list[int | None] = []
    taker = threading.Thread(target=lambda: taken.append(slot.take(not_before_s)))
    taker.start()
    slot.close()
    taker.join(5.0)
    assert taken == [None]


def test_the_throttle_counts_what_it_holds_back_by_kind():
    throttle = Throttle(5.0)
    admitted = [throttle.admit(kind, now_s) for kind, now_s in (
        ('a', 0.0), ('a', 1.0), ('b', 1.0), ('a', 4.9), ('a', 5.0), ('a', 10.0))]
    assert admitted == [0, None, 0, None, 2, 0]


def test_the_summary_names_counts_and_times():
    statistics = RunStatistics()
    statistics.received, statistics.answered = 7, 2
    statistics.rejected[Reason.CONFIDENCE] += 3
    for duration_s in (0.010, 0.020, 0.060):
        statistics.add_inference(duration_s)
    summary = statistics.summary()
    for text in ('7 images received', '2 answered', '3 rejected (confidence_low)',
                 '20.0 ms in the median', '60.0 ms at most'):
        assert text in summary


@pytest.mark.parametrize(('durations_ms', 'calls'), [
    ([250, 175, 76, 79, 80], 4),
    ([80, 80, 80, 80, 80], 4),  # too early to tell
    ([386, 294, 101, 65, 95, 63, 64], 7),
    ([100, 50] * 10, 12),  # a machine that never settles
])
def test_a_model_is_warm_when_two_calls_take_the_same_time(durations_ms, calls):
    assert [is_warm(durations_ms[:n]) for n in range(calls + 1)] == [False] * calls + [True]
