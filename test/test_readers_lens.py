# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Distorted and differing cameras become one pinhole camera that sees the same room."""

import argparse

import cv2
import numpy as np
import pytest
import scene_writers
from box_room import IMAGE_SIZE, K_33, BoxRoom, sweep
from scene_writers import Shots, text

from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.data.common_camera import common_pinhole
from implicit_relocalizer.data.frames import Frame, Lens, SceneError
from implicit_relocalizer.data.images import load_posed_images, read_frame_image
from implicit_relocalizer.data.lens import (
    MAX_CORNER_ANGLE_DEG,
    checked_lens,
    distort,
    pinhole_intrinsics,
)
from implicit_relocalizer.data.readers.cambridge import radial_coefficients
from implicit_relocalizer.data.readers.colmap import lens_of
from implicit_relocalizer.data.readers.colmap_model import CAMERA_MODELS, ColmapCamera
from implicit_relocalizer.data.scenes import read_scene

WIDTH, HEIGHT = IMAGE_SIZE
# COLMAP's parameters of each model for K_33; pixel centres at 0.5.
F, CX, CY = 125.0, 80.0, 60.0
COLMAP_CAMERAS = {
    'SIMPLE_RADIAL': (F, CX, CY, -0.15), 'RADIAL': (F, CX, CY, -0.2, 0.05),
    'OPENCV': (F, F + 2, CX, CY, 0.2, -0.1, 0.004, -0.003),
    'FULL_OPENCV': (F, F, CX, CY, 0.3, 0.02, 0.001, 0.002, 0.01, 0.4, 0.05, 0.002),
    'OPENCV_FISHEYE': (F, F, CX, CY, 0.05, -0.02, 0.01, -0.001),
    'SIMPLE_RADIAL_FISHEYE': (F, CX, CY, -0.04), 'RADIAL_FISHEYE': (F, CX, CY, 0.03, -0.02)}


@pytest.fixture(scope='module')
def room():
    return BoxRoom()


def rays_of(lens: Lens) -> np.ndarray:
    """Rays of all pixels by OpenCV's iterative inverse, which the package does not use."""
    width, height = lens.image_size
    x, y = np.meshgrid(np.arange(width, dtype=float), np.arange(height))
    pixels = np.stack([x, y], -1).reshape(-1, 1, 2)
    if lens.model == 'fisheye':
        rays = cv2.fisheye.undistortPoints(pixels, lens.K_33, np.array(lens.coefficients))
    else:
        rays = cv2.undistortPoints(
            pixels, lens.K_33, np.array(lens.coefficients),
            criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12))
    return np.column_stack([rays.reshape(-1, 2), np.ones(width * height)])


def photograph(room: BoxRoom, T_world_camera: np.ndarray, lens: Lens) -> np.ndarray:
    width, height = lens.image_size
    return room.look(T_world_camera, rays_of(lens))[0].reshape(height, width, 3)


def check_shows_room(room: BoxRoom, frame: Frame, size=IMAGE_SIZE, factor: float = 0.6) -> None:
    """The frame's image is what its pinhole camera sees; half a pixel off is worse."""
    image = read_frame_image(frame).numpy().astype(float)
    errors = []
    for shift in (0.0, 0.5, -0.5):
        K_shifted = frame.K_33 + np.array([[0, 0, shift], [0, 0, shift], [0, 0, 0]])
        seen = room.render(frame.T_world_camera, K_shifted, size)[0]
        errors.append(np.abs(image - seen)[2:-2, 2:-2].mean())
    assert errors[0] < factor * min(errors[1:]), errors


@pytest.mark.parametrize('model', COLMAP_CAMERAS)
def test_each_lens_model_is_undistorted_to_what_a_pinhole_sees(model, room, tmp_path):
    parameters = COLMAP_CAMERAS[model]
    lens = lens_of(ColmapCamera(model, IMAGE_SIZE, parameters), 'test')
    poses = sweep(4)[:3]
    shots = Shots(poses, [photograph(room, T, lens) for T in poses])
    scene_writers.write_colmap_text(tmp_path / 'text', shots,
                                    f'{model} {text(IMAGE_SIZE)} {text(parameters)}')
    scene = read_scene(tmp_path / 'text')
    assert scene.image_size == IMAGE_SIZE and not scene.skipped
    for frame in scene.frames:
        check_shows_room(room, frame)
        np.testing.assert_allclose(frame.K_33, pinhole_intrinsics(lens))
    model_id = [name for name, _ in CAMERA_MODELS].index(model)
    scene_writers.write_colmap_binary(tmp_path / 'binary', shots, model_id, parameters)
    other = read_scene(tmp_path / 'binary')
    np.testing.assert_array_equal(other.frames[0].K_33, scene.frames[0].K_33)
    images = load_posed_images(other.frames).images_bhw3
    np.testing.assert_array_equal(images[1], read_frame_image(scene.frames[1]))


