# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The pose-regression baseline: it learns, exports, and says what it cannot know."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from box_room import K_33, write_box_room
from training_runs import curves_of, parts_of_loss

from implicit_relocalizer.data.frames import Scene
from implicit_relocalizer.data.images import load_posed_images, read_frame_image
from implicit_relocalizer.data.scenes import read_scene
from implicit_relocalizer.evaluation.accuracy import measure_accuracy
from implicit_relocalizer.localization.model_runner import ModelRunner
from implicit_relocalizer.network import encoders
from implicit_relocalizer.network.encoders import Encoder, build_encoder
from implicit_relocalizer.network.model_file import OUTPUT_NAMES
from implicit_relocalizer.network.regressor import BALANCE_GAIN, orthonormal_frame
from implicit_relocalizer.training.checkpoint import load_checkpoint
from implicit_relocalizer.training.configuration import ConfigurationError, RegressionConfig
from implicit_relocalizer.training.configuration_file import load_configuration
from implicit_relocalizer.training.regression import balanced_loss, build_regressor
from implicit_relocalizer.training.trainer import train_scene

CONFIG = Path(__file__).resolve().parents[1] / 'config' / 'train' / 'pose_regression.yaml'
SMALL = ['input_width=96', 'device=cpu', 'precision=float32', 'regression.max_seconds=0',
         'validation_fraction=0.25']
BY_HEART = ['regression.learning_rate=1e-3', 'regression.dropout=0', 'augmentation.roll_deg=1',
            'augmentation.tilt_deg=1']


@pytest.fixture(scope='module')
def scene(tmp_path_factory) -> Scene:
    return read_scene(write_box_room(tmp_path_factory.mktemp('scene') / 'room', 14))


def train(scene: Scene, run_dir: Path, *overrides: str) -> dict:
    return train_scene(scene, load_configuration(CONFIG, [*SMALL, *overrides]), run_dir,
                       measure_accuracy, show_progress=False)


@pytest.fixture(scope='module')
def trained(scene, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp('trained') / 'run'
    return run_dir, train(scene, run_dir, 'encoder.name=gradient_descriptor',
                          'input_width=64', 'regression.stem_blocks=3',
                          'regression.iterations=60', *BY_HEART)


def test_the_fixed_descriptor_with_a_stem_learns_its_training_images_by_heart(trained):
    result = trained[1]
    assert result['train']['median_translation_m'] < 0.2
    assert result['train']['median_rotation_deg'] < 8.0


def test_the_curves_show_how_position_and_rotation_errors_fall(trained):
    curves = curves_of(trained[0], 'regression')
    parts = parts_of_loss(curves)
    assert set(parts) == {'position_m', 'rotation_rad'}
    assert len(parts['position_m']) == len(parts['rotation_rad']) == len(curves['loss']) > 0
    assert all(0.0 < value < 1.0 for value in parts['position_m'])
    assert all(0.0 < value < math.pi for value in parts['rotation_rad'])


def test_the_model_file_answers_like_any_other(trained, scene):
    runner = ModelRunner(trained[0] / 'model.pt', torch.device('cpu'))
    assert runner.metadata.encoder == 'gradient_descriptor'
    frame = scene.split('test')[0]
    image = read_frame_image(frame)
    estimate = runner.locate(image.numpy(), frame.K_33)
    R = estimate.R_map_camera
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(R) > 0 and (estimate.confidence, estimate.inlier_fraction) == (0.5, 0.0)
    module = torch.jit.load(trained[0] / 'model.pt')
    with torch.no_grad():
        outputs = module(image, torch.from_numpy(frame.K_33).float())
    assert set(outputs) == set(OUTPUT_NAMES)
    assert outputs['points_world'].shape == outputs['points_camera'].shape == (0, 3)
    assert outputs['pixels'].shape == (0, 2) and outputs['weights'].shape == (0,)
    summary = measure_accuracy(module, scene.split('test'))
    assert summary['median_translation_m'] == pytest.approx(
        trained[1]['test']['median_translation_m'], abs=1e-4)


def test_the_covariance_is_that_of_the_validation_frames(trained):
    module = torch.jit.load(trained[0] / 'model.pt')
    with torch.no_grad():
        outputs = module(torch.zeros(120, 160, 3, dtype=torch.uint8),
                         torch.from_numpy(K_33).float())
    measured = trained[1]['validation']
    deviations = outputs['covariance'].diagonal().sqrt()
    generator = np.random.default_rng(0)
    lengths = np.linalg.norm(generator.normal(size=(200_000, 3)), axis=1)
    for part, expected in ((deviations[:3], measured['median_translation_m']),
                           (deviations[3:], math.radians(measured['median_rotation_deg']))):
        np.testing.assert_allclose(part * np.median(lengths), expected, rtol=0.01)
    assert torch.equal(outputs['covariance'], outputs['covariance'].diagonal().diag())


def test_a_scripted_regressor_is_the_eager_one_and_resizes(scene):
    torch.manual_seed(0)
    images = load_posed_images(scene.split('train'))
    regressor = build_regressor(build_encoder('mobilenet_v3_large'), RegressionConfig(), images,
                                (96, 72)).eval()
    scripted = torch.jit.script(regressor)
    frame = scene.frames[0]
    inputs = read_frame_image(frame), torch.from_numpy(frame.K_33).float()
    with torch.no_grad():
        eager, compiled = regressor(*inputs), scripted(*inputs)
    assert set(eager) == set(compiled)
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-4, atol=1e-5)
        assert compiled[name].dtype == value.dtype


