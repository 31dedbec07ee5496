# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Landmarks learned from the images of a room, alone and through the trainer."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from box_room import IMAGE_SIZE, K_33, BoxRoom, camera_pose, sweep, write_box_room

from implicit_relocalizer.data.images import PosedImages
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.evaluation.accuracy import measure_accuracy
from implicit_relocalizer.network.encoders import build_encoder
from implicit_relocalizer.network.keypoints import at_keypoints
from implicit_relocalizer.network.landmarks import LandmarkHead
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.model_file import load_model
from implicit_relocalizer.training.configuration import ConfigurationError, LandmarkConfig
from implicit_relocalizer.training.configuration_file import load_configuration
from implicit_relocalizer.training.landmarks.build import build_landmark_head
from implicit_relocalizer.training.phases import Phases
from implicit_relocalizer.training.restoring import restore_model
from implicit_relocalizer.training.trainer import train_scene


def posed_images(poses: list[np.ndarray], scale: float = 1.0) -> PosedImages:
    """Images of the box room; with a scale all lengths are told to be so many times longer."""
    room = BoxRoom()
    T = torch.from_numpy(np.stack(poses))
    t = T[:, :3, 3] * scale
    origin = t.mean(dim=0)
    return PosedImages(
        torch.stack([torch.from_numpy(room.render(pose)[0]) for pose in poses]),
        torch.from_numpy(K_33).float().expand(len(poses), 3, 3), T[:, :3, :3].float(),
        (t - origin).float(), origin)


def learn(images: PosedImages, seed: int = 0) -> Localizer:
    encoder = at_keypoints(build_encoder('gradient_descriptor'))
    head = build_landmark_head(images, encoder, IMAGE_SIZE, K_33[0, 0], 2.5,
                               LandmarkConfig(most=4000, partner_views=6), torch.device('cpu'),
                               seed, Phases())
    return Localizer(encoder, head, IMAGE_SIZE, K_33[0, 0], images.origin_world_3).eval()


@pytest.fixture(scope='module')
def room_images() -> PosedImages:
    return posed_images(sweep(16))


@pytest.fixture(scope='module')
def learned(room_images) -> Localizer:
    return learn(room_images)


@pytest.mark.parametrize('scale', [1.0, 20.0])
def test_new_views_of_a_room_are_found_to_centimetres_at_any_scale(room_images, learned, scale):
    """The first guess of the depth is 2.5 m; in the large world things are 50 m away."""
    t = room_images.t_local_camera_b3 * scale
    localizer = learned if scale == 1.0 else learn(replace(room_images, t_local_camera_b3=t))
    assert localizer.head.nominal_depth_m == pytest.approx(2.6 * scale, rel=0.2)
    room, errors_m, errors_deg = BoxRoom(), [], []
    for pose in sweep(97)[10:90:11]:
        with torch.no_grad():
            found = localizer(torch.from_numpy(room.render(pose)[0]), torch.from_numpy(K_33))
        expected = (torch.from_numpy(pose[:3, 3]) - room_images.origin_world_3) * scale
        position = found['t_world_camera'] - room_images.origin_world_3
        errors_m.append(float((position - expected).norm()) / scale)
        cosine = (torch.trace(found['R_world_camera'].T @ torch.from_numpy(pose[:3, :3])) - 1) / 2
        errors_deg.append(math.degrees(math.acos(min(1.0, float(cosine)))))
    assert np.median(errors_m) < 0.03 and max(errors_m) < 0.10
    assert np.median(errors_deg) < 0.6


def test_expected_errors_order_the_real_ones(learned):
    """On a view away from the training views, with its true pose."""
    pose = camera_pose((1.9, 1.2, 1.5), 20.0)
    with torch.no_grad():
        found = learned(torch.from_numpy(BoxRoom().render(pose)[0]), torch.from_numpy(K_33))
    camera = (found['points_world'] - torch.from_numpy(pose[:3, 3])) \
        @ torch.from_numpy(pose[:3, :3])
    projected = camera @ torch.from_numpy(K_33).T
    error_px = (projected[:, :2] / projected[:, 2:] - found['pixels']).norm(dim=1)
    order = found['weights'].argsort(descending=True)
    trusted, doubted = error_px[order[:75]], error_px[order[-75:]]
    assert trusted.median() < 1.5 and (trusted > 5.0).float().mean() < 0.05
    assert (doubted > 5.0).float().mean() > 0.2