@pytest.mark.parametrize('model', COLMAP_CAMERAS)
def test_no_pixel_of_the_pinhole_is_empty_and_a_wider_one_would_have_some(model):
    lens = lens_of(ColmapCamera(model, IMAGE_SIZE, COLMAP_CAMERAS[model]), 'test')
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    border = (x == 0) | (y == 0) | (x == WIDTH - 1) | (y == HEIGHT - 1)
    pixels = np.stack([x[border], y[border]], -1)

    def overhang(zoom: float) -> float:
        K_wide = np.diag([zoom, zoom, 1.0]) @ pinhole_intrinsics(lens)
        rays = (pixels - lens.K_33[:2, 2]) / [K_wide[0, 0], K_wide[1, 1]]
        seen = distort(rays, lens)
        return max(-0.5 - seen.min(), (seen - [WIDTH - 0.5, HEIGHT - 0.5]).max())

    assert overhang(1.0) < 0.05
    assert overhang(0.98) > 0.05


def test_a_fisheye_ends_where_a_pinhole_still_makes_sense():
    K_wide = np.array([[285.0, 0.0, 424.0], [0.0, 285.0, 394.0], [0.0, 0.0, 1.0]])
    lens = Lens('fisheye', K_wide, (0.0, 0.0, 0.0, 0.0), (848, 800))
    K_pinhole = pinhole_intrinsics(lens)
    corner = np.hypot(424.0, 405.0) / K_pinhole[0, 0]
    assert np.degrees(np.arctan(corner)) == pytest.approx(MAX_CORNER_ANGLE_DEG, abs=0.1)


def test_a_lens_without_distortion_keeps_its_camera_and_its_images():
    lens = Lens('opencv', K_33, (0.0,) * 5, IMAGE_SIZE)
    np.testing.assert_array_equal(pinhole_intrinsics(lens), K_33)
    size, (pinhole,) = common_pinhole([lens])
    assert size == IMAGE_SIZE and pinhole.lens is None


def test_radial_distortion_of_visualsfm_is_inverted():
    r = -0.08
    measured = np.linspace(0.0, 0.6, 20)
    undistorted = measured * (1.0 + r * measured ** 2)
    k1, k2, _, _, k3 = radial_coefficients(r)
    u2 = undistorted ** 2
    again = undistorted * (1.0 + k1 * u2 + k2 * u2 ** 2 + k3 * u2 ** 3)
    np.testing.assert_allclose(again, measured, atol=5e-5)
    assert radial_coefficients(0.0) == ()


def test_cambridge_images_are_undistorted(room, tmp_path):
    lens = Lens('opencv', K_33, radial_coefficients(0.12), IMAGE_SIZE)
    poses = sweep(6)
    shots = Shots(poses, [photograph(room, T, lens) for T in poses])
    scene_writers.write_cambridge(tmp_path / 'room', shots, distortion=0.12)
    frames = read_scene(tmp_path / 'room').frames
    assert len(frames) == 6 and frames[0].lens is not None
    for frame in frames[:2]:
        check_shows_room(room, frame)


def camera(focal_length: float, size: tuple[int, int], coefficients=()) -> Lens:
    K = np.array([[focal_length, 0.0, (size[0] - 1) / 2.0], [0.0, focal_length, (size[1] - 1) / 2],
                  [0.0, 0.0, 1.0]])
    return Lens('opencv', K, coefficients, size)


def test_cameras_that_differ_are_brought_to_one_and_show_the_room(room, tmp_path):
    usual, finer = camera(125.0, IMAGE_SIZE), camera(260.0, (320, 240))
    half, upright = camera(62.5, (80, 60)), camera(125.0, (120, 160))
    cameras = [usual] * 3 + [finer, camera(400.0, (480, 360)), half, upright]
    size, pinholes = common_pinhole(cameras)
    assert size == IMAGE_SIZE
    assert isinstance(pinholes[6], SceneError) and '120x160 while most' in str(pinholes[6])
    K_common = pinholes[0].K_33
    # The narrower ones, 130 and 133 at this size, decide; within a hundredth of the width.
    assert 128.0 < K_common[0, 0] <= 134.0
    for index, lens in enumerate(cameras[:6]):
        np.testing.assert_array_equal(pinholes[index].K_33, K_common)
        path = tmp_path / f'{index}.png'
        scene_writers.save(photograph(room, sweep(2)[0], lens), path)
        frame = Frame(str(index), path, K_common, sweep(2)[0], 'train', lens=pinholes[index].lens)
        image = read_frame_image(frame).numpy()
        assert image.shape == (120, 160, 3)
        check_shows_room(room, frame, factor=0.85)


