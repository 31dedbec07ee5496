# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Results with known errors for reports: a made-up scene, and a robot that was lost.

Every text that can come from outside holds `EVIL`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import torch
from bag_drive import K_33, SIZE
from bag_run import (
    COVARIANCE_66,
    IMAGES,
    MS,
    STD_6,
    add_camera,
    add_estimates,
    true_pose,
    with_error,
)
from bag_writer import BagWriter, camera_info, diagnostics, pose_stamped
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from implicit_relocalizer.evaluation.coverage import measure_coverage
from implicit_relocalizer.evaluation.metrics import RecallLimit, pose_errors, summarize
from implicit_relocalizer.evaluation.report.contents import (
    FramePicture,
    MapCloud,
    PointsInView,
    ReportContents,
    ReportFrame,
)
from implicit_relocalizer.evaluation.report.viewing import make_picture
from implicit_relocalizer.network.model_file import ModelMetadata, save_model

EVIL = '</script><b>&"\u00e9'
SIGMA_M, SIGMA_RAD = 0.02, 0.004


class Wall(nn.Module):
    """Sees a wall 2 m ahead of wherever it believes to be, the origin."""

    def forward(self, image_hw3: Tensor, K: Tensor) -> Dict[str, Tensor]:
        rows = torch.arange(2, image_hw3.shape[0], 4, dtype=torch.float64)
        columns = torch.arange(2, image_hw3.shape[1], 4, dtype=torch.float64)
        y, x = torch.meshgrid(rows, columns, indexing='ij')
        pixels = torch.stack([x.flatten(), y.flatten()], dim=1)
        focal, centre = K[0, 0].double(), K[:2, 2].double()
        points = torch.cat([2.0 * (pixels - centre) / focal, torch.full_like(pixels[:, :1], 2.0)],
                           dim=1)
        eye = torch.eye(3, dtype=torch.float64)
        return {'R_world_camera': eye, 't_world_camera': torch.zeros(3, dtype=torch.float64),
                'covariance': 1e-4 * torch.eye(6, dtype=torch.float64),
                'confidence': torch.tensor(0.9), 'points_world': points, 'points_camera': points,
                'weights': torch.ones(points.shape[0]), 'pixels': pixels,
                'reprojection_error_px': torch.zeros(points.shape[0]),
                'inlier_fraction': torch.tensor(1.0)}


def write_wall(path: Path, size: tuple[int, int] = SIZE, K: np.ndarray = K_33) -> Path:
    """The wall as a model file, by default for the images of `bag_drive`."""
    metadata = ModelMetadata(
        f'wall {EVIL}', size, tuple(map(tuple, K.tolist())), (-1.0, -1.0, -1.0),
        (1.0, 1.0, 1.0), 'none')
    save_model(torch.jit.script(Wall()), path, metadata)
    return path


def write_lost_run(path: Path) -> Path:
    """Images 5 to 9 unanswered while the node calls itself lost, images 13 and 14 2 m off."""
    answered = [i for i in range(len(IMAGES)) if not 5 <= i <= 9]

    def errors(place: int) -> np.ndarray:
        return np.array([2.0, 0, 0, 0, 0, 0]) if answered[place] in (13, 14) else 0.5 * STD_6

    with BagWriter(path) as bag:
        add_camera(bag)
        add_estimates(bag, [IMAGES[i] for i in answered], errors=errors)
        for i, stamp_ns in enumerate(IMAGES):
            bag.add('/camera/camera_info', camera_info(stamp_ns, K_33, SIZE))
            bag.add('/reference/pose', pose_stamped(stamp_ns, true_pose(stamp_ns)))
            state, reason = ('LOST', 'no_fix') if 6 <= i <= 9 else ('LOCALIZED', 'fixes_agree')
            bag.add('/diagnostics', diagnostics(stamp_ns + 50 * MS, '/relocalizer: localization', {
                'state': state, 'state_reason': reason, 'last_refusal': 'confidence_low',
                'last_refusal_text': f'confidence 0.1 is too low {EVIL}',
                'images_refused': str(min(max(i - 4, 0), 5)), 'images_superseded': '0'}))
    return path