class SmallCnn(Encoder):
    """Three convolutions in place of the default's eleven million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = 64
        widths = (3, 16, 32, self.channels)
        self.layers = torch.nn.Sequential(*(layer for inputs, outputs in pairwise(widths)
                                            for layer in (
            torch.nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            torch.nn.BatchNorm2d(outputs), torch.nn.ReLU())))

    def forward(self, images_b3hw: torch.Tensor) -> torch.Tensor:
        return self.layers(images_b3hw)


def test_a_cnn_learns_too(scene, tmp_path, monkeypatch):
    monkeypatch.setitem(encoders._BUILDERS, 'small_cnn', lambda pretrained: SmallCnn())
    overrides = ['encoder.name=small_cnn', 'input_width=64', 'regression.batch_images=4',
                 'regression.pooled_cells=4', *BY_HEART]
    before, after = (train(scene, tmp_path / str(steps), f'regression.iterations={steps}',
                           *overrides)['train'] for steps in (1, 60))
    assert after['median_translation_m'] < 0.8 * before['median_translation_m']
    assert after['median_rotation_deg'] < 0.8 * before['median_rotation_deg']


def test_the_default_network_learns_in_every_weight(scene, tmp_path):
    train(scene, tmp_path / 'run', 'input_width=64', 'regression.iterations=1',
          'regression.batch_images=4')
    state = load_checkpoint(tmp_path / 'run' / 'checkpoint.pt', {})['loop']['optimizer']['state']
    network = torch.jit.load(tmp_path / 'run' / 'model.pt')
    assert len(state) == len(list(network.parameters()))
    for values in state.values():
        assert values['exp_avg'].isfinite().all() and values['exp_avg'].any()


def test_a_regression_is_not_mixed_with_other_stages():
    with pytest.raises(ConfigurationError, match=r'regression is a network of its own; .*set '
                                                 r'mapping\.iterations and alignment'):
        load_configuration(CONFIG, ['mapping.iterations=10'])
    with pytest.raises(ConfigurationError, match=r'regression\.dropout is 1\.0, must be < 1'):
        load_configuration(CONFIG, ['regression.dropout=1'])


def test_the_baseline_learns_from_the_papers_form_of_input():
    """A fair comparison: the same encoder, size, budget and turned views as paper.yaml."""
    ours, baseline = load_configuration(CONFIG.with_name('paper.yaml')), load_configuration(CONFIG)
    assert (baseline.encoder, baseline.input_width) == (ours.encoder, ours.input_width)
    for key in ('iterations', 'max_seconds', 'batch_images', 'learning_rate', 'train_encoder'):
        assert getattr(baseline.regression, key) == getattr(ours.alignment, key), key
    assert baseline.augmentation == replace(ours.augmentation, zoom=1.0, shift=0.0)


def test_six_numbers_become_the_gram_schmidt_rotation():
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(50, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    R = orthonormal_frame(columns)
    expected = roma.special_gramschmidt(torch.stack([columns[:, :3], columns[:, 3:]], dim=2))
    torch.testing.assert_close(R, expected)
    assert torch.autograd.gradcheck(orthonormal_frame, columns[:3])
    assert orthonormal_frame(torch.zeros(1, 6)).isfinite().all()


def test_the_balance_settles_where_its_scale_is_the_error():
    balance = torch.zeros(2, requires_grad=True)
    errors = torch.tensor([0.4, 0.02])
    optimizer = torch.optim.Adam([balance], lr=2e-3)
    for _ in range(400):
        optimizer.zero_grad()
        balanced_loss(errors[0], errors[1], balance).backward()
        optimizer.step()
    torch.testing.assert_close((BALANCE_GAIN * balance).exp().detach(), errors, rtol=0.02, atol=0)
