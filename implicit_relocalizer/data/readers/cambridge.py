# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reader for Cambridge Landmarks (Kendall et al., ICCV 2015) in its own layout."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from implicit_relocalizer.data.frames import Float64Array, Lens, Scene, SceneError, Split
from implicit_relocalizer.data.image_files import find_image, image_size, without_image_suffix
from implicit_relocalizer.data.poses import pose_from_quaternion
from implicit_relocalizer.data.readers.scene_format import SceneFormat
from implicit_relocalizer.data.scene_builder import RawFrame, SceneBuilder
from implicit_relocalizer.data.splits import STANDARD
from implicit_relocalizer.data.text_files import (
    camera_matrix,
    data_lines,
    numbers,
    read_intrinsics,
)

_LISTS: tuple[tuple[str, Split], ...] = (('dataset_train.txt', 'train'),
                                         ('dataset_test.txt', 'test'))
_HEADER_WORDS = ('Visual', 'ImageFile,')


class NvmCamera(NamedTuple):
    """Focal length in pixels and VisualSFM's radial distortion of an image."""

    focal_length: float
    distortion: float


def read_cambridge(root: Path, split: str = STANDARD, intrinsics: Path | None = None) -> Scene:
    """Read one scene: `dataset_train.txt`, `dataset_test.txt`, `reconstruction.nvm`, images.

    A line of the lists is `seq1/frame00001.png X Y Z W P Q R`: camera centre in the world, and
    the world-to-camera quaternion, scalar first. Focal length and radial distortion of each
    image are those of the reconstruction, the principal point is the image's centre. With
    `intrinsics`, a 3x3 matrix in a text file, the reconstruction is not needed.

    Raises:
        SceneError: a list or the reconstruction is missing or unreadable, or no frame is left.
    """
    root = Path(root)
    cameras = {} if intrinsics else read_nvm_cameras(root / 'reconstruction.nvm')
    K_33 = read_intrinsics(intrinsics) if intrinsics else None
    builder = SceneBuilder(root, split)
    for file_name, official in _LISTS:
        path = root / file_name
        for source, words in data_lines(path, 'image names and poses X Y Z W P Q R'):
            if words[0] in _HEADER_WORDS:
                continue
            name = without_image_suffix(words[0])
            with builder.frame(name):
                T_world_camera = _read_pose(words, source)
                image_path = find_image(root / words[0])
                builder.add(RawFrame(
                    name, image_path, _lens(name, image_path, cameras, K_33), T_world_camera,
                    source, split=official, sequence=name.rpartition('/')[0]))
    return builder.build()


def read_nvm_cameras(path: Path) -> dict[str, NvmCamera]:
    """Cameras of the first model of an NVM file (VisualSFM), by image name without suffix.

    Raises:
        SceneError: missing, another format, or cut off.
    """
    lines = _first_lines(path)
    if not lines or not lines[0].startswith('NVM_V3'):
        found = lines[0][:20].strip() if lines else ''
        raise SceneError(f'{path}: begins with {found!r}, expected NVM_V3')
    if len(lines) < 2 or not lines[1].strip().isdigit():
        raise SceneError(f'{path}: has no number of cameras in its second line')
    count = int(lines[1])
    if len(lines) - 2 < count:
        raise SceneError(f'{path}: cut off, {len(lines) - 2} of {count} cameras')
    cameras = {}
    for line in lines[2:2 + count]:
        words = line.split()
        if len(words) < 10:
            raise SceneError(f'{path}: a camera of {len(words)} columns, expected name, focal '
                             f'length, quaternion, centre, distortion, 0: {line[:60]!r}')
        values = numbers(words[1:10], path)
        cameras[without_image_suffix(words[0])] = NvmCamera(values[0], values[8])
    return cameras


def radial_coefficients(r: float) -> tuple[float, ...]:
    """VisualSFM's distortion as OpenCV's k1 k2 p1 p2 k3.

    VisualSFM undistorts: u = (1 + r |m|^2) m for the measured point m over the focal length.
    OpenCV distorts: m = (1 + k1 |u|^2 + k2 |u|^4 + k3 |u|^6) u. The series of the inverse is
    k1 = -r, k2 = 3 r^2, k3 = -12 r^3.
    """
    return (-r, 3.0 * r ** 2, 0.0, 0.0, -12.0 * r ** 3) if r else ()


def _read_pose(words: list[str], source: str) -> Float64Array:
    if len(words) != 8:
        raise SceneError(f'{source}: {len(words)} columns, expected name X Y Z W P Q R')
    x, y, z, w, p, q, r = numbers(words[1:], source)
    T_world_camera = pose_from_quaternion((p, q, r, w), (x, y, z), source)
    T_world_camera[:3, :3] = T_world_camera[:3, :3].T
    return T_world_camera


def _lens(name: str, image_path: Path, cameras: dict[str, NvmCamera],
          K_33: Float64Array | None) -> Lens:
    size = image_size(image_path)
    if K_33 is not None:
        return Lens('opencv', K_33, (), size)
    camera = cameras.get(name)
    if camera is None:
        raise SceneError(f'{image_path}: has no camera in reconstruction.nvm')
    centre = (size[0] - 1) / 2.0, (size[1] - 1) / 2.0
    return Lens('opencv', camera_matrix(camera.focal_length, camera.focal_length, *centre),
                radial_coefficients(camera.distortion), size)


def _first_lines(path: Path) -> list[str]:
    """The lines that are not empty up to the last camera; the points may be many gigabytes."""
    lines: list[str] = []
    try:
        with path.open(encoding='utf-8', errors='replace') as file:
            for line in file:
                if line.strip():
                    lines.append(line)
                if len(lines) == 2 and not line.strip().isdigit():
                    break
                if len(lines) > 2 and len(lines) - 2 >= int(lines[1]):
                    break
    except FileNotFoundError:
        raise SceneError(f'{path}: missing; it holds the focal lengths. Give a 3x3 matrix with '
                         f'--intrinsics where there is none') from None
    return lines


FORMAT = SceneFormat(
    'cambridge', 'dataset_train.txt, dataset_test.txt, reconstruction.nvm and the images',
    lambda root: (root / 'dataset_train.txt').is_file(), read_cambridge,
    frozenset({'intrinsics'}))
