# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The SIFT map: exact triangulation, a room found to millimetres, and what spoils it."""

from dataclasses import replace

import numpy as np
import pytest
from box_room import BoxRoom, camera_pose, write_box_room

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.evaluation.perspective import pose_from_points
from implicit_relocalizer.evaluation.records import read_record
from implicit_relocalizer.evaluation.sift_features import (
    FeatureDetector,
    Features,
    match_mutually,
    root_descriptors,
)
from implicit_relocalizer.evaluation.sift_map import SiftLocalizer, build_sift_map
from implicit_relocalizer.evaluation.sift_tracks import (
    choose_pairs,
    epipolar_errors,
    feature_offsets,
    triangulate,
)

ORIGIN_M = np.array([5e5, 4e6, 100.0])  # as in UTM coordinates


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
    return read_folder_scene(write_box_room(
        tmp_path_factory.mktemp('rooms') / 'room', 16, held_out_every=5))


@pytest.fixture
def synthetic(scene):
    """Frames far from the origin, points before them, their features and true matches."""
    rng = np.random.default_rng(0)
    frames = [replace(frame, T_world_camera=camera_pose(
        (1.0 + 0.1 * i, 1.0 + 0.2 * i, 1.2), 3.0 * i)) for i, frame in enumerate(scene.frames[:5])]
    points = rng.uniform((3.0, 1.0, 1.0), (4.0, 2.0, 1.5), (40, 3))
    features = []
    for frame in frames:
        camera = (points - frame.T_world_camera[:3, 3]) @ frame.T_world_camera[:3, :3]
        pixels = camera @ frame.K_33.T
        features.append(Features(pixels[:, :2] / pixels[:, 2:], np.zeros((40, 128), np.uint8)))
    shifted = []
    for frame in frames:
        T_world_camera = frame.T_world_camera.copy()
        T_world_camera[:3, 3] += ORIGIN_M
        shifted.append(replace(frame, T_world_camera=T_world_camera))
    offsets = feature_offsets(features)
    matches = np.concatenate([np.arange(40)[:, None] + [offsets[i], offsets[i + 1]]
                              for i in range(4)])
    return shifted, features, matches, points + ORIGIN_M


def test_triangulation_is_exact_and_survives_a_wrong_sighting(synthetic):
    frames, features, matches, points = synthetic
    seen = triangulate(frames, features, matches)
    assert len(seen.point_o) == 200
    np.testing.assert_allclose(seen.points_world_p3, points, atol=1e-5)
    features[2].pixels_n2[7] += 25.0
    seen = triangulate(frames, features, matches)
    assert len(seen.point_o) == 199, 'only the wrong sighting is dropped'
    np.testing.assert_allclose(seen.points_world_p3, points, atol=1e-3)


def test_points_seen_from_one_place_are_left_out(synthetic):
    frames, features, matches, _ = synthetic
    still = [frames[0], frames[0], *frames[2:]]
    pairs = np.concatenate([matches[:20], matches[100:110]])  # 0-1: one place; 2-3: two
    features[1].pixels_n2[:] = features[0].pixels_n2
    seen = triangulate(still, features, pairs)
    assert len(seen.points_world_p3) == 10


def test_epipolar_errors_are_distances_in_pixels(synthetic):
    frames, features, _, _ = synthetic
    first, second = features[0].pixels_n2, features[3].pixels_n2
    assert epipolar_errors(frames[0], frames[3], first, second).max() < 1e-6
    off = epipolar_errors(frames[0], frames[3], first, second + np.array([0.0, 3.0]))
    assert 1.0 < np.median(off) < 4.0


def test_pairs_see_the_same_from_different_places(scene):
    frames = [replace(scene.frames[0], T_world_camera=camera_pose(position, yaw)) for position, yaw
              in (((1, 1, 1), 0), ((1.005, 1, 1), 0), ((1.3, 1, 1), 10), ((1.3, 1, 1), 180))]
    assert choose_pairs(frames, 3) == [(0, 2), (1, 2)], 'no baseline: 0-1; turned away: 3'


def test_matches_are_mutual_and_unambiguous():
    rng = np.random.default_rng(0)
    first = root_descriptors(rng.integers(0, 200, (6, 128)).astype(np.uint8))
    second = first[[3, 1, 0, 4, 4]]
    matches = match_mutually(first, second, 0.8)
    assert sorted(map(tuple, matches)) == [(0, 2), (1, 1), (3, 0)], '4 has two equal partners'
    assert len(match_mutually(first, second[:1], 0.8)) == 0


def test_a_room_is_found_to_centimetres_and_another_not_at_all(scene):
    detector = FeatureDetector(400)
    sift_map = build_sift_map(scene.split('train'), detector, 6, show_progress=False)
    room = BoxRoom()
    assert len(sift_map.points_world_p3) > 100
    localizer = SiftLocalizer(sift_map, detector)
    T_world_camera = camera_pose((1.1, 1.5, 1.25), 8.0, -2.0)
    pose = localizer.locate(room.render(T_world_camera)[0], scene.frames[0].K_33)
    assert np.linalg.norm(pose.T_world_camera[:3, 3] - T_world_camera[:3, 3]) < 0.02
    np.testing.assert_allclose(pose.T_world_camera[:3, :3], T_world_camera[:3, :3], atol=0.01)
    elsewhere = BoxRoom(seed=9).render(T_world_camera)[0]
    assert localizer.locate(elsewhere, scene.frames[0].K_33) is None
    blank = np.full((120, 160, 3), 128, np.uint8)
    assert localizer.locate(blank, scene.frames[0].K_33) is None


def test_perspective_pose_needs_points():
    assert pose_from_points(np.zeros((3, 3)), np.zeros((3, 2)), np.eye(3), 5.0) is None
    same = np.zeros((20, 3))
    assert pose_from_points(same, np.ones((20, 2)), np.eye(3), 1e-3) is None


def test_the_command_writes_what_evaluate_writes(scene, tmp_path, capsys):
    file = tmp_path / 'sift.json'
    assert main(['sift-map', str(scene.root), '--features', '300', '--neighbours', '4',
                 '--json', str(file), '--max-train-frames', '3', '--per-frame']) == 0
    assert 'held-out' in capsys.readouterr().out
    result = read_record(file)
    assert result['kind'] == 'sift_map' and result['train']['frames'] == 3
    assert result['test']['median_translation_m'] < 0.03
    assert result['model']['bytes'] == 12 * result['points'] + 132 * result['descriptors']
    assert len(result['frames_detail']) == 3 + result['test']['frames']


def test_poses_that_fit_no_image_are_named(tmp_path, capsys):
    root = write_box_room(tmp_path / 'room', 8, held_out_every=4)
    for i, path in enumerate(sorted((root / 'poses').iterdir())):  # random places
        position = tuple(np.random.default_rng(i).uniform(0, 2, 3))
        np.savetxt(path, camera_pose(position, 20.0 * i))
    assert main(['sift-map', str(root), '--features', '20']) == 1
    error = capsys.readouterr().err
    assert 'inspect' in error or 'too close' in error
