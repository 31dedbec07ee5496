# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning: positions alone improve positions and orientations, and nothing else is used."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from box_room import K_33, write_box_room
from scipy.spatial.transform import Rotation
from training_runs import train

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.augmentation import ViewRange
from implicit_relocalizer.data.frames import Frame, Scene, SceneError
from implicit_relocalizer.data.images import load_posed_images, read_frame_image
from implicit_relocalizer.data.scenes import read_scene
from implicit_relocalizer.data.selection import select_training_frames
from implicit_relocalizer.evaluation.accuracy import measure_accuracy
from implicit_relocalizer.network.encoders import build_encoder
from implicit_relocalizer.network.model_file import (
    ModelFileError,
    load_model,
    read_metadata,
    save_model,
)
from implicit_relocalizer.training.configuration import ConfigurationError
from implicit_relocalizer.training.finetune import finetune_model
from implicit_relocalizer.training.finetune_configuration import load_finetune_configuration
from implicit_relocalizer.training.kept_answers import KeptAnswers, encode_cells
from implicit_relocalizer.training.measurement import Evaluate
from implicit_relocalizer.training.positioned_cells import collect_cells, forget_rotations
from implicit_relocalizer.training.restoring import restore_model
from implicit_relocalizer.training.trusted_orientations import TrustedOrientations

CPU = torch.device('cpu')
BRIEF = ('iterations=3', 'max_seconds=0', 'views_per_image=2', 'points_per_view=60',
         'batch_images=4', 'points_per_image=30', 'kept_cells=50', 'rounds=2')


@pytest.fixture(scope='module')
def scene(tmp_path_factory) -> Scene:
    return read_scene(write_box_room(tmp_path_factory.mktemp('scene') / 'room', 48, 6))


@pytest.fixture(scope='module')
def parts(scene) -> tuple[Scene, Scene]:
    return select_training_frames(scene, 'first:0.5'), select_training_frames(scene, 'last:0.5')


@pytest.fixture(scope='module')
def few_frames(parts) -> tuple[Scene, ...]:
    """The beginnings of both parts, for tests that look at no errors."""
    return tuple(replace(part, frames=part.frames[:12]) for part in parts)


def measure_nothing(module, frames, device) -> dict:
    """In place of errors, where a test does not look at them."""
    return {}


