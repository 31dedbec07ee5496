# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A filter believes it: odometry and poses with their covariances, against constant ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rendered_place import RenderedPlace, rendered_place
from scipy.spatial.transform import Rotation

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.evaluation.coverage import rotation_errors
from implicit_relocalizer.evaluation.filter_experiment import (
    FilterExperimentError,
    FilterOptions,
    compare_covariances,
)
from implicit_relocalizer.evaluation.filtering import OdometryNoise, drift, run_filter
from implicit_relocalizer.evaluation.locating import LocatedFrame

COUNT = 120
QUICK = FilterOptions(odometry_seeds=tuple(range(6)), factors=(0.25, 0.5, 1.0, 2.0, 4.0))


def walk(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Poses (n, 4, 4) of a camera that wanders and turns: 6 cm and 6 degrees a frame."""
    rng = np.random.default_rng(seed)
    poses = [np.eye(4)]
    for _ in range(count - 1):
        step = np.eye(4)
        step[:3, 3] = 0.035 * rng.normal(size=3)
        step[:3, :3] = Rotation.from_rotvec(0.06 * rng.normal(size=3)).as_matrix()
        poses.append(poses[-1] @ step)
    return np.array(poses)


def disturbed(poses_n44: np.ndarray, errors_n6: np.ndarray) -> np.ndarray:
    """Poses with errors in the map: metres, and radians about the map's axes."""
    answers = poses_n44.copy()
    answers[:, :3, 3] += errors_n6[:, :3]
    answers[:, :3, :3] = Rotation.from_rotvec(errors_n6[:, 3:]).as_matrix() @ poses_n44[:, :3, :3]
    return answers


def drawn_drive(seed: int, told: str = 'truth') -> list[LocatedFrame]:
    """Answers whose errors have a covariance each, and what is told of it."""
    rng = np.random.default_rng(seed)
    truth = walk(seed=seed)
    scale_n = np.exp(rng.normal(size=COUNT))
    covariance = np.empty((COUNT, 6, 6))
    for index, scale in enumerate(scale_n):
        turn = np.kron(np.eye(2), Rotation.random(random_state=seed + index).as_matrix())
        sigma_6 = scale * np.array([0.02, 0.01, 0.005, 0.004, 0.002, 0.001])
        covariance[index] = turn @ np.diag(sigma_6 ** 2) @ turn.T
    errors = np.array([rng.multivariate_normal(np.zeros(6), C) for C in covariance])
    if told == 'of another frame':
        covariance = covariance[rng.permutation(COUNT)]
    answers = disturbed(truth, errors)
    return [LocatedFrame(Frame(f'{i:03d}', Path(), np.eye(3), truth[i], 'test'), answers[i], 0.9,
                         1.0, covariance[i]) for i in range(COUNT)]


def test_odometry_alone_drifts_by_what_it_is_said_to():
    truth, noise = walk(40), OdometryNoise(0.05, 2.0, 1.0)
    motion, variances = drift(truth, noise, range(300))
    moved = motion[:, 1:] @ np.linalg.inv(np.linalg.inv(truth[:-1]) @ truth[1:])
    drawn = motion - np.linalg.inv(truth[np.r_[0, :39]]) @ truth
    assert np.abs(drawn[:, 0]).max() < 1e-12 and np.isfinite(moved).all()
    told = np.sqrt(variances[1:, :3].sum())
    measured = np.sqrt((drawn[:, 1:, :3, 3] ** 2).sum(axis=(1, 2)).mean())
    assert measured == pytest.approx(told, rel=0.05)


def test_without_noise_the_filter_stays_on_the_truth():
    truth = walk(30)
    motion, variances = drift(truth, OdometryNoise(1e-9, 1e-9, 1e-9), [0])
    start = np.arange(30) == 3
    filtered = run_filter(motion, variances, truth, start, np.full((1, 30, 6, 6), np.eye(6)))
    assert np.isnan(filtered[0, :3]).all()
    np.testing.assert_allclose(filtered[0, 3:], truth[3:], atol=1e-7)


def test_equal_measurements_of_a_camera_that_stands_are_averaged():
    rng = np.random.default_rng(1)
    still = np.repeat(np.eye(4)[None], 50, axis=0)
    errors = 0.01 * rng.normal(size=(50, 6))
    filtered = run_filter(still[None], np.zeros((50, 6)), disturbed(still, errors),
                          np.ones(50, bool), np.full((1, 50, 6, 6), 1e-4 * np.eye(6)))
    np.testing.assert_allclose(filtered[0, -1, :3, 3], errors[:, :3].mean(axis=0), atol=1e-12)
    turned = rotation_errors(still[-1:, :3, :3], filtered[0, -1:, :3, :3])
    np.testing.assert_allclose(turned[0], errors[:, 3:].mean(axis=0), atol=1e-4)


def test_a_rotation_that_is_measured_late_corrects_the_position_too():
    """Ten metres ahead after starting askew: only the path tells how far that leads aside."""
    truth = np.repeat(np.eye(4)[None], 2, axis=0)
    truth[1, 0, 3] = 10.0
    measured = truth.copy()
    measured[0, :3, :3] = Rotation.from_rotvec([0.0, 0.0, 0.05]).as_matrix()
    covariance = np.array([np.diag([1e-6] * 3 + [1e-2] * 3), np.diag([1e2] * 3 + [1e-8] * 3)])
    motion, variances = drift(truth, OdometryNoise(1e-6, 1e-6, 1e-6), [0])
    filtered = run_filter(motion, variances, measured, np.ones(2, bool), covariance[None])
    # Without the correction it would be 50 cm to the left.
    np.testing.assert_allclose(filtered[0, 1, :3, 3], [10.0, 0.0, 0.0], atol=0.02)


def test_true_covariances_beat_every_constant_and_those_of_other_frames_do_not():
    true = compare_covariances([drawn_drive(seed) for seed in range(3)], 0.5, QUICK)
    assert true['beats_every_constant'] and true['accepted'] == 3 * COUNT
    own, best = true['own'], true['best_constant']
    assert own['position_rms_m'] < 0.85 * best['position']['position_rms_m']
    assert own['rotation_rms_deg'] < 0.85 * best['rotation']['rotation_rms_deg']
    assert own['position_rms_m'] < true['matrix']['position_rms_m']
    assert true['odometry_alone']['position_rms_m'] > true['answers']['position_rms_m']
    other = compare_covariances(
        [drawn_drive(seed, 'of another frame') for seed in range(3)], 0.5, QUICK)
    assert not other['beats_every_constant']
    assert other['own']['position_rms_m'] > other['right_size']['position_rms_m']


def test_answers_that_cannot_be_used_stay_out():
    drive = drawn_drive(0)
    drive[5] = replace(drive[5], confidence=0.1)
    drive[6] = replace(drive[6], T_world_camera=None)
    drive[7] = replace(drive[7], covariance_66=np.zeros((6, 6)))
    assert compare_covariances([drive], 0.5, QUICK)['accepted'] == COUNT - 3
    with pytest.raises(FilterExperimentError, match='0 answers are accepted'):
        compare_covariances([drive], 0.95, QUICK)


@pytest.fixture(scope='module')
def place(tmp_path_factory) -> RenderedPlace:
    return rendered_place(tmp_path_factory)


@pytest.fixture(scope='module')
def calibrated(place, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('calibrated') / 'model.pt'
    assert main(['calibrate', str(place.model), str(place.scene.root), '--out', str(out)]) == 0
    return out


def test_a_filter_believes_the_model(place, calibrated, tmp_path, capsys):
    file = tmp_path / 'filter.json'
    assert main(['filter-experiment', str(calibrated), str(place.scene.root), '--drives', '2',
                 '--seeds', '10', '--json', str(file)]) == 0
    assert "the model's covariances" in capsys.readouterr().out
    result = json.loads(file.read_text())
    degraded, clean = result['degraded'], result['as_recorded']
    assert degraded['accepted'] > 0.6 * degraded['frames']
    assert len(degraded['grid']) == 81
    # The constants were chosen after the fact, of 81 and of a whole matrix. On a place as small as
    # this one it depends on the training's seed whether they win: of three seeds each of two
    # versions the model's own covariances won 49 to 81 % of 80 runs by position and 50 to 100 %
    # by rotation, with 0.94 to 1.10 times the matrix's error.
    assert min(degraded['runs_won'].values()) >= 0.4  # of 20
    for key in ('position_rms_m', 'rotation_rms_deg'):
        assert clean['own'][key] < 1.1 * clean['right_size'][key]
        assert degraded['own'][key] < 1.2 * degraded['matrix'][key]
