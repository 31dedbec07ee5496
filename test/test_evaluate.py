# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate`: what it measures on an exact room, what it writes, and what it warns of."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from box_room import IMAGE_SIZE, K_33, BoxRoom, sweep, write_box_room
from PIL import Image

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.evaluation.depth import DepthImage, back_project, read_depth
from implicit_relocalizer.evaluation.geometry_errors import GeometryErrors, weighted_median
from implicit_relocalizer.evaluation.locating import locate_frames, summarize_located
from implicit_relocalizer.evaluation.model_evaluation import (
    EvaluationOptions,
    evaluate_module,
)
from implicit_relocalizer.evaluation.pose_variants import VARIANT_LABELS, PoseVariants
from implicit_relocalizer.evaluation.provenance import digest_names, find_doubts
from implicit_relocalizer.evaluation.records import read_record
from implicit_relocalizer.network.model_file import load_model, read_metadata

SMALL = ['--set', 'input_width=80', '--set', 'mapping.iterations=150', '--set', 'head.width=32',
         '--set', 'mapping.views_per_image=1', '--set', 'mapping.points_per_view=100']
DEPTH_STEP = 2


@pytest.fixture(scope='module')
def room(tmp_path_factory) -> Path:
    """A box room with exact depth at half resolution."""
    root = write_box_room(tmp_path_factory.mktemp('rooms') / 'room', 12, held_out_every=4)
    box = BoxRoom()
    (root / 'depth').mkdir()
    for index, T_world_camera in enumerate(sweep(12)):
        depth_m = box.render(T_world_camera)[1][::DEPTH_STEP, ::DEPTH_STEP]
        Image.fromarray(np.round(1000 * depth_m).astype(np.uint16)).save(
            root / 'depth' / f'{index:04d}.png')
    names = sorted(path.stem for path in (root / 'rgb').iterdir())
    (root / 'splits' / 'other.txt').write_text('\n'.join(names[::5]) + '\n')
    return root