def scene_report(frames: int = 40, name: str = EVIL, picture_bytes: int = 0,
                 points: int = 500) -> ReportContents:
    """A camera on a circle; every fourth frame is held out, one of these has no answer."""
    rng = np.random.default_rng(0)
    shown = []
    for i in range(frames):
        T_true = circle_pose(2.0 * np.pi * i / frames)
        error_6 = np.concatenate([SIGMA_M * rng.normal(size=3), SIGMA_RAD * rng.normal(size=3)])
        covariance = np.diag([SIGMA_M ** 2] * 3 + [SIGMA_RAD ** 2] * 3)
        is_held_out = i % 4 == 1
        answer = None if i == 9 else with_error(T_true, error_6 * (30.0 if i == 5 else 1.0))
        confidence = 0.2 if i == 5 else 0.95
        shown.append(ReportFrame(
            f'{name} {i}', 'test' if is_held_out else 'train', None, T_true, answer,
            None if answer is None else covariance, None if answer is None else confidence,
            None if answer is None else confidence > 0.5, '' if answer is not None else EVIL))
    image_hw3 = rng.integers(0, 256, (90, 160, 3), np.uint8)
    pictures = {i: _picture(image_hw3, rng, picture_bytes) for i in (5, 9, 1)}
    cloud = MapCloud(rng.normal(size=(points, 3)) * [3, 3, 1],
                     rng.integers(0, 256, (points, 3), np.uint8))
    return ReportContents(EVIL, 'scene', _result(shown), tuple(shown), RecallLimit(0.5, 10.0),
                          pictures=pictures, cloud=cloud)


def circle_pose(angle: float) -> np.ndarray:
    """A camera 3 m from the z axis that looks outwards, upright."""
    T_44 = np.eye(4)
    T_44[:3, :3] = Rotation.from_euler('z', angle - np.pi / 2).as_matrix() @ np.array(
        [[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    T_44[:3, 3] = 3.0 * np.cos(angle), 3.0 * np.sin(angle), 1.0
    return T_44


def _picture(image_hw3: np.ndarray, rng: np.random.Generator, extra_bytes: int) -> FramePicture:
    pixels = rng.uniform(0, 90, (50, 2))
    points = PointsInView(
        pixels, pixels + rng.normal(size=(50, 2)), np.linspace(0.0, 8.0, 50), np.ones(50),
        rng.normal(size=(50, 3)), np.full((50, 3), 128, np.uint8))
    points.projected_n2[0] = np.nan
    picture = make_picture(image_hw3, points)
    return FramePicture(picture.jpeg + bytes(extra_bytes), picture.size, points)


def _result(frames: list[ReportFrame]) -> dict[str, Any]:
    result: dict[str, Any] = {'scene': EVIL, 'warnings': [f'mind {EVIL}'],
                              'versions': {'python': EVIL}, 'milliseconds_per_image': 20.0}
    for split in ('train', 'test'):
        group = [frame for frame in frames if frame.group == split]
        answered = [frame for frame in group if frame.T_estimate is not None]
        poses = [np.array([getattr(frame, key) for frame in answered])
                 for key in ('T_true', 'T_estimate')]
        result[split] = {'frames': len(group),
                         **summarize(pose_errors(*poses), len(group)).to_dict()}
    errors = np.random.default_rng(1).normal(size=(200, 3)) * STD_6[:3]
    part = measure_coverage(errors, np.tile(COVARIANCE_66[:3, :3], (200, 1, 1))).to_dict()
    covariance = {'kinds': part['kinds'], 'position': part, 'orientation': part}
    result['covariance'] = {'train': covariance, 'test': covariance}
    thresholds = [0.0, 0.25, 0.5, 0.75, 1.0]
    result['confidence'] = {'bound_m': 0.25, 'bound_deg': 5.0, 'threshold': 0.5,
                            'expected_calibration_error': 0.012,
                            'reliability': [[0.1, 0.12, 20], [0.9, 0.88, 40]]}
    result['acceptance'] = {
        'bound_m': 0.25, 'bound_deg': 5.0, 'thresholds': thresholds,
        'good_accepted': [1, 1, 0.9, 0.7, 0], 'elsewhere_accepted': [1, 0.1, 0.02, 0, 0],
        'elsewhere_frames': 50,
        'at_threshold': {'threshold': 0.5, 'good_accepted': 0.9, 'elsewhere_accepted': 0.02,
                         'counts': {'good': [9, 10], 'wrong': [0, 1], 'elsewhere': [1, 50]}}}
    result['comparison'] = {'against': f'older {EVIL}', 'rows': [
        {'label': 'median position error', 'unit': 'cm', 'this': 2.0, 'other': 3.0,
         'difference': -1.0, 'low': -1.5, 'high': -0.5, 'is_clear': True, 'verdict': 'better'},
        {'label': 'p90 position error', 'unit': 'cm', 'this': 4.0, 'other': None,
         'difference': None, 'low': None, 'high': 0.5, 'is_clear': False, 'verdict': ''},
        {'label': 'within 5 cm', 'unit': '%', 'this': 90.0, 'other': 88.0, 'difference': 2.0,
         'low': -1.0, 'high': 5.0, 'is_clear': False, 'verdict': ''}]}
    return result
