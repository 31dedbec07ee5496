# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The synthetic place: exact cameras, honest depth, safe writing, drivable ways."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from implicit_relocalizer.data.frames import Frame, Scene, SceneError
from implicit_relocalizer.data.synthetic import synthesize
from implicit_relocalizer.data.synthetic.crossing import RATE_HZ, nearest_views, plan_crossing
from implicit_relocalizer.data.synthetic.drives import CLEARANCE_M, FreeSpace, plan_mapping
from implicit_relocalizer.data.synthetic.offscreen import find_window_class
from implicit_relocalizer.data.synthetic.place import Place, furnish
from implicit_relocalizer.data.synthetic.rendering import (
    SKY_RGB,
    Mesh,
    MeshRenderer,
    pinhole_intrinsics,
)
from implicit_relocalizer.data.synthetic.storage import bookshelf
from implicit_relocalizer.data.synthetic.textures import Kit

SMALL: dict[str, Any] = {'image_size': (120, 90), 'mapping_frames': 24, 'held_out_frames': 8,
                         'progress': False}


def _drawing_works() -> bool:
    try:
        find_window_class()
    except SceneError:
        return False
    return True


pytestmark = pytest.mark.skipif(not _drawing_works(),
                                reason='needs VTK and a library that draws (EGL or OSMesa)')