@pytest.fixture(scope='module')
def model(room, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp('run')
    assert main(['train', str(room), '--output', str(run_dir), *SMALL]) == 0
    return run_dir / 'model.pt'


class Oracle:
    """Answers with the true pose and the true points, or with what a change makes of them."""

    def __init__(self, scene, noise_m=0.0, depth_factor=1.0):
        box = BoxRoom()
        self._frames = {frame.image_path.read_bytes(): frame for frame in scene.frames}
        self._by_image = {
            np.array(Image.open(frame.image_path)).tobytes(): frame for frame in scene.frames}
        self._depth = {frame.name: box.render(frame.T_world_camera)[1] for frame in scene.frames}
        self._noise_m, self._depth_factor = noise_m, depth_factor

    def __call__(self, image_hw3, K):
        frame = self._by_image[image_hw3.numpy().tobytes()]
        x, y = np.meshgrid(np.arange(3, IMAGE_SIZE[0], 8), np.arange(3, IMAGE_SIZE[1], 8))
        pixels = np.stack([x.ravel(), y.ravel()], 1).astype(float)
        depth = self._depth[frame.name][y.ravel(), x.ravel()]
        camera, world = back_project(frame, pixels, depth)
        # the odd points are off, and known to be
        weights = np.where(np.arange(len(depth)) % 2, 0.1, 1.0)
        world = world + self._noise_m * (weights < 1.0)[:, None] * np.array([1.0, 0.0, 0.0])
        return {'R_world_camera': torch.from_numpy(frame.T_world_camera[:3, :3]),
                't_world_camera': torch.from_numpy(frame.T_world_camera[:3, 3]),
                'confidence': torch.tensor(0.5), 'weights': torch.from_numpy(weights),
                'points_world': torch.from_numpy(world), 'pixels': torch.from_numpy(pixels),
                'points_camera': torch.from_numpy(camera * self._depth_factor)}


def test_depth_between_pixels_is_exact_on_a_plane_and_unknown_at_edges():
    rows, columns = np.mgrid[0:6, 0:8].astype(float)
    inverse = 0.4 + 0.01 * columns - 0.005 * rows  # a plane: linear in the pixel
    depth = DepthImage(1.0 / inverse, step=4)
    pixels = np.array([[5.0, 6.0], [27.9, 0.0], [13.3, 19.9]])
    expected = 1.0 / (0.4 + 0.01 * pixels[:, 0] / 4 - 0.005 * pixels[:, 1] / 4)
    np.testing.assert_allclose(depth.at(pixels), expected, rtol=1e-12)
    holes = DepthImage(np.where(columns < 4, 1.0, 3.0) * (rows != 2), step=4)
    answers = holes.at(np.array([[14.0, 1.0], [2.0, 2.0], [2.0, 7.0], [-1.0, 0.0], [29.0, 0.0]]))
    assert np.isnan(answers[[0, 2, 3, 4]]).all(), 'edge, hole, left and right of the image'
    assert answers[1] == pytest.approx(1.0)


def test_depth_of_another_size_is_an_error(room, tmp_path):
    scene = read_folder_scene(room)
    path = tmp_path / 'small.png'
    Image.fromarray(np.ones((50, 70), np.uint16)).save(path)
    frame = replace(scene.frames[0], depth_path=path)
    with pytest.raises(ValueError, match=r'small.png: 70x50 is no whole fraction of the 160x120'):
        read_depth(frame, scene.image_size)
    with pytest.raises(ValueError, match=r'absent.png: no such depth image'):
        read_depth(replace(frame, depth_path=tmp_path / 'absent.png'), scene.image_size)


def test_true_points_have_no_error_and_wrong_ones_their_own(room):
    scene = read_folder_scene(room)
    exact, off = GeometryErrors(), GeometryErrors()
    frames = scene.split('test')
    located = locate_frames(Oracle(scene), frames, observers=[exact.observe])
    locate_frames(Oracle(scene, 0.3, 1.1), frames, observers=[off.observe])
    assert summarize_located(located)['median_translation_m'] < 1e-9
    truth = exact.summarize()
    assert truth['frames'] == len(frames) and truth['share_with_depth'] > 0.7
    assert truth['world_m']['median'] < 0.002 and truth['depth_relative']['mean'] < 0.002
    wrong = off.summarize()
    assert wrong['world_m']['mean'] == pytest.approx(0.15, abs=0.02), 'half the points'
    assert wrong['world_m']['mean_weighted'] == pytest.approx(0.3 / 11, abs=0.006)
    assert wrong['world_m']['median_trusted_half'] < 0.002
    assert wrong['depth_relative']['median'] == pytest.approx(0.1, abs=0.002)


def test_weighted_median():
    values, weights = np.array([5.0, 1.0, 2.0]), np.array([1.0, 3.0, 1.0])
    assert weighted_median(values, weights) == 1.0
    assert weighted_median(values, np.ones(3)) == 2.0


def test_every_variant_finds_the_pose_in_true_points_and_robust_ones_in_bad_points(room):
    scene = read_folder_scene(room)
    exact, off = PoseVariants(), PoseVariants()
    frames = scene.split('test')[:2]
    locate_frames(Oracle(scene), frames, observers=[exact.observe])
    locate_frames(Oracle(scene, 1.0), frames, observers=[off.observe])
    for name, summary in exact.summarize().items():
        assert summary['median_translation_m'] < 1e-3, name
    assert set(exact.summarize()) == set(VARIANT_LABELS)
    error = {name: s['median_translation_m'] for name, s in off.summarize().items()}
    assert error['kabsch'] < error['kabsch_unweighted'] and error['kabsch'] > 0.05
    for name in ('hypotheses_refined', 'kabsch_refined', 'pnp_ransac'):
        assert error[name] < 0.01, name


def test_the_kabsch_variant_is_the_kabsch_of_the_model(room, model):
    scene = read_folder_scene(room)
    module, _ = load_model(model)
    module.alignment = 'kabsch'
    frame = scene.frames[0]
    image = torch.from_numpy(np.array(Image.open(frame.image_path)))
    with torch.inference_mode():
        outputs = module(image, torch.from_numpy(K_33).float())
    T_world_camera = PoseVariants().poses(outputs, torch.from_numpy(K_33), IMAGE_SIZE[0])['kabsch']
    np.testing.assert_allclose(T_world_camera[:3, 3], outputs['t_world_camera'], atol=1e-3)


def test_a_pose_that_is_no_number_is_no_answer(room):
    scene = read_folder_scene(room)

    def broken(image_hw3, K):
        return {'R_world_camera': torch.eye(3), 't_world_camera': torch.full((3,), torch.nan)}

    summary = summarize_located(locate_frames(broken, scene.split('test')))
    assert summary['frames'] == 3 and summary['frames_answered'] == 0
    assert summary['median_translation_m'] is None and summary['recall']['50cm_5deg'] == 0.0


def test_a_pose_regression_has_no_points_and_gets_only_its_poses_measured(room):
    scene = read_folder_scene(room)
    oracle = Oracle(scene)

    def regression(image_hw3, K):
        outputs = oracle(image_hw3, K)
        return {name: values[:0] if values.ndim and 'world_camera' not in name else values
                for name, values in outputs.items()}

    result = evaluate_module(regression, scene, options=EvaluationOptions(
        1, variants=True, show_progress=False))
    assert result['test']['median_translation_m'] < 1e-9
    assert 'geometry' not in result and 'variants' not in result


def test_the_result_file_holds_what_tables_need(room, model, tmp_path, capsys):
    file = tmp_path / 'results' / 'room.json'
    assert main(['evaluate', str(model), str(room), '--json', str(file), '--per-frame',
                 '--variants', '--max-train-frames', '4', '--device', 'cpu']) == 0
    printed = capsys.readouterr().out
    assert 'training' in printed and 'held-out' in printed and str(file) in printed
    result = read_record(file)
    assert (result['scene'], result['split']) == ('room', 'standard')
    assert result['train']['frames'] == 4 and result['test']['frames'] == 3
    assert set(result['geometry']) == set(result['variants']['kabsch']) == {'train', 'test'}
    assert result['model']['name'] == 'model.pt' and len(result['model']['metadata_sha256']) == 64
    assert result['milliseconds_per_image'] > 0 and result['hardware']['processor']
    assert result['skipped_frames'] == 0 and result['warnings'] == []
    details = result['frames_detail']
    assert [row['split'] for row in details] == 4 * ['train'] + 3 * ['test']
    errors = [row['translation_m'] for row in details if row['split'] == 'test']
    assert np.median(errors) == pytest.approx(result['test']['median_translation_m'])
    assert not list(file.parent.glob('*.partial'))


def test_geometry_can_be_left_out_and_cannot_be_had_without_depth(room, model, tmp_path, capsys):
    file = tmp_path / 'room.json'
    assert main(['evaluate', str(model), str(room), '--no-geometry', '--json', str(file)]) == 0
    assert 'geometry' not in json.loads(file.read_text())
    bare = write_box_room(tmp_path / 'bare', 6, held_out_every=3)
    assert main(['evaluate', str(model), str(bare), '--geometry']) == 1
    assert 'no frame has a depth image' in capsys.readouterr().err


def test_another_split_and_another_scene_are_warned_of(room, model, caplog, tmp_path):
    metadata = replace(read_metadata(model), training={})
    scene, other = read_folder_scene(room), read_folder_scene(room, 'other')
    assert find_doubts(metadata, scene, 'standard') == []
    assert 'outside this scene\'s training split' in find_doubts(metadata, other, 'other')[0]
    for training in ({'split': 'standard'},
                     {'train_frames': [frame.name for frame in scene.split('train')]},
                     {'train_frames_sha256': digest_names(scene.split('train'))}):
        known = replace(metadata, training=training)
        assert find_doubts(known, scene, 'standard') == []
        assert 'learned from' in find_doubts(known, other, 'other')[0]
    elsewhere = write_box_room(tmp_path / 'elsewhere', 6, held_out_every=3)
    with caplog.at_level(logging.WARNING):
        assert main(['evaluate', str(model), str(elsewhere)]) == 0
    assert "trained on scene 'room', this is 'elsewhere'" in caplog.text


def test_another_camera_is_refused_or_warned_of(room, model, tmp_path, capsys):
    root = write_box_room(tmp_path / 'room', 6, held_out_every=3)
    K = K_33.copy()
    K[:2, :2] *= 1.5
    np.savetxt(root / 'K.txt', K)
    doubts = find_doubts(read_metadata(model), read_folder_scene(root), 'standard')
    assert any('188 px where the training camera would have 125 px' in doubt for doubt in doubts)
    for path in (root / 'rgb').iterdir():
        Image.open(path).resize((160, 160)).save(path)
    assert main(['evaluate', str(model), str(root)]) == 1
    error = capsys.readouterr().err
    assert '160x160' in error and 'another aspect ratio' in error and 'train on this one' in error
