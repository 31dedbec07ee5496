# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Training on a small room: it learns, survives a kill, and never sees the held-out frames."""

import json
import logging
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from box_room import K_33, write_box_room
from PIL import Image

from implicit_relocalizer.data.augmentation import ViewRange, real_views
from implicit_relocalizer.data.frames import Scene
from implicit_relocalizer.data.images import (
    PosedImages,
    as_float_images,
    load_posed_images,
    read_image,
)
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.evaluation.accuracy import measure_accuracy
from implicit_relocalizer.geometry.kabsch import weighted_kabsch
from implicit_relocalizer.network.encoders import build_encoder
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.model_file import load_model
from implicit_relocalizer.training.alignment import AlignmentStage
from implicit_relocalizer.training.anchors import spread_anchors
from implicit_relocalizer.training.checkpoint import CheckpointError, load_checkpoint
from implicit_relocalizer.training.configuration import (
    AlignmentConfig,
    MappingConfig,
    TrainingConfig,
)
from implicit_relocalizer.training.configuration_file import load_configuration
from implicit_relocalizer.training.loop import (
    LoopState,
    TrainingError,
    learning_rate_factor,
    progress_of,
    run_stage,
)
from implicit_relocalizer.training.losses import pose_loss
from implicit_relocalizer.training.mapping import clamp_px
from implicit_relocalizer.training.plan import split_validation
from implicit_relocalizer.training.trainer import train_scene

CPU = torch.device('cpu')
WIDTH, BLOCKS, ANCHORS = 128, 2, 32
SETTINGS = {
    'input_width': 160, 'device': 'cpu', 'precision': 'float32',
    'head': {'width': WIDTH, 'blocks': BLOCKS, 'anchors': ANCHORS},
    'mapping': {'iterations': 600, 'max_seconds': 0, 'views_per_image': 4,
                'points_per_view': 300, 'batch_points': 512}}


def configuration(folder: Path, *overrides: str) -> TrainingConfig:
    path = folder / 'settings.yaml'
    path.write_text(yaml.safe_dump(SETTINGS))
    return load_configuration(path, list(overrides))


def train(scene: Scene, run_dir: Path, *overrides: str) -> dict:
    config = configuration(run_dir.parent, *overrides)
    return train_scene(scene, config, run_dir, measure_accuracy, show_progress=False)


def weights_of(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run_dir / 'checkpoint.pt', {})['loop']['modules']


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    return write_box_room(tmp_path_factory.mktemp('scene') / 'room', 30)


@pytest.fixture(scope='module')
def scene(folder) -> Scene:
    return read_folder_scene(folder)


