# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate MODEL SCENE`: do the answers' covariance and confidence hold, on known errors."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from box_room import write_box_room
from scipy.spatial.transform import Rotation

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.evaluation.elsewhere import ElsewhereAnswer, fit_to_camera
from implicit_relocalizer.evaluation.frame_rows import describe_pose
from implicit_relocalizer.evaluation.honesty import find_calibration_doubts, measure_honesty
from implicit_relocalizer.evaluation.locating import LocatedFrame, list_errors
from implicit_relocalizer.evaluation.trajectory_files import located_texts

CALIBRATION = {'min_confidence': 0.6, 'bound_m': 0.25, 'bound_deg': 5.0, 'scene': 'here'}
SIGMA_M, SIGMA_RAD = 0.02, 0.01
COVARIANCE = np.diag([SIGMA_M ** 2] * 3 + [SIGMA_RAD ** 2] * 3)


def frame(name: str, split: Any = 'test', stamp_s: float | None = None) -> Frame:
    return Frame(name, Path(name), np.eye(3), np.eye(4), split, stamp_s=stamp_s)


def answer(number: int, error_m: np.ndarray, confidence: float = 0.9, **changes) -> LocatedFrame:
    T_44 = np.eye(4)
    T_44[:3, 3] = error_m
    located = LocatedFrame(frame(f'{number:04d}', stamp_s=0.1 * number), T_44, confidence, 10.0,
                           COVARIANCE)
    return replace(located, **changes)


def others(confidences: list[float]) -> list[ElsewhereAnswer]:
    return [ElsewhereAnswer('lab', str(i), value, is_answered=True)
            for i, value in enumerate(confidences)]


def test_true_covariances_are_found_true_and_small_ones_small():
    rng = np.random.default_rng(1)
    answers = []
    for number, (error_m, turn_rad) in enumerate(zip(
            SIGMA_M * rng.normal(size=(2000, 3)), SIGMA_RAD * rng.normal(size=(2000, 3)),
            strict=True)):
        T_44 = np.eye(4)
        T_44[:3, :3], T_44[:3, 3] = Rotation.from_rotvec(turn_rad).as_matrix(), error_m
        answers.append(answer(number, error_m, T_world_camera=T_44,
                              covariance_66=COVARIANCE * (1.0 if number < 1500 else 0.25),
                              confidence=0.9 if number < 1500 else 0.3))
    covariance = measure_honesty({'train': [], 'test': answers}, [], CALIBRATION,
                                 0.6)['covariance']
    accepted = covariance['test']['accepted']
    for part in ('position', 'orientation'):
        assert accepted[part]['compared'] == 1500
        assert accepted[part]['within']['1_sigma'] == pytest.approx(0.683, abs=0.04)
        assert accepted[part]['within']['2_sigma'] == pytest.approx(0.954, abs=0.02)
        # a quarter with half the deviation: 20 % of them within one
        assert covariance['test'][part]['within']['1_sigma'] == pytest.approx(0.565, abs=0.04)
    assert covariance['train']['position']['within']['1_sigma'] is None


def test_confidence_and_acceptance_are_counted():
    near, far = np.zeros(3), np.array([1.0, 0.0, 0.0])
    answers = [*(answer(i, near if i % 9 else far, 0.9) for i in range(90)),
               *(answer(90 + i, far, 0.1) for i in range(10)),
               answer(100, near, T_world_camera=None)]
    result = measure_honesty({'train': [], 'test': answers}, others([0.7, 0.1, 0.2, 0.3]),
                             CALIBRATION, 0.6)
    confidence, acceptance = result['confidence'], result['acceptance']
    assert (confidence['bound_m'], confidence['bound_deg'], confidence['threshold']) == (
        0.25, 5.0, 0.6)
    assert (confidence['answers'], confidence['good_answers']) == (100, 80)
    # 90 told 0.9 are good in 8 of 9 cases, 10 told 0.1 never
    assert 0.01 < confidence['expected_calibration_error'] < 0.03
    assert [sum(row[2] for row in part['reliability']) for part in (
        confidence, result['confidence_with_elsewhere'])] == [100, 104]
    at = acceptance['at_threshold']
    assert at['counts'] == {'good': [80, 80], 'wrong': [10, 20], 'elsewhere': [1, 4]}
    assert (at['good_accepted'], at['wrong_accepted'], at['elsewhere_accepted']) == (
        1.0, 0.5, 0.25)
    assert acceptance['elsewhere_scenes'] == {'lab': [1, 4]}
    assert acceptance['unanswered_frames'] == 1 and acceptance['elsewhere_frames'] == 4
    for name, share in (('good', 1.0), ('wrong', 0.5), ('elsewhere', 0.25)):
        curve = dict(zip(acceptance['thresholds'], acceptance[f'{name}_accepted'], strict=True))
        assert curve[0.0] == 1.0 and curve[0.6] == share and curve[1.0] == 0.0
    assert result['left_out'] == {}


def test_what_a_model_does_not_state_is_left_out_with_the_reason():
    silent = [answer(0, np.zeros(3), covariance_66=None, confidence=None)]
    result = measure_honesty({'train': [], 'test': silent}, [], {}, 0.25)
    assert {result[key] for key in ('covariance', 'confidence', 'acceptance')} == {None}
    assert result['left_out']['covariance'] == 'the model states none'
    raw = measure_honesty({'train': [], 'test': [answer(0, np.zeros(3))]}, [], {}, 0.25)
    assert raw['confidence'] is None and 'no calibration' in raw['left_out']['confidence']
    assert raw['acceptance']['elsewhere_accepted'] is None
    assert raw['acceptance']['at_threshold']['threshold'] == 0.25