@pytest.fixture(scope='module')
def small_place(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A place made where an earlier run was interrupted."""
    output = tmp_path_factory.mktemp('synthetic') / 'place'
    interrupted = output.with_name('place.partial') / 'rgb' / 'drive9_0000.jpg'
    interrupted.parent.mkdir(parents=True)
    interrupted.write_bytes(b'half')
    return synthesize(output, seed=2, **SMALL)


@pytest.fixture(scope='module')
def furnished() -> Place:
    """The same room with coarse pictures."""
    return furnish(2, 20.0)


def _turned_pose() -> np.ndarray:
    """A pose that is tilted about all axes."""
    yaw, pitch, roll = 0.7, -0.2, 0.1
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    T = np.eye(4)
    T[:3, :3] = np.stack([np.cos(roll) * right + np.sin(roll) * down,
                          np.cos(roll) * down - np.sin(roll) * right, forward], axis=1)
    T[:3, 3] = [1.0, -2.0, 0.9]
    return T


def _square(T_world_camera: np.ndarray, center_camera: np.ndarray, half_m: float) -> Mesh:
    """A white square parallel to the image plane."""
    corners = center_camera + half_m * np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    return Mesh(corners @ T_world_camera[:3, :3].T + T_world_camera[:3, 3],
                np.array([[0, 1, 2], [0, 2, 3]]), np.full((4, 2), 0.5),
                np.full((8, 8, 3), 255, np.uint8))


@pytest.mark.parametrize('supersampling', [1, 3])
@pytest.mark.parametrize('principal_shift', [(0.0, 0.0), (11.3, -7.6)])
def test_marker_appears_where_intrinsics_and_pose_say(
        supersampling: int, principal_shift: tuple[float, float]) -> None:
    size = (160, 120)
    K = pinhole_intrinsics(size, 67.0)
    K[:2, 2] += principal_shift
    T = _turned_pose()
    for center in ([0.0, 0.0, 2.0], [0.613, -0.352, 1.7], [-0.921, 0.57, 2.4]):
        # About twelve pixels wide, so that the centroid averages the steps of its outline.
        marker = _square(T, np.array(center), 6.37 * center[2] / K[0, 0])
        renderer = MeshRenderer([marker], K, size, supersampling)
        weight = renderer.color(T)[..., 0] - 255.0 * SKY_RGB[0]
        renderer.close()
        weight[weight < 1] = 0
        y, x = np.mgrid[:size[1], :size[0]]
        found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        expected = K[:2] @ center / center[2]
        tolerance = 0.35 if supersampling == 1 else 0.12
        assert np.abs(found - expected).max() < tolerance, (center, found, expected)


def test_intrinsics_have_the_field_of_view_and_the_middle() -> None:
    K = pinhole_intrinsics((480, 360), 67.0)
    assert K[0, 2] == 239.5 and K[1, 2] == 179.5
    edges = (np.array([-0.5, 479.5]) - K[0, 2]) / K[0, 0]
    assert np.degrees(np.arctan(edges)) == pytest.approx([-33.5, 33.5])


def test_depth_is_distance_along_the_axis_to_a_slanted_plane() -> None:
    T = _turned_pose()
    normal, offset = np.array([0.3, -0.2, -1.0]), -2.5   # in camera axes: normal . X = offset
    u, v = np.meshgrid([-6.0, 6.0], [-6.0, 6.0])
    z = (offset - normal[0] * u - normal[1] * v) / normal[2]
    corners = np.stack([u, v, z], axis=2).reshape(-1, 3)
    mesh = Mesh(corners @ T[:3, :3].T + T[:3, 3], np.array([[0, 1, 3], [0, 3, 2]]))
    size = (64, 48)
    K = pinhole_intrinsics(size, 67.0)
    depth = MeshRenderer([mesh], K, size).depth(T)
    y, x = np.mgrid[:size[1], :size[0]]
    rays = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones(x.shape)], axis=2)
    assert np.abs(depth - offset / (rays @ normal)).max() < 1e-3


def test_place_is_a_complete_scene(small_place: Scene) -> None:
    assert small_place.image_size == (120, 90)
    assert len(small_place.split('train')) == 24
    held_out = small_place.split('test')
    assert [frame.name for frame in held_out] == [f'drive3_{i:04d}' for i in range(8)]
    assert {frame.sequence for frame in small_place.frames} == {'drive1', 'drive2', 'drive3'}
    stamps = np.array([frame.stamp_s for frame in held_out], dtype=float)
    assert np.diff(stamps) == pytest.approx(0.1)
    assert all(frame.depth_path is not None for frame in small_place.frames)
    heights = [frame.T_world_camera[2, 3] for frame in small_place.frames]
    assert min(heights) > 0.9 and max(heights) < 1.1
    assert not list(small_place.root.parent.glob('*.partial'))
    for frame in small_place.frames:
        image = np.asarray(Image.open(frame.image_path)).astype(float)
        assert 20 < image.mean() < 235 and image.std() > 15, frame.name


def _points_world(frame: Frame, stride: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Known points of a frame's depth picture and their image pixels."""
    assert frame.depth_path is not None
    depth = np.asarray(Image.open(frame.depth_path)).astype(float) / 1000
    y, x = np.nonzero(depth)
    pixels = stride * np.stack([x, y, np.full_like(x, 0)], axis=1).astype(float)
    pixels[:, 2] = 1
    points = (pixels @ np.linalg.inv(frame.K_33).T) * depth[y, x][:, None]
    return points @ frame.T_world_camera[:3, :3].T + frame.T_world_camera[:3, 3], pixels[:, :2]


def test_depth_meets_the_walls_and_the_floor(small_place: Scene, furnished: Place) -> None:
    width, depth, height = furnished.size_m
    points = np.concatenate([_points_world(frame)[0] for frame in small_place.frames])
    assert points[:, 2].min() > -5.0 and (np.abs(points[:, 2]) < 0.005).mean() > 0.1
    inside = ((points > -0.05) & (points < np.array([width, depth, height]) + 0.05)).all(axis=1)
    assert inside.mean() > 0.85   # the rest is seen through the windows
    planes = [points[:, 0], width - points[:, 0], points[:, 1], depth - points[:, 1]]
    on_a_wall = np.min(np.abs(planes), axis=0) < 0.005
    assert on_a_wall.mean() > 0.1


def test_images_agree_with_poses_and_depth(small_place: Scene) -> None:
    """What one image shows, its neighbour shows where the geometry says; not a shift beside."""
    frames = [frame for frame in small_place.frames if frame.sequence == 'drive3']
    errors: dict[int, list[np.ndarray]] = {0: [], 5: []}
    for frame, other in zip(frames[:-3], frames[3:], strict=True):
        points, pixels = _points_world(frame)
        here = np.asarray(Image.open(frame.image_path).convert('L')).astype(float)
        there = np.asarray(Image.open(other.image_path).convert('L')).astype(float)
        T_other_world = np.linalg.inv(other.T_world_camera)
        local = points @ T_other_world[:3, :3].T + T_other_world[:3, 3]
        seen = local @ other.K_33.T
        u, v = np.round(seen[:, :2] / seen[:, 2:]).astype(int).T
        ok = (local[:, 2] > 0.1) & (u >= 0) & (u < 115) & (v >= 0) & (v < 90)
        x, y = pixels[ok].astype(int).T
        for shift, found in errors.items():
            found.append(np.abs(here[y, x] - there[v[ok], u[ok] + shift]))
    aligned, shifted = (np.concatenate(found).mean() for found in errors.values())
    assert aligned < 0.6 * shifted, (aligned, shifted)


def test_same_arguments_reuse_and_others_are_refused(small_place: Scene) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_place.root.rglob('*')}
    again = synthesize(small_place.root, seed=2, **SMALL)
    assert [frame.name for frame in again.frames] == [frame.name for frame in small_place.frames]
    assert before == {path: path.stat().st_mtime_ns for path in small_place.root.rglob('*')}
    with pytest.raises(SceneError, match='other settings'):
        synthesize(small_place.root, seed=4, **SMALL)


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('years of work')
    with pytest.raises(SceneError, match='no synthetic place'):
        synthesize(tmp_path / 'mine', **SMALL)
    (tmp_path / 'place.partial').mkdir()
    (tmp_path / 'place.partial' / 'thesis.txt').write_text('more of it')
    with pytest.raises(SceneError, match=r'thesis\.txt'):
        synthesize(tmp_path / 'place', **SMALL)
    assert (tmp_path / 'mine' / 'thesis.txt').exists()
    assert (tmp_path / 'place.partial' / 'thesis.txt').exists()


