# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Pose errors against hand-made poses, and recall that counts silence as failure."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from implicit_relocalizer.evaluation.metrics import (
    RECALL_LIMITS,
    PoseErrors,
    RecallLimit,
    pose_errors,
    summarize,
)


def transform(rotation: Rotation, position_m: tuple[float, float, float]) -> np.ndarray:
    T_44 = np.eye(4)
    T_44[:3, :3] = rotation.as_matrix()
    T_44[:3, 3] = position_m
    return T_44


def test_errors_of_a_known_offset():
    start = Rotation.from_euler('xyz', [20, -40, 130], degrees=True)
    turn = Rotation.from_rotvec(np.radians(3.0) * np.array([0.6, 0.0, 0.8]))
    true = transform(start, (1.0, 2.0, 3.0))
    estimate = transform(start * turn, (1.0, 2.3, 3.4))
    errors = pose_errors([true, true], [estimate, true])
    np.testing.assert_allclose(errors.translation_m, [0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(errors.rotation_deg, [3.0, 0.0], atol=1e-6)


def test_errors_do_not_depend_on_the_world_frame():
    rng = np.random.default_rng(0)
    true, estimate = (np.stack([transform(r, p) for r, p in zip(
        Rotation.random(5, rng=rng), rng.normal(size=(5, 3)), strict=True)]) for _ in range(2))
    T_other_world = transform(Rotation.random(rng=rng), (4.0, -2.0, 1.0))
    here, there = pose_errors(true, estimate), pose_errors(T_other_world @ true,
                                                           T_other_world @ estimate)
    np.testing.assert_allclose(here.translation_m, there.translation_m, atol=1e-9)
    np.testing.assert_allclose(here.rotation_deg, there.rotation_deg, atol=1e-9)


def test_a_tiny_and_a_half_turn_keep_their_digits():
    for angle_deg in (1e-6, 180.0):
        estimate = transform(Rotation.from_euler('y', angle_deg, degrees=True), (0, 0, 0))
        assert pose_errors([np.eye(4)], [estimate]).rotation_deg[0] == pytest.approx(angle_deg)


def test_summary_counts_unanswered_frames_as_failures():
    errors = PoseErrors(np.array([0.01, 0.04, 0.2]), np.array([0.1, 6.0, 1.0]))
    summary = summarize(errors, frames_asked=4)
    assert (summary.frames_asked, summary.frames_answered) == (4, 3)
    assert summary.median_translation_m == pytest.approx(0.04)
    assert summary.median_rotation_deg == pytest.approx(1.0)
    assert summary.recall == {'5cm_5deg': 0.25, '10cm_5deg': 0.25, '25cm_2deg': 0.5,
                              '25cm_5deg': 0.5, '50cm_5deg': 0.5}


def test_limits_are_inclusive_and_named_for_people():
    limit = RecallLimit(0.05, 5.0)
    assert PoseErrors(np.array([0.05]), np.array([5.0])).within(limit).all()
    assert not PoseErrors(np.array([0.05]), np.array([5.01])).within(limit).any()
    assert (limit.key, limit.label) == ('5cm_5deg', '5 cm / 5°')


def test_silence_is_null_in_json():
    summary = summarize(pose_errors(np.zeros((0, 4, 4)), np.zeros((0, 4, 4))), 7).to_dict()
    assert summary['median_translation_m'] is None
    assert summary['recall'] == {limit.key: 0.0 for limit in RECALL_LIMITS}


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'\(1, 3, 4\)'):
        pose_errors(np.zeros((1, 3, 4)), np.zeros((1, 3, 4)))
    with pytest.raises(ValueError, match='NaN'):
        pose_errors([np.eye(4)], [np.full((4, 4), np.nan)])
    with pytest.raises(ValueError, match='3 answers to 2 frames'):
        summarize(PoseErrors(np.zeros(3), np.zeros(3)), frames_asked=2)