def test_rows_have_what_a_report_draws():
    T_true = np.eye(4)
    T_44 = np.eye(4)
    T_44[:3, 3] = 0.03, 0.0, 0.04
    row = describe_pose(T_44, T_true, COVARIANCE)
    assert row['translation_m'] == pytest.approx(0.05)
    assert row['normalised_position_error'] == pytest.approx(2.5)
    assert row['position_sigma_m'] == pytest.approx(np.sqrt(3.0) * SIGMA_M)
    assert row['rotation_sigma_deg'] == pytest.approx(np.degrees(np.sqrt(3.0) * SIGMA_RAD))
    unknown = describe_pose(T_44, None, np.full((6, 6), np.nan))
    assert unknown['position_sigma_m'] is None and unknown['translation_m'] is None
    rows = list_errors([answer(0, np.zeros(3), 0.7), answer(1, np.zeros(3), 0.5),
                        answer(2, np.zeros(3), 0.9, covariance_66=np.zeros((6, 6))),
                        answer(3, np.zeros(3), T_world_camera=None)], 0.6)
    assert [row['accepted'] for row in rows] == [True, False, False, False]
    assert len({tuple(row) for row in rows}) == 1 and rows[1]['stamp_s'] == 0.1
    json.dumps(rows, allow_nan=False)


def test_trajectories_of_frames_without_stamps_count_them():
    answers = [answer(number, np.zeros(3)) for number in range(3)]
    estimate, reference, are_stamped = located_texts(answers)
    assert are_stamped and estimate.splitlines()[2].startswith('0.200000000 ')
    for bare in ([replace(a, frame=replace(a.frame, stamp_s=None)) for a in answers],
                 [replace(a, frame=replace(a.frame, stamp_s=7.0)) for a in answers]):
        bare[1] = replace(bare[1], T_world_camera=None)
        estimate, reference, are_stamped = located_texts(bare)
        assert not are_stamped and len(reference.splitlines()) == 3
        assert [line.split()[0] for line in estimate.splitlines()] == ['0.000000000',
                                                                       '2.000000000']


def test_images_of_other_cameras_are_cut_and_resized():
    image_hw3 = torch.zeros((100, 300, 3), dtype=torch.uint8)
    image_hw3[:, 100:200] = 200  # the middle, as wide as high
    square = fit_to_camera(image_hw3, (40, 40))
    assert square.shape == (40, 40, 3) and (square == 200).all()
    assert fit_to_camera(image_hw3, (60, 20)).shape == (20, 60, 3)


def test_what_a_calibration_has_seen_is_told():
    calibration = {**CALIBRATION, 'elsewhere': ['lab', 'hall']}
    doubts = find_calibration_doubts(calibration, 'here', ['lab', 'street'])
    assert 'fitted to held-out frames of here' in doubts[0] and 'images of lab:' in doubts[1]
    assert find_calibration_doubts(calibration, 'there', ['street']) == []
    assert find_calibration_doubts({}, 'here', ['lab']) == []


@pytest.fixture(scope='module')
def sky(tmp_path_factory) -> tuple[Path, Path, Path]:
    """A model, its scene and another place, of the tests of `calibrate`."""
    from test_calibrate_command import SkyModel, write_model, write_scene
    folder = tmp_path_factory.mktemp('sky')
    here = write_scene(folder / 'here', 220.0, 30.0)
    elsewhere = write_scene(folder / 'elsewhere', 130.0, 120.0)
    model = write_model(folder / 'here.pt', SkyModel())
    assert main(['calibrate', str(model), str(here), '--elsewhere', str(elsewhere), '--bound',
                 '0.25', '8']) == 0
    return model, here, elsewhere


def test_the_command_writes_and_prints_it_all(sky, tmp_path, capsys, caplog):
    model, here, elsewhere = sky
    file = tmp_path / 'sky.json'
    with caplog.at_level(logging.WARNING):
        assert main(['evaluate', str(model), str(here), '--elsewhere', str(elsewhere), '--json',
                     str(file), '--per-frame', '--tum', str(tmp_path / 'sky'),
                     '--max-elsewhere-frames', '20']) == 0
    assert 'their numbers stand for seconds' in caplog.text
    printed, result = capsys.readouterr().out, json.loads(file.read_text())
    for text in ('position, 1 sigma', 'probability of 0.25 m and 8°', 'images of other places',
                 'within 5 m / 10°', '99 % of the errors', 'note: the calibration was fitted to'):
        assert text in printed
    assert result['confidence']['expected_calibration_error'] < 0.05
    at = result['acceptance']['at_threshold']
    assert at['counts']['elsewhere'] == [0, 20] and at['good_accepted'] > 0.9
    # The folder has 32 held-out frames, all of them answered to 3 cm a axis at most.
    assert result['covariance']['test']['position']['compared'] == 32
    assert result['test']['recall']['5m_10deg'] == 1.0
    assert sum('calibration' in warning for warning in result['warnings']) == 2
    rows = [row for row in result['frames_detail'] if row['split'] == 'test']
    assert sum(row['accepted'] for row in rows) == at['counts']['good'][0]
    assert len((tmp_path / 'sky_estimate.txt').read_text().splitlines()) == 32


def test_a_raw_model_gets_its_reason(tmp_path, capsys):
    from test_calibrate_command import SkyModel, write_model
    room = write_box_room(tmp_path / 'room', 6, held_out_every=3)
    model = write_model(tmp_path / 'raw.pt', SkyModel())
    assert main(['evaluate', str(model), str(room)]) == 0
    assert 'no confidence: the model has no calibration' in capsys.readouterr().out