@pytest.mark.parametrize(('arguments', 'complaint'), [
    ({'seed': -1}, 'seed -1'), ({'image_size': (8, 6)}, '8x6'), ({'mapping_frames': 1}, '1 map')])
def test_bad_arguments_are_named(tmp_path: Path, arguments: dict, complaint: str) -> None:
    with pytest.raises(SceneError, match=complaint):
        synthesize(tmp_path / 'place', **arguments)
    assert not list(tmp_path.iterdir())


def test_seed_alone_decides_the_place(furnished: Place) -> None:
    places = [furnished, furnish(2, 30.0), furnish(5, 20.0)]
    same, finer, other = ([patch.points for patch in place.patches] for place in places)
    assert len(same) == len(finer)
    assert all(np.array_equal(a, b) for a, b in zip(same, finer, strict=True))
    assert places[0].size_m != places[2].size_m and len(other) != len(same)


def test_pictures_repeat_with_the_seed() -> None:
    shelves = [bookshelf(Kit(np.random.default_rng(seed), 100.0)) for seed in (7, 7, 8)]
    same, again, other = (np.concatenate([patch.picture.ravel() for patch in shelf.patches])
                          for shelf in shelves)
    assert np.array_equal(same, again) and not np.array_equal(same, other)


def test_drives_keep_clear_and_turn_gently(furnished: Place) -> None:
    free = FreeSpace(furnished.size_m, furnished.obstacles)
    rng = np.random.default_rng([2, 1])
    mapping = plan_mapping(free, 320, rng)
    mapped = np.concatenate([drive.T_world_camera_n44 for drive in mapping])
    crossing = plan_crossing(free, 100, mapped, rng)
    for drive in (*mapping, crossing):
        positions = drive.T_world_camera_n44[:, :2, 3]
        assert free.clearance(positions).min() >= CLEARANCE_M - 0.01
        assert (np.diff(drive.stamp_s_n) > 0).all()
        speed = np.linalg.norm(np.diff(positions, axis=0), axis=1) / np.diff(drive.stamp_s_n)
        assert speed.min() > 0.2 and speed.max() < 0.55
    held_out = crossing.T_world_camera_n44
    cosines = np.einsum('ni,ni->n', held_out[1:, :3, 2], held_out[:-1, :3, 2])
    assert np.degrees(np.arccos(cosines)).max() * RATE_HZ < 45
    distance_m, angle_deg = nearest_views(held_out, mapped)
    assert 0.05 < np.median(distance_m) < 0.5
    assert np.percentile(distance_m, 95) < 1.2 and np.percentile(angle_deg, 95) < 30


def test_missing_graphics_libraries_are_named(tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty files stand before the real libraries, so that none can be loaded."""
    for name in ('libEGL.so', 'libEGL.so.1', 'libOSMesa.so', 'libOSMesa.so.6', 'libOSMesa.so.8'):
        (tmp_path / name).touch()
    monkeypatch.setenv('LD_LIBRARY_PATH',
                       f'{tmp_path}:{os.environ.get("LD_LIBRARY_PATH", "")}')
    monkeypatch.delenv('DISPLAY', raising=False)
    with pytest.raises(SceneError, match='libegl1 libgl1-mesa-dri'):
        find_window_class.__wrapped__()


def test_missing_vtk_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'vtkmodules', None)   # as if it were not installed
    with pytest.raises(SceneError, match=r"pip install 'implicit_relocalizer\[demo\]'"):
        find_window_class.__wrapped__()


def test_renders_quietly_without_a_display() -> None:
    script = ('import numpy as np\n'
              'from implicit_relocalizer.data.synthetic.rendering import *\n'
              'corners = np.array([[-1, -1, 3.0], [1, -1, 3], [0, 1, 3]])\n'
              'mesh = Mesh(corners, np.array([[0, 1, 2]]))\n'
              'K = pinhole_intrinsics((64, 48), 67.0)\n'
              'print(round(float(MeshRenderer([mesh], K, (64, 48)).depth(np.eye(4))[24, 32]), 3))')
    environment = {name: value for name, value in os.environ.items() if name != 'DISPLAY'}
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                            env=environment, timeout=120)
    assert result.stdout.strip() == '3.0' and result.stderr == ''