@pytest.fixture(scope='module')
def model(parts, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp('trained') / 'run'
    train(parts[0], run_dir, evaluate=measure_nothing)
    return run_dir / 'model.pt'


def finetune(model: Path, scene: Scene, out: Path, *overrides: str, labels: str = 'position',
             known_frames: tuple[Frame, ...] = (), evaluate: Evaluate = measure_nothing) -> dict:
    config = load_finetune_configuration(['max_seconds=0', *overrides])
    return finetune_model(model, scene, labels, config, out, evaluate, device_name='cpu',
                          show_progress=False, known_frames=known_frames)


def with_other_rotations(scene: Scene) -> Scene:
    """The scene with random orientations of its training frames."""
    random = iter(Rotation.random(len(scene.frames), random_state=5).as_matrix())
    frames = []
    for frame in scene.frames:
        T_world_camera = frame.T_world_camera.copy()
        T_world_camera[:3, :3] = next(random)
        frames.append(replace(frame, T_world_camera=T_world_camera)
                      if frame.split == 'train' else frame)
    return replace(scene, frames=tuple(frames))


def test_positions_alone_improve_position_and_orientation(model, parts, tmp_path):
    result = finetune(model, parts[1], tmp_path / 'out.pt', 'iterations=60',
                      'views_per_image=2', 'points_per_view=300', 'rounds=10',
                      known_frames=parts[0].split('train'), evaluate=measure_accuracy)
    # Nobody told it of the orientation of the training frames either.
    train_before, train_after = result['before']['train'], result['after']['train']
    for error in ('median_translation_m', 'median_rotation_deg'):
        assert train_after[error] < 0.5 * train_before[error], error
    test_before, test_after = result['before']['test'], result['after']['test']
    assert test_after['median_translation_m'] < test_before['median_translation_m']
    # Eight held-out frames between the others, known well before.
    assert test_after['median_rotation_deg'] < 1.1 * test_before['median_rotation_deg']
    module, metadata = load_model(tmp_path / 'out.pt')
    measured = measure_accuracy(module, parts[1].split('test'))
    assert measured['median_translation_m'] == pytest.approx(
        result['after']['test']['median_translation_m'], abs=2e-3)
    assert metadata.accuracy == result['after']


def test_orientations_of_the_labels_are_not_used(model, few_frames, tmp_path):
    """Replaced by random ones, every weight comes out the same bit for bit."""
    for name, new, known in (('true', *reversed(few_frames)), (
            'random', *(with_other_rotations(part) for part in reversed(few_frames)))):
        finetune(model, new, tmp_path / f'{name}.pt', *BRIEF, known_frames=known.split('train'))
    start, true, random = (load_model(path)[0].state_dict() for path in (
        model, tmp_path / 'true.pt', tmp_path / 'random.pt'))
    assert true.keys() == random.keys()
    assert all(torch.equal(true[key], random[key]) for key in true)
    assert not torch.equal(start['head.last.weight'], true['head.last.weight'])


def test_with_pose_labels_orientations_are_used(model, few_frames, tmp_path):
    for name, scene in (('true', few_frames[1]), ('random', with_other_rotations(few_frames[1]))):
        finetune(model, scene, tmp_path / f'{name}.pt', *BRIEF, labels='pose')
    true, random = (load_model(tmp_path / f'{name}.pt')[0].state_dict()
                    for name in ('true', 'random'))
    assert not torch.equal(true['head.last.weight'], random['head.last.weight'])


def test_the_file_tells_its_history_and_can_be_finetuned_again(model, few_frames, tmp_path):
    finetune(model, few_frames[1], tmp_path / 'once.pt', *BRIEF)
    finetune(tmp_path / 'once.pt', few_frames[1], tmp_path / 'twice.pt', *BRIEF, labels='pose')
    start, metadata = read_metadata(model), read_metadata(tmp_path / 'twice.pt')
    history = metadata.training['finetuning']
    assert [entry['labels'] for entry in history] == ['position', 'pose']
    assert history[0]['settings']['iterations'] == 3
    assert metadata.training['configuration'] == start.training['configuration']
    positions = np.stack([f.T_world_camera[:3, 3] for f in few_frames[1].split('train')])
    assert (np.array(metadata.position_min_m) <= positions.min(axis=0) + 1e-9).all()
    assert (np.array(metadata.position_max_m) >= positions.max(axis=0) - 1e-9).all()
    assert (np.array(metadata.position_min_m) <= np.array(start.position_min_m)).all()


def test_a_restored_network_answers_as_its_file_does(model, scene):
    module, _ = load_model(model)
    localizer = restore_model(model).localizer.eval()
    frame = scene.split('test')[0]
    inputs = read_frame_image(frame), torch.from_numpy(frame.K_33).float()
    with torch.no_grad():
        expected, restored = module(*inputs), localizer(*inputs)
    for name in ('R_world_camera', 't_world_camera', 'points_world', 'points_camera', 'weights'):
        torch.testing.assert_close(restored[name], expected[name], rtol=1e-3, atol=1e-3)


def test_files_with_random_numbers_for_four_points_are_restored(model, tmp_path):
    _, metadata = load_model(model)
    localizer = restore_model(model).localizer
    del localizer.uniforms_h3
    localizer.uniforms_h4 = torch.rand(128, 4)  # as files had it that drew four points

    class OlderFile(torch.nn.Module):
        """What `restore_model` looks at."""

        def __init__(self) -> None:
            super().__init__()
            self.input_width, self.input_height = localizer.input_width, localizer.input_height
            self.nominal_focal_px = localizer.nominal_focal_px
            for name, part in localizer.named_children():
                self.add_module(name, part)
            self.register_buffer('uniforms_h4', localizer.uniforms_h4)
            self.register_buffer('origin_world_3', localizer.origin_world_3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    save_model(torch.jit.script(OlderFile()), tmp_path / 'older.pt', metadata)
    restored = restore_model(tmp_path / 'older.pt').localizer
    assert restored.uniforms_h3.shape[1] == 3
    for name, value in localizer.head.state_dict().items():
        assert value.equal(restored.head.state_dict()[name]), name


@pytest.mark.parametrize(('change', 'message'), [
    ({'configuration': None}, 'does not say how it was trained'),
    ({'configuration': {'head': {'fuzz': 1}}}, r'unknown key head\.fuzz.*train it again'),
    ({'configuration': {'head': {'width': 64, 'blocks': 2, 'anchors': 32}}},
     'do not fit the network of its configuration'),
    ({'configuration': {'mapping': {'iterations': 0}, 'regression': {'iterations': 9}}},
     'is a pose regression')])
def test_files_that_cannot_be_restored_are_named(model, tmp_path, change, message):
    module, metadata = load_model(model)
    save_model(module, tmp_path / 'other.pt', replace(metadata, training=change))
    with pytest.raises(ModelFileError, match=r'other\.pt.*' + message):
        restore_model(tmp_path / 'other.pt')


def test_images_of_another_shape_are_refused(model, parts, tmp_path):
    other = replace(parts[1], image_size=(160, 160))
    with pytest.raises(SceneError, match=r'its images are 160x160.*was trained on 160x120'):
        finetune(model, other, tmp_path / 'out.pt', *BRIEF)


@pytest.mark.parametrize(('override', 'message'), [
    ('fuzz=1', 'unknown key fuzz'), ('rounds=0', r'rounds is 0, must be > 0'),
    ('kept_weight=-1', r'kept_weight is -1\.0, must be >= 0'),
    ('trusted_share=2', 'trusted_share is 2.0, must be at most 1')])
def test_settings_that_cannot_work_are_refused(override, message):
    with pytest.raises(ConfigurationError, match=f'finetune: {message}'):
        load_finetune_configuration([override])


@pytest.fixture(scope='module')
def collected(scene, model):
    images = load_posed_images(scene.split('train')[:3])
    cells = collect_cells(images, True, build_encoder('gradient_descriptor'), (160, 120), 125.0,
                          3, 50, ViewRange(), torch.Generator().manual_seed(0), CPU)
    return images, cells


def test_cells_of_virtual_views_are_pixels_of_the_real_camera(collected):
    """Where a wall's point projects in the view is where the real camera sees it."""
    images, cells = collected
    assert cells.count_i.tolist() == [150, 150, 150] and cells.first_i.tolist() == [0, 150, 300]
    first = cells.pixels_m2[:50]
    assert torch.allclose((first - 3.5) / 8, ((first - 3.5) / 8).round(), atol=1e-3), 'real view'
    assert (cells.pixels_m2 > -1.0).all()
    assert (cells.pixels_m2 < torch.tensor([160.0, 120.0])).all(), 'cells that it saw'
    torch.testing.assert_close(cells.depth_factor_m[:50], torch.ones(50), rtol=1e-4, atol=1e-4)
    turned = cells.depth_factor_m[50:150]
    assert turned.min() > 0.6 and turned.max() < 1.6 and turned.std() > 0.01
    torch.testing.assert_close(cells.K_i33[0], torch.from_numpy(K_33).float())
    assert torch.equal(cells.R_world_camera_i33, images.R_world_camera_b33)


def test_drawn_cells_belong_to_their_images(collected):
    _, cells = collected
    batch = cells.draw(torch.tensor([2, 0]), 40, torch.Generator().manual_seed(0), CPU)
    for row, image in ((0, 2), (1, 0)):
        own = cells.pixels_m2[150 * image:150 * image + 150]
        distance = (batch.pixels_bn2[row].unsqueeze(1) - own).abs().sum(dim=2)
        assert distance.amin(dim=1).max() == 0
    assert torch.equal(batch.t_local_camera_b3, cells.t_local_camera_i3[[2, 0]])


class KnowingHead(torch.nn.Module):
    """Answers with the true world points of cells of some images, and nonsense for the rest."""

    def __init__(self, cells, R_i33: torch.Tensor, known_images: int) -> None:
        super().__init__()
        self.cells, self.R_i33, self.known = cells, R_i33, known_images

    def forward(self, features_bnc):
        index = features_bnc[..., 0].long()
        image = (index // 150).clamp(max=len(self.R_i33) - 1)
        rays = torch.cat([self.cells.pixels_m2[index], torch.ones_like(index)[..., None]], -1)
        rays = (torch.linalg.inv(self.cells.K_i33[0]) @ rays[..., None]).squeeze(-1)
        points = (self.R_i33[image] @ (2.5 * rays)[..., None]).squeeze(-1) \
            + self.cells.t_local_camera_i3[image]
        nonsense = torch.randn(points.shape, generator=torch.Generator().manual_seed(0))
        points = torch.where((image < self.known)[..., None], points, 3.0 * nonsense)
        return points, torch.zeros(index.shape), torch.zeros(index.shape)


def test_orientations_are_estimated_and_the_best_are_trusted_first(collected, model):
    images, cells = collected
    localizer = restore_model(model).localizer
    numbered = torch.arange(450.0)[:, None]
    unlabelled = replace(cells, features_mc=numbered, R_world_camera_i33=None)
    localizer.head = KnowingHead(unlabelled, images.R_world_camera_b33, known_images=2)
    orientations = TrustedOrientations(localizer, unlabelled, 0.1,
                                       torch.Generator().manual_seed(0), CPU)
    orientations.update(share=0.5)
    assert set(orientations.trusted.tolist()) <= {0, 1}
    torch.testing.assert_close(orientations.R_world_camera_i33[:2],
                               images.R_world_camera_b33[:2], rtol=0, atol=2e-3)
    orientations.update(share=1.0)
    assert orientations.trusted.tolist() == [0, 1], 'nonsense is never learned from'
    labelled = TrustedOrientations(localizer, cells, 0.1, torch.Generator(), CPU)
    labelled.update(share=0.1)
    assert labelled.trusted.tolist() == [0, 1, 2]
    assert torch.equal(labelled.R_world_camera_i33, images.R_world_camera_b33)


def test_kept_answers_notice_change(model, collected):
    images, _ = collected
    localizer = restore_model(model).localizer.eval()
    features = encode_cells(images.images_bhw3, localizer.encoder, (160, 120), 40,
                            torch.Generator().manual_seed(0), CPU)
    assert features.shape == (120, 384)
    direct = localizer.encoder(images.images_bhw3.permute(0, 3, 1, 2).float() / 255.0)
    cells = direct.flatten(2).transpose(1, 2).reshape(-1, 384)
    assert torch.cdist(features.float(), cells).amin(dim=1).max() < 0.01
    kept = KeptAnswers(localizer.head, features, torch.Generator().manual_seed(0), CPU)
    assert kept.change(localizer.head, 64) < 1e-5
    with torch.no_grad():
        localizer.head.last.bias += 0.3
    change = kept.change(localizer.head, 64)
    assert change > 0.02
    change.backward()
    assert localizer.head.first.weight.grad.any()


def test_rotations_are_forgotten_whole(scene):
    images = load_posed_images(scene.split('train')[:2])
    forgotten = forget_rotations(images)
    assert torch.equal(forgotten.R_world_camera_b33, torch.eye(3).expand(2, 3, 3))
    assert torch.equal(forgotten.t_local_camera_b3, images.t_local_camera_b3)


def test_the_command_writes_model_and_errors(model, scene, tmp_path, capsys):
    arguments = ['finetune', str(model), str(scene.root), '--train-frames', 'last:0.5',
                 '--labels', 'position', '--known-frames', 'first:0.5', '--out',
                 str(tmp_path / 'm.pt'), '--json',
                 str(tmp_path / 'm.json'), '--device', 'cpu']
    assert main([*arguments, *(f'--set={value}' for value in BRIEF)]) == 0
    result = json.loads((tmp_path / 'm.json').read_text())
    assert result['frames'] == 20 and result['after']['test']['frames_asked'] == 8
    assert 'test   after  median' in capsys.readouterr().out
    entry = read_metadata(tmp_path / 'm.pt').training['finetuning'][0]
    assert (entry['frames'], entry['known_frames']) == (20, 20)
    assert main(['finetune', str(tmp_path / 'none.pt'), str(scene.root), '--out', 'x.pt']) == 1
    assert 'no such model file' in capsys.readouterr().err