@pytest.mark.parametrize('count', [1, 2])
def test_two_images_are_too_few(count):
    with pytest.raises(ConfigurationError, match=f'{count} training images.*3 or more'):
        learn(posed_images(sweep(16)[:count]))


def test_three_images_will_do():
    head = learn(posed_images(sweep(16)[4:7])).head
    assert isinstance(head, LandmarkHead)
    assert all(buffer.isfinite().all() for buffer in head.buffers())


@pytest.mark.parametrize('what', ['shuffled', 'inverted', 'only turning', 'black images'])
def test_poses_that_have_nothing_to_do_with_the_images_are_an_error(room_images, what):
    R, t = room_images.R_world_camera_b33, room_images.t_local_camera_b3
    shuffled = torch.randperm(len(R), generator=torch.Generator().manual_seed(0))
    wrong = {
        'shuffled': {'R_world_camera_b33': R[shuffled], 't_local_camera_b3': t[shuffled]},
        'inverted': {'R_world_camera_b33': R.transpose(1, 2),
                     't_local_camera_b3': -(t.unsqueeze(1) @ R)[:, 0]},
        'only turning': {'t_local_camera_b3': torch.zeros_like(t)},
        'black images': {'images_bhw3': torch.zeros_like(room_images.images_bhw3)}}
    with pytest.raises(ConfigurationError, match='implicit-relocalizer inspect'):
        learn(replace(room_images, **wrong[what]))


def test_a_few_black_images_do_no_harm(room_images):
    images = room_images.images_bhw3.clone()
    images[3:6] = 0
    localizer = learn(replace(room_images, images_bhw3=images))
    pose = camera_pose((1.3, 1.7, 1.2), 0.0)
    with torch.no_grad():
        found = localizer(torch.from_numpy(BoxRoom().render(pose)[0]), torch.from_numpy(K_33))
    assert (found['t_world_camera'] - torch.from_numpy(pose[:3, 3])).norm() < 0.1


@pytest.fixture(scope='module')
def scene_dir(tmp_path_factory) -> Path:
    return write_box_room(tmp_path_factory.mktemp('scene') / 'room', 18)


def test_the_default_configuration_trains_a_model_that_runs_and_repeats(
        scene_dir, repository, tmp_path):
    scene = read_folder_scene(scene_dir)
    config = load_configuration(repository / 'config' / 'train' / 'landmarks.yaml',
                                ['input_width=160', 'device=cpu', 'landmarks.most=3000',
                                 'landmarks.points_asked=150'])
    results = [train_scene(scene, config, tmp_path / name, measure_accuracy, show_progress=False)
               for name in ('first', 'second')]
    assert results[0]['test']['median_translation_m'] < 0.05
    assert results[0]['test']['median_rotation_deg'] < 1.0
    assert results[0]['test']['frames_answered'] == 3
    modules = [load_model(tmp_path / name / 'model.pt')[0] for name in ('first', 'second')]
    first, second = (dict(module.named_buffers()) for module in modules)
    assert first.keys() == second.keys()
    assert any('keys_md' in name for name in first)
    for name, buffer in first.items():
        assert torch.equal(buffer, second[name]), name
    image = torch.from_numpy(BoxRoom().render(camera_pose((1.9, 1.2, 1.5), 20.0))[0])
    answer = modules[0](image, torch.from_numpy(K_33))
    assert len(answer['points_world']) == 150
    restored = restore_model(tmp_path / 'first' / 'model.pt').localizer.eval()
    for name, value in restored(image, torch.from_numpy(K_33)).items():
        torch.testing.assert_close(value, answer[name], rtol=1e-3, atol=1e-4)
    summary = measure_accuracy(modules[0], scene.split('test'))
    for key in ('median_translation_m', 'median_rotation_deg'):
        assert summary[key] == pytest.approx(results[0]['test'][key], rel=0.05, abs=1e-3)
