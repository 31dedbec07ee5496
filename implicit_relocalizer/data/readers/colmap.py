# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reader for COLMAP models, text or binary."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np

from implicit_relocalizer.data.frames import Lens, Scene, SceneError
from implicit_relocalizer.data.image_files import find_image, without_image_suffix
from implicit_relocalizer.data.poses import pose_from_quaternion
from implicit_relocalizer.data.readers.colmap_model import (
    ColmapCamera,
    ColmapImage,
    read_cameras,
    read_images,
)
from implicit_relocalizer.data.readers.scene_format import SceneFormat
from implicit_relocalizer.data.scene_builder import RawFrame, SceneBuilder
from implicit_relocalizer.data.splits import STANDARD, read_split_lists
from implicit_relocalizer.data.text_files import camera_matrix

logger = logging.getLogger(__name__)

_MODEL_FOLDERS = ('.', 'sparse/0', 'sparse')
# Per model: which parameters are fx, fy, cx, cy and where the distortion begins.
_LAYOUTS: dict[str, tuple[Literal['opencv', 'fisheye'], tuple[int, int, int, int], int]] = {
    'SIMPLE_PINHOLE': ('opencv', (0, 0, 1, 2), 3),
    'PINHOLE': ('opencv', (0, 1, 2, 3), 4),
    'SIMPLE_RADIAL': ('opencv', (0, 0, 1, 2), 3),
    'RADIAL': ('opencv', (0, 0, 1, 2), 3),
    'OPENCV': ('opencv', (0, 1, 2, 3), 4),
    'FULL_OPENCV': ('opencv', (0, 1, 2, 3), 4),
    'OPENCV_FISHEYE': ('fisheye', (0, 1, 2, 3), 4),
    'SIMPLE_RADIAL_FISHEYE': ('fisheye', (0, 0, 1, 2), 3),
    'RADIAL_FISHEYE': ('fisheye', (0, 0, 1, 2), 3),
}


def read_colmap(root: Path, split: str = STANDARD, images: Path | None = None) -> Scene:
    """Read `cameras` and `images` (.bin or .txt) of the folder, its `sparse/0/` or `sparse/`.

    Poses are world-to-camera in COLMAP and inverted here; its pixel centres at 0.5 are moved to
    integers. Image files are looked for in `images`, by default `images/` beside the model or
    above it, or the folder itself. `train.txt` and `test.txt` beside them name the frames of
    both splits, otherwise every 8th is held out. COLMAP's scale is arbitrary unless the model
    was aligned (`colmap model_aligner`): positions here are in its units.

    Raises:
        SceneError: the model is missing, cut off or of another kind, or no frame is left.
    """
    root = Path(root)
    folder = model_folder(root)
    cameras, listed = read_cameras(folder), read_images(folder)
    image_folder = images or _image_folder(root, folder, listed)
    names = {without_image_suffix(image.name) for image in listed}
    official = read_split_lists(root, names)
    builder = SceneBuilder(root, split)
    for image in listed:
        name = without_image_suffix(image.name)
        with builder.frame(name):
            lens = _camera(image, cameras)
            w, x, y, z = image.quaternion_wxyz
            T_camera_world = pose_from_quaternion((x, y, z, w), image.translation, image.source)
            T_world_camera = np.asarray(np.linalg.inv(T_camera_world), np.float64)
            builder.add(RawFrame(
                name, find_image(image_folder / image.name), lens, T_world_camera,
                f'{image.source}, camera {image.camera_id}', split=official.get(name),
                sequence=name.rpartition('/')[0]))
    return builder.build()


def lens_of(camera: ColmapCamera, source: object) -> Lens:
    """A COLMAP camera in our conventions: pixel centres at integers, OpenCV's coefficients.

    Raises:
        SceneError: a camera model that OpenCV has no equal of.
    """
    if camera.model not in _LAYOUTS:
        raise SceneError(f'{source}: the camera model {camera.model} is not supported; undistort '
                         f'with `colmap image_undistorter`, or use one of {", ".join(_LAYOUTS)}')
    kind, places, start = _LAYOUTS[camera.model]
    fx, fy, cx, cy = (camera.parameters[place] for place in places)
    coefficients = camera.parameters[start:]
    if not any(coefficients) and kind == 'opencv':
        coefficients = ()
    else:
        coefficients += (0.0,) * (4 - len(coefficients))
    return Lens(kind, camera_matrix(fx, fy, cx - 0.5, cy - 0.5), coefficients, camera.size)


def model_folder(root: Path) -> Path:
    """The folder with cameras and images, .bin or .txt.

    Raises:
        SceneError: there is none.
    """
    for name in _MODEL_FOLDERS:
        if _has_model(root / name):
            if name == 'sparse/0' and _has_model(root / 'sparse' / '1'):
                logger.warning('%s: has several models; reading sparse/0 (give the folder of '
                               'another one to read that)', root)
            return root / name
    raise SceneError(f'{root}: no COLMAP model; expected cameras and images (.bin or .txt) there, '
                     f'in sparse/ or in sparse/0/')


def _has_model(folder: Path) -> bool:
    return any((folder / f'cameras{suffix}').is_file() and (folder / f'images{suffix}').is_file()
               for suffix in ('.bin', '.txt'))


def _camera(image: ColmapImage, cameras: dict[int, ColmapCamera]) -> Lens:
    camera = cameras.get(image.camera_id)
    if camera is None:
        raise SceneError(f'{image.source}: camera {image.camera_id} is not in the list of '
                         f'cameras, which has {sorted(cameras)[:10]}')
    return lens_of(camera, f'camera {image.camera_id}')


def _image_folder(root: Path, folder: Path, listed: list[ColmapImage]) -> Path:
    """Where the first images that can be found lie."""
    above = folder.resolve()
    candidates = [root / 'images', root, *(parent / 'images' for parent in
                                           (above.parent, above.parent.parent))]
    for image in listed[:20]:
        for candidate in candidates:
            try:
                find_image(candidate / image.name)
            except SceneError:
                continue
            return candidate
    raise SceneError(f'{root}: {listed[0].name} and the other images are in none of '
                     f'{", ".join(str(c) for c in candidates)}; say where with --images')


def _matches(root: Path) -> bool:
    return any(_has_model(root / name) for name in _MODEL_FOLDERS)


FORMAT = SceneFormat(
    'colmap', 'cameras and images (.bin or .txt) in it, in sparse/ or in sparse/0/; images/',
    _matches, read_colmap, frozenset({'images'}))