def test_one_camera_of_a_narrow_view_does_not_narrow_all_others():
    cameras = [camera(125.0, IMAGE_SIZE)] * 3 + [camera(400.0, IMAGE_SIZE)]
    _, pinholes = common_pinhole(cameras)
    assert pinholes[0].lens is None and pinholes[0].K_33[0, 0] == 125.0
    assert pinholes[3].lens is None and pinholes[3].K_33[0, 0] == 400.0


def test_an_image_of_another_size_than_its_lens_is_named(tmp_path):
    scene_writers.save(np.zeros((60, 80, 3), np.uint8), tmp_path / 'small.png')
    lens = camera(125.0, IMAGE_SIZE, (0.1, 0.0, 0.0, 0.0))
    frame = Frame('small', tmp_path / 'small.png', K_33, np.eye(4), 'train', lens=lens)
    with pytest.raises(SceneError, match=r'small\.png: 80x60 while its camera is .* 160x120'):
        read_frame_image(frame)


@pytest.mark.parametrize(('lens', 'message'), [
    (camera(float('nan'), IMAGE_SIZE), 'NaN or infinity'),
    (camera(-125.0, IMAGE_SIZE), 'no camera matrix'),
    (camera(125.0, IMAGE_SIZE, (0.1, 0.2, 0.3)), '3 distortion coefficients'),
    (Lens('opencv', 2.5 * K_33 + np.diag([0, 0, -1.5]), (), IMAGE_SIZE),
     r'principal point \(198\.75, 148\.75\) lies outside the 160x120 image'),
])
def test_wrong_calibrations_are_named(lens, message):
    with pytest.raises(SceneError, match='calibration.txt: .*' + message):
        checked_lens(lens, 'calibration.txt')


def test_a_lens_that_folds_back_everywhere_is_named():
    with pytest.raises(SceneError, match='shows no pinhole image; check the calibration'):
        pinhole_intrinsics(camera(125.0, IMAGE_SIZE, (-1e6, 0.0, 0.0, 0.0)))


@pytest.mark.parametrize('coefficients', [(), (-0.15, 0.0, 0.0, 0.0)])
def test_a_limit_of_the_width_resamples_once_and_keeps_the_view(coefficients, room, tmp_path):
    lens = camera(500.0, (640, 480), coefficients)
    poses = sweep(3)
    shots = Shots(poses, [photograph(room, T, lens) for T in poses])
    fx, cx, cy = lens.K_33[0, 0], lens.K_33[0, 2] + 0.5, lens.K_33[1, 2] + 0.5
    scene_writers.write_colmap_text(
        tmp_path / 'room', shots, f'OPENCV 640 480 {text([fx, fx, cx, cy])} '
        f'{text([*coefficients, 0, 0, 0, 0][:4])}')
    full, scene = read_scene(tmp_path / 'room'), read_scene(tmp_path / 'room', max_width=160)
    assert full.image_size == (640, 480) and scene.image_size == IMAGE_SIZE
    for frame, original in zip(scene.frames, full.frames, strict=True):
        K_expected = original.K_33 / 4.0
        K_expected[:, 2] += [-0.375, -0.375, 0.75]  # (c + 0.5) / 4 - 0.5
        np.testing.assert_allclose(frame.K_33, K_expected)
        check_shows_room(room, frame, factor=0.8)
    assert read_scene(tmp_path / 'room', max_width=640).frames[0].K_33[0, 0] == pytest.approx(
        full.frames[0].K_33[0, 0])
    with pytest.raises(SceneError, match='max_width = 3 pixels'):
        read_scene(tmp_path / 'room', max_width=3)


def test_the_command_line_says_how_to_read_a_scene(room, tmp_path):
    poses = sweep(9)
    shots = Shots(poses, [room.render(T)[0] for T in poses])
    scene_writers.write_seven_scenes(tmp_path / 'room', shots)
    (tmp_path / 'room' / 'K.txt').unlink()
    np.savetxt(tmp_path / 'other.txt', K_33)
    (tmp_path / 'room' / 'splits').mkdir()
    (tmp_path / 'room' / 'splits' / 'few.txt').write_text('seq-02/frame-000003\n')
    parser = argparse.ArgumentParser()
    add_scene_arguments(parser)
    scene = read_scene_argument(parser.parse_args([
        str(tmp_path / 'room'), '--format', '7scenes', '--split', 'few', '--max-width', '80',
        '--intrinsics', str(tmp_path / 'other.txt')]))
    assert [frame.name for frame in scene.split('test')] == ['seq-02/frame-000003']
    assert scene.image_size == (80, 60) and scene.frames[0].K_33[0, 0] == 62.5
    with pytest.raises(SceneError, match=r'images = x does not go with the format 7scenes'):
        read_scene_argument(parser.parse_args([str(tmp_path / 'room'), '--images', 'x']))
