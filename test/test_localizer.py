# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The end-to-end module around a head that knows the truth: poses, covariance, coordinates."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from implicit_relocalizer.geometry.camera import unproject
from implicit_relocalizer.network.calibration import FEATURES
from implicit_relocalizer.network.encoders import build_encoder, cell_centres
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.localizer import Localizer, error_weights
from implicit_relocalizer.network.model_file import CALIBRATION_OUTPUTS, OUTPUT_NAMES

ALL_OUTPUTS = OUTPUT_NAMES + CALIBRATION_OUTPUTS
SIZE = (160, 120)
FOCAL_PX = 130.0
K_33 = torch.tensor([[FOCAL_PX, 0.0, 80.5], [0.0, FOCAL_PX, 58.5], [0.0, 0.0, 1.0]])
IMAGE = torch.randint(0, 256, (120, 160, 3), dtype=torch.uint8,
                      generator=torch.Generator().manual_seed(3))
R_TRUE = torch.from_numpy(Rotation.from_euler('xyz', [70, -35, 110], degrees=True).as_matrix())
T_TRUE = torch.tensor([1.3, -0.7, 2.1], dtype=torch.float64)


class TruthfulHead(nn.Module):
    """In the place of the learned head: gives the numbers it was made with, whatever it sees."""

    def __init__(self, points_n3: torch.Tensor, depth_n: torch.Tensor,
                 log_error_n: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer('points_n3', points_n3)
        self.register_buffer('depth_n', depth_n)
        self.register_buffer('log_error_n', log_error_n)

    def forward(self, features_bnc: torch.Tensor,
                ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.points_n3[None], self.depth_n.log()[None], self.log_error_n[None]


def truthful_localizer(noise_px: float = 0.0, outlier_share: float = 0.0,
                       origin=(0.0, 0.0, 0.0), seed: int = 0, size=SIZE) -> Localizer:
    """A localizer whose clouds fit R_TRUE and T_TRUE (relative to the origin)."""
    generator = torch.Generator().manual_seed(seed)
    encoder = build_encoder('gradient_descriptor')
    localizer = Localizer(encoder, PointHead(encoder.channels, torch.zeros(1, 3)), size,
                          FOCAL_PX, torch.tensor(origin, dtype=torch.float64))
    pixels = cell_centres(size[1], size[0], encoder.stride).double()
    count = len(pixels)
    depth = 1.5 + 3.0 * torch.rand(count, generator=generator, dtype=torch.float64)
    noise = noise_px * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    seen = unproject(pixels + noise, K_33.double()) * depth[:, None]
    points = seen @ R_TRUE.T + T_TRUE
    log_error = torch.zeros(count)
    outliers = torch.randperm(count, generator=generator)[:int(outlier_share * count)]
    points[outliers] = 6.0 * torch.rand(len(outliers), 3, generator=generator,
                                        dtype=torch.float64) - 3.0
    localizer.head = TruthfulHead(points.float(), depth.float(), log_error)
    return localizer.eval()


def assert_is_truth(outputs, tolerance=1e-4):
    torch.testing.assert_close(outputs['t_world_camera'], T_TRUE, rtol=0, atol=tolerance)
    torch.testing.assert_close(outputs['R_world_camera'], R_TRUE, rtol=0, atol=tolerance)


@pytest.mark.parametrize('outlier_share', [0.0, 0.5, 0.7])
def test_clouds_that_fit_a_pose_give_that_pose(outlier_share):
    localizer = truthful_localizer(outlier_share=outlier_share)
    outputs = localizer(IMAGE, K_33)
    assert_is_truth(outputs)
    assert outputs['inlier_fraction'].item() == pytest.approx(1 - outlier_share, abs=0.05)
    assert outputs['confidence'].item() == pytest.approx(1 - outlier_share, abs=0.05)


def test_the_steps_of_forward_can_be_called_one_by_one():
    localizer = truthful_localizer(outlier_share=0.5)
    _, K_133 = localizer.prepare(IMAGE, K_33)
    clouds = localizer.predict(localizer.prepare(IMAGE, K_33)[0], K_133)
    hypotheses = localizer.hypothesize(*clouds, K_133)
    fit = localizer.refine(*hypotheses, *clouds, K_133)
    R, t, rows, squared_errors = fit
    assert_is_truth({'R_world_camera': R[0].double(), 't_world_camera': t[0].double()})
    assert rows.shape == (1, 7, 2, 300) and squared_errors.shape == (1, 300)
    assert (squared_errors < 1e-4).sum() >= 150
    confidence, covariance, *_ = localizer.assess(*fit, *hypotheses, *clouds, K_133)
    outputs = localizer(IMAGE, K_33)
    assert outputs['features'][FEATURES.index('agreement')] > 0.0  # log odds of a half
    assert confidence == outputs['confidence'] and covariance.equal(outputs['covariance'])


def test_poses_far_from_the_worlds_origin_keep_millimetres():
    origin = (5e5, 4e6, 100.0)
    outputs = truthful_localizer(origin=origin, outlier_share=0.5)(IMAGE, K_33)
    assert outputs['t_world_camera'].dtype == outputs['points_world'].dtype == torch.float64
    truth = T_TRUE + torch.tensor(origin, dtype=torch.float64)
    assert (outputs['t_world_camera'] - truth).norm() < 1e-3
    assert (outputs['points_world'].mean(dim=0) - truth).norm() < 10.0


def test_all_documented_outputs_come_with_their_shapes_scripted_and_eager():
    localizer = truthful_localizer(noise_px=1.0, outlier_share=0.3)
    eager, scripted = localizer(IMAGE, K_33), torch.jit.script(localizer)(IMAGE, K_33)
    assert set(eager) == set(scripted) == set(ALL_OUTPUTS)
    shapes = {'R_world_camera': (3, 3), 't_world_camera': (3,), 'covariance': (6, 6),
              'confidence': (), 'inlier_fraction': (), 'points_world': (300, 3),
              'points_camera': (300, 3), 'weights': (300,), 'pixels': (300, 2),
              'reprojection_error_px': (300,), 'raw_covariance': (6, 6), 'features': (8,)}
    assert {name: tuple(value.shape) for name, value in scripted.items()} == shapes
    for name in ALL_OUTPUTS:
        torch.testing.assert_close(scripted[name], eager[name], rtol=1e-3, atol=1e-4, msg=name)
    for _ in range(3):  # also after the profiling executor has optimised it
        again = torch.jit.script(localizer)(IMAGE, K_33)
        assert all(torch.equal(again[name], scripted[name]) for name in ALL_OUTPUTS)


def test_the_same_image_gives_the_same_answer():
    localizer = truthful_localizer(noise_px=2.0, outlier_share=0.5)
    first, second = localizer(IMAGE, K_33), localizer(IMAGE, K_33)
    assert all(torch.equal(first[name], second[name]) for name in ALL_OUTPUTS)


def test_clouds_reproject_onto_the_reported_pixels():
    outputs = truthful_localizer()(IMAGE, K_33)
    for cloud in (outputs['points_camera'].double(),
                  (outputs['points_world'] - outputs['t_world_camera'])
                  @ outputs['R_world_camera']):
        plane = cloud @ K_33.double().T
        torch.testing.assert_close(plane[:, :2] / plane[:, 2:], outputs['pixels'].double(),
                                   rtol=0, atol=0.02)


def test_an_image_of_twice_the_size_gives_the_same_pose_and_pixels_of_its_own():
    localizer = truthful_localizer(noise_px=1.0, outlier_share=0.3)
    small = localizer(IMAGE, K_33)
    K_large = torch.tensor([[2 * FOCAL_PX, 0.0, 161.5], [0.0, 2 * FOCAL_PX, 117.5],
                            [0.0, 0.0, 1.0]])  # c' = 2 (c + 0.5) - 0.5
    large = localizer(IMAGE.repeat_interleave(2, 0).repeat_interleave(2, 1), K_large)
    torch.testing.assert_close(large['t_world_camera'], small['t_world_camera'])
    torch.testing.assert_close(large['covariance'], small['covariance'], rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(large['pixels'], 2.0 * (small['pixels'] + 0.5) - 0.5)
    assert small['pixels'][0].tolist() == [3.5, 3.5]
    assert large['pixels'].amax(dim=0).tolist() == [311.5, 231.5]


def test_prepare_resizes_a_smooth_image_onto_itself():
    y, x = torch.meshgrid(torch.arange(240.0), torch.arange(320.0), indexing='ij')
    ramp = torch.stack([0.5 * x, 0.5 * y, 0.3 * (x + y)], dim=-1).round().to(torch.uint8)
    image, K_b33 = truthful_localizer().prepare(ramp, K_33)
    assert image.shape == (1, 3, 120, 160)
    # small pixel (10, 20) is centred on large pixel (20.5, 40.5)
    assert image[0, 0, 20, 10].item() == pytest.approx(0.5 * 20.5, abs=0.5)
    assert image[0, 1, 20, 10].item() == pytest.approx(0.5 * 40.5, abs=0.5)
    assert K_b33[0, 0, 2].item() == pytest.approx((80.5 + 0.5) / 2 - 0.5)


def test_depth_follows_the_focal_length():
    localizer = truthful_localizer()
    image, _ = localizer.prepare(IMAGE, K_33)
    zoomed = K_33.clone()
    zoomed[0, 0] = zoomed[1, 1] = 1.5 * FOCAL_PX
    _, near, _, _ = localizer.predict(image, K_33[None])
    _, far, _, _ = localizer.predict(image, zoomed[None])
    torch.testing.assert_close(far[..., 2], 1.5 * near[..., 2])


def test_the_covariance_is_symmetric_positive_and_grows_with_the_noise():
    traces = []
    for noise_px in (0.0, 0.5, 2.0, 6.0):
        covariance = truthful_localizer(noise_px)(IMAGE, K_33)['covariance']
        assert covariance.dtype == torch.float64 and torch.equal(covariance, covariance.T)
        assert torch.linalg.eigvalsh(covariance).min() >= 3e-8
        assert covariance.diagonal()[:3].min() >= 2.5e-7, 'never below half a millimetre'
        traces.append(covariance.diagonal()[:3].sum().item())
    assert traces == sorted(traces) and traces[-1] > 3 * traces[0]


def test_the_raw_covariance_is_of_the_size_of_the_errors():
    errors, predicted = [], []
    for seed in range(25):
        outputs = truthful_localizer(noise_px=1.0, seed=seed)(IMAGE, K_33)
        t_error = outputs['t_world_camera'] - T_TRUE
        R_error = (outputs['R_world_camera'] @ R_TRUE.T).numpy()
        turn = Rotation.from_matrix(R_error).as_rotvec()
        errors.append(np.concatenate([t_error.numpy(), turn]))
        predicted.append(outputs['raw_covariance'].diagonal().numpy())
    ratio = np.sqrt(np.mean(predicted, axis=0)) / np.sqrt(np.mean(np.square(errors), axis=0))
    assert (ratio > 0.6).all() and (ratio < 1.6).all(), ratio


@pytest.mark.parametrize('points', ['random', 'behind', 'one', 'huge'])
def test_clouds_that_mean_nothing_give_finite_answers(points):
    localizer = truthful_localizer(outlier_share=1.0)
    if points == 'behind':
        localizer.head.points_n3[:, 2] -= 1e4
    if points == 'one':
        localizer.head.points_n3.copy_(localizer.head.points_n3[0].clone())
    if points == 'huge':
        localizer.head.points_n3.mul_(1e8)
    outputs = localizer(IMAGE, K_33)
    assert all(outputs[name].isfinite().all() for name in ALL_OUTPUTS)
    assert torch.linalg.eigvalsh(outputs['covariance']).min() > 0
    assert outputs['confidence'].item() < 0.5 or points == 'one'
    torch.testing.assert_close(outputs['R_world_camera'] @ outputs['R_world_camera'].T,
                               torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-4)


def test_weights_are_inverse_variances_capped_at_ten_medians():
    log_error = torch.tensor([[0.0, 0.0, 1.0, -5.0, 0.0]])
    weights = error_weights(log_error)[0]
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.0, math.exp(-2.0), 10.0, 1.0]))


def test_confident_cells_decide_between_two_poses():
    """Half of the cells, with small predicted errors, against the other half."""
    localizer = truthful_localizer()
    moved = torch.arange(300) % 2 == 0
    localizer.head.points_n3[moved] += torch.tensor([0.8, 0.0, 0.3])
    localizer.head.log_error_n[moved] = 1.5
    assert_is_truth(localizer(IMAGE, K_33), tolerance=0.01)
    localizer.head.log_error_n.copy_(1.5 - localizer.head.log_error_n)
    other = localizer(IMAGE, K_33)['t_world_camera']
    torch.testing.assert_close(other, T_TRUE + torch.tensor([0.8, 0.0, 0.3]).double(),
                               rtol=0, atol=0.01)