@pytest.fixture(scope='module')
def barely_trained(scene, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp('barely') / 'run'
    return run_dir, train(scene, run_dir, 'mapping.iterations=10')


@pytest.fixture(scope='module')
def trained(scene, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp('trained') / 'run'
    return run_dir, train(scene, run_dir)


@pytest.fixture
def mapped(scene, trained) -> tuple[Localizer, PosedImages]:
    """The trained localizer as a module, and its training images in its local frame."""
    state = weights_of(trained[0])
    frames, _ = split_validation(scene.split('train'), 0.05)
    images = load_posed_images(frames, state['origin_world_3'])
    head = PointHead(384, torch.zeros(ANCHORS, 3), width=WIDTH, blocks=BLOCKS)
    localizer = Localizer(build_encoder('gradient_descriptor'), head, (160, 120), K_33[0, 0],
                          state['origin_world_3'])
    localizer.load_state_dict(state)
    return localizer, images


def test_training_finds_held_out_frames_to_centimetres(trained, barely_trained):
    after, before = trained[1]['test'], barely_trained[1]['test']
    assert before['median_translation_m'] > 0.5
    assert after['median_translation_m'] < 0.12 and after['median_rotation_deg'] < 2.0
    assert after['recall']['50cm_5deg'] >= 0.8
    assert trained[1]['train']['median_translation_m'] < 0.05
    assert after['frames_asked'] == after['frames_answered'] == 5


def test_a_run_folder_holds_model_result_and_configuration(trained, scene):
    run_dir, result = trained
    assert json.loads((run_dir / 'result.json').read_text()) == result
    config = configuration(run_dir.parent)
    assert load_configuration(run_dir / 'config.yaml') == config
    assert result['model_bytes'] == (run_dir / 'model.pt').stat().st_size
    assert not list(run_dir.glob('*.partial'))
    steps, seconds, _, errors_px = zip(*result['history']['mapping'], strict=True)
    assert list(steps) == [100, 200, 300, 400, 500, 600]
    assert list(seconds) == sorted(seconds) and seconds[-1] < result['training_seconds']
    assert errors_px[-1] < 0.3 * errors_px[0]


def test_the_model_file_repeats_the_accuracy_it_claims(trained, scene):
    run_dir, result = trained
    module, metadata = load_model(run_dir / 'model.pt')
    summary = measure_accuracy(module, scene.split('test'))
    for key in ('median_translation_m', 'p90_translation_m', 'median_rotation_deg'):
        assert summary[key] == pytest.approx(result['test'][key], rel=0.05, abs=2e-3)
    assert metadata.accuracy['test'] == result['test']
    assert (metadata.scene, metadata.image_size) == ('room', (160, 120))
    np.testing.assert_allclose(metadata.K_33, K_33)
    positions = np.stack([f.T_world_camera[:3, 3] for f in scene.split('train')])
    assert (np.array(metadata.position_min_m) < positions.min(axis=0) + 0.05).all()
    assert (np.array(metadata.position_max_m) > positions.max(axis=0) - 0.05).all()


def test_a_larger_image_with_its_intrinsics_gives_nearly_the_same_pose(trained, scene):
    module, _ = load_model(trained[0] / 'model.pt')
    for frame in scene.split('test'):
        image = read_image(frame.image_path)
        large = torch.nn.functional.interpolate(
            image.permute(2, 0, 1)[None].float(), scale_factor=2, mode='bicubic')
        large = large[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)
        K_small = torch.from_numpy(frame.K_33).float()
        K_large = torch.tensor([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]]) @ K_small
        expected, actual = module(image, K_small), module(large, K_large)
        moved = (actual['t_world_camera'] - expected['t_world_camera']).norm()
        assert moved < 0.05


def test_predicted_points_lie_on_the_walls(trained, scene):
    """Nobody told the depth: it comes from seeing each point from several places."""
    module, _ = load_model(trained[0] / 'model.pt')
    distances = []
    for frame in scene.split('test'):
        outputs = module(read_image(frame.image_path), torch.from_numpy(frame.K_33).float())
        points = outputs['points_world'][outputs['weights'] > outputs['weights'].median()]
        room = torch.tensor([4.0, 3.0, 2.5], dtype=torch.float64)
        distances.append(torch.minimum(points.abs(), (points - room).abs()).amin(dim=1))
    assert torch.cat(distances).median() < 0.15


def test_held_out_frames_never_reach_training(folder, barely_trained, tmp_path):
    """With their images blackened and their poses moved every weight comes out the same."""
    run_dir, result = barely_trained
    other = shutil.copytree(folder, tmp_path / 'room')
    for name in (other / 'splits' / 'standard.txt').read_text().split():
        Image.new('RGB', (160, 120)).save(other / 'rgb' / f'{name}.png')
        pose = np.loadtxt(other / 'poses' / f'{name}.txt')
        pose[:3, 3] += 100.0
        np.savetxt(other / 'poses' / f'{name}.txt', pose)
    changed = train(read_folder_scene(other), tmp_path / 'run', 'mapping.iterations=10')
    first, second = weights_of(run_dir), weights_of(tmp_path / 'run')
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for part in ('train', 'validation'):
        assert changed[part] == result[part]
    assert changed['test']['median_translation_m'] > 50


def test_a_killed_run_goes_on_where_it_was(folder, scene, tmp_path, caplog):
    run_dir, log = tmp_path / 'run', tmp_path / 'log'
    configuration(tmp_path)
    overrides = ['checkpoint_every_s=0.1', 'mapping.iterations=300']
    command = [sys.executable, '-m', 'implicit_relocalizer.cli', 'train', str(folder), '--config',
               str(tmp_path / 'settings.yaml'), '--output', str(run_dir)]
    with log.open('w') as output:
        process = subprocess.Popen([*command, *(f'--set={value}' for value in overrides)],
                                   stdout=output, stderr=output)
        end_s = time.monotonic() + 120
        while not (run_dir / 'checkpoint.pt').exists():
            assert process.poll() is None and time.monotonic() < end_s, log.read_text()
            time.sleep(0.01)
        process.kill()
        process.wait()
    saved = load_checkpoint(run_dir / 'checkpoint.pt', {})
    step = saved['loop']['iteration']
    assert 0 < step < 300 and not (run_dir / 'result.json').exists()
    with caplog.at_level(logging.INFO):
        result = train(scene, run_dir, *overrides)
    assert f'resuming mapping at step {step}' in caplog.text
    finished = load_checkpoint(run_dir / 'checkpoint.pt', {})
    assert finished['loop']['iteration'] == 300
    assert finished['loop']['elapsed_s'] > saved['loop']['elapsed_s']
    assert result['training_seconds'] > saved['seconds']
    optimizer_steps = {int(s['step']) for s in finished['loop']['optimizer']['state'].values()}
    assert optimizer_steps == {300}, "the optimizer's moments went along"
    assert result['test']['median_translation_m'] < 0.3


def test_a_finished_run_is_not_trained_further(scene, barely_trained):
    run_dir, result = barely_trained
    before = weights_of(run_dir)
    again = train(scene, run_dir, 'mapping.iterations=10')
    assert again['test'] == result['test']
    assert all(torch.equal(value, before[name]) for name, value in weights_of(run_dir).items())


def test_another_configuration_is_refused_and_leaves_the_folder_alone(scene, barely_trained):
    run_dir, _ = barely_trained
    before = (run_dir / 'config.yaml').read_text()
    with pytest.raises(CheckpointError, match=r'checkpoint\.pt: was made with another '
                                              r'configuration; .*--restart'):
        train(scene, run_dir, 'mapping.iterations=10', 'seed=7')
    assert (run_dir / 'config.yaml').read_text() == before
    fewer = replace(scene, frames=scene.frames[:20])
    with pytest.raises(CheckpointError, match='another scene'):
        train(fewer, run_dir, 'mapping.iterations=10')


@pytest.mark.parametrize('share', [0.0, 0.5, 'text'])
def test_a_damaged_checkpoint_is_named_with_the_remedy(barely_trained, tmp_path, share):
    whole = (barely_trained[0] / 'checkpoint.pt').read_bytes()
    path = tmp_path / 'checkpoint.pt'
    path.write_bytes(b'hello there\n' if share == 'text' else whole[:int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r'checkpoint\.pt: cannot be read .*delete it'):
        load_checkpoint(path, {})


def test_a_loss_that_is_no_number_ends_with_what_to_change(scene, tmp_path):
    with pytest.raises(TrainingError, match=r'mapping: the loss became nan at step \d+; lower '
                                            r'mapping\.learning_rate \(1e\+30\)'):
        train(scene, tmp_path / 'run', 'mapping.learning_rate=1e30')
    assert not (tmp_path / 'run' / 'model.pt').exists()


def kabsch_pose_loss(localizer: Localizer, images: PosedImages) -> float:
    """Mean pose loss of weighted Kabsch on the training images themselves."""
    views = real_views(as_float_images(images.images_bhw3), images.K_b33,
                       images.R_world_camera_b33, images.t_local_camera_b3, (160, 120))
    with torch.no_grad():
        world, camera, weights = localizer.eval().predict(views.images_b3hw, views.K_b33)
        R, t, _ = weighted_kabsch(camera, world, weights)
        return pose_loss(R, t, views.R_world_camera_b33, views.t_world_camera_b3,
                         1.0).mean().item()


def run_alignment(localizer, images, **options):
    config = AlignmentConfig(max_seconds=0.0, **options)
    for parameter in localizer.encoder.parameters():
        parameter.requires_grad_(config.train_encoder)
    stage = AlignmentStage(localizer, images, config, ViewRange(),
                           torch.Generator().manual_seed(0), CPU, torch.float32)
    return run_stage(stage, localizer, None, lambda values: None, lambda: '', 1e9, 1e9, False)


def test_alignment_from_a_mapped_head_lowers_the_pose_loss(mapped):
    localizer, images = mapped
    before = kabsch_pose_loss(localizer, images)
    state = run_alignment(localizer, images, iterations=120, batch_images=4)
    after = kabsch_pose_loss(localizer, images)
    assert state.iteration == 120
    assert after < 0.9 * before


def test_the_papers_form_trains_everything_end_to_end(scene, tmp_path):
    result = train(scene, tmp_path / 'run', 'mapping.iterations=0', 'alignment.iterations=3',
                   'alignment.train_encoder=true', 'alignment.batch_images=4',
                   'encoder.name=resnet18', 'input_width=96')
    assert result['test']['frames_answered'] == 5
    module, metadata = load_model(tmp_path / 'run' / 'model.pt')
    assert metadata.encoder == 'resnet18'
    state = load_checkpoint(tmp_path / 'run' / 'checkpoint.pt', {})['loop']['optimizer']['state']
    moments = [values['exp_avg'] for values in state.values()]
    assert len(moments) == len(list(module.parameters()))
    assert all(moment.isfinite().all() for moment in moments)
    assert all(moment.any() for moment in moments), 'gradients reach every weight'


@pytest.mark.parametrize('train_encoder', [False, True])
def test_the_encoder_learns_only_where_asked(scene, train_encoder):
    torch.manual_seed(0)
    images = load_posed_images(scene.split('train')[:4])
    encoder = build_encoder('resnet18')
    head = PointHead(encoder.channels, spread_anchors(images, 8, 2.5, 0), width=32, blocks=1)
    localizer = Localizer(encoder, head, (96, 72), 75.0, images.origin_world_3)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    run_alignment(localizer, images, iterations=1, batch_images=2, train_encoder=train_encoder)
    changed = any(not torch.equal(value, before[key])
                  for key, value in encoder.state_dict().items())
    assert changed == train_encoder, 'batch statistics count too'


def test_anchors_spread_where_the_cameras_look(scene):
    images = load_posed_images(scene.split('train'))
    anchors = spread_anchors(images, 24, 2.0, seed=0)
    assert anchors.shape == (24, 3)
    assert torch.equal(anchors, spread_anchors(images, 24, 2.0, seed=0))
    distance = torch.cdist(anchors, images.t_local_camera_b3)
    assert distance.amin(dim=1).max() < 3.5
    ahead = ((anchors.unsqueeze(1) - images.t_local_camera_b3)
             * images.R_world_camera_b33[:, :, 2]).sum(-1)
    assert (ahead.amax(dim=1) > 1.0).all()
    few = spread_anchors(load_posed_images(scene.frames[:1]), 24, 2.0, seed=0)
    assert few.shape == (24, 3) and few.isfinite().all()


def test_validation_frames_are_spread_and_set_aside(scene):
    frames = scene.split('train')
    fit, validation = split_validation(frames, 0.25)
    assert len(validation) == 6 and not {f.name for f in fit} & {f.name for f in validation}
    assert sorted(f.name for f in (*fit, *validation)) == [f.name for f in frames]
    gaps = np.diff([frames.index(f) for f in validation])
    assert gaps.max() == gaps.min() == 4
    assert split_validation(frames, 0.0) == (frames, ())
    assert split_validation(frames[:3], 0.5) == (frames[:3], ())


def test_progress_is_by_steps_or_by_time_whichever_is_further():
    config = MappingConfig(iterations=100, max_seconds=10.0)
    assert progress_of(LoopState(25, 1.0), config) == 0.25
    assert progress_of(LoopState(25, 9.0), config) == 0.9
    assert progress_of(LoopState(25, 99.0), config) == 1.0
    assert progress_of(LoopState(25, 99.0), replace(config, max_seconds=0.0)) == 0.25


def test_schedules_end_where_they_should():
    factors = [learning_rate_factor(share) for share in np.linspace(0, 1, 201)]
    peak = int(np.argmax(factors))
    assert factors[peak] == pytest.approx(1.0) and peak == 4, 'after a warm-up of 2 %'
    assert factors[0] == pytest.approx(0.05) and factors[-1] == pytest.approx(0.01)
    assert np.all(np.diff(factors[:peak + 1]) > 0) and np.all(np.diff(factors[peak:]) < 0)
    config = MappingConfig(clamp_start_px=16.0, clamp_end_px=1.0)
    assert [clamp_px(config, share) for share in (0, 0.5, 1)] == pytest.approx([16, 4, 1])
