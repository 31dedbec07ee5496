# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reader for NeRF's `transforms.json` (Blender, instant-ngp, nerfstudio)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from implicit_relocalizer.data.frames import Float64Array, Lens, Scene, SceneError, Split
from implicit_relocalizer.data.image_files import find_image, image_size, without_image_suffix
from implicit_relocalizer.data.readers.scene_format import SceneFormat
from implicit_relocalizer.data.scene_builder import RawFrame, SceneBuilder
from implicit_relocalizer.data.splits import STANDARD, read_split_lists
from implicit_relocalizer.data.text_files import camera_matrix

_FILE = 'transforms.json'
_SPLIT_FILES: tuple[tuple[str, Split], ...] = (('transforms_train.json', 'train'),
                                               ('transforms_test.json', 'test'))
_FISHEYE_MODELS = ('OPENCV_FISHEYE', 'FISHEYE')
_PINHOLE_MODELS = ('OPENCV', 'PINHOLE', 'SIMPLE_PINHOLE', 'SIMPLE_RADIAL', 'RADIAL', '')
# OpenGL camera axes (x right, y up, z backward) to OpenCV's.
_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def read_transforms(root: Path, split: str = STANDARD) -> Scene:
    """Read `transforms.json`, or `transforms_train.json` and `transforms_test.json`.

    `transform_matrix` is camera-to-world with OpenGL camera axes (x right, y up, z backward).
    `fl_x fl_y cx cy w h k1 k2 k3 p1 p2` (or `camera_angle_x`) hold for all frames, or for one
    where it has its own. Pixel centres at 0.5 are moved to integers. File paths may lack their
    suffix. Held out is what `test_filenames`, `transforms_test.json` or `test.txt` list,
    otherwise every 8th frame. The scale is the file's; it is not changed to metres.

    Raises:
        SceneError: missing, no JSON, without frames, or no frame is left.
    """
    root = Path(root)
    builder = SceneBuilder(root.parent if root.is_file() else root, split)
    for path, official_split in _files(root):
        shared = _read_json(path)
        folder = path.parent
        names = [without_image_suffix(str(frame.get('file_path'))) for frame in shared['frames']]
        official = _official(folder, shared, names)
        for index, (name, frame) in enumerate(zip(names, shared['frames'], strict=True)):
            source = f'{path}, frame {index} ({name})'
            with builder.frame(name):
                image_path = find_image(folder / _text(frame, 'file_path', source))
                builder.add(RawFrame(
                    name, image_path, _lens({**shared, **frame}, image_path, source),
                    _pose(frame, source), source, split=official_split or official.get(name),
                    sequence=name.rpartition('/')[0]))
    return builder.build()


def _files(root: Path) -> Iterator[tuple[Path, Split | None]]:
    if root.is_file():
        yield root, None
    elif (root / _FILE).is_file():
        yield root / _FILE, None
    else:
        for name, split in _SPLIT_FILES:
            yield root / name, split


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise SceneError(f'{path}: missing') from None
    except ValueError as error:
        raise SceneError(f'{path}: no JSON, or cut off ({error})') from None
    frames = values.get('frames') if isinstance(values, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(f, dict) for f in frames):
        raise SceneError(f'{path}: has no list "frames" with file_path and transform_matrix')
    return dict(values)


def _official(folder: Path, shared: Mapping[str, Any], names: list[str]) -> dict[str, Split]:
    """nerfstudio's lists in the file itself, or train.txt and test.txt beside it."""
    official: dict[str, Split] = {}
    keys: tuple[tuple[str, Split], ...] = (('train_filenames', 'train'),
                                           ('test_filenames', 'test'))
    for key, split in keys:
        for name in shared.get(key) or []:
            official[without_image_suffix(str(name))] = split
    return official if 'test' in official.values() else read_split_lists(folder, names)


def _pose(frame: Mapping[str, Any], source: str) -> Float64Array:
    try:
        T_44 = np.array(frame['transform_matrix'], dtype=np.float64)
    except KeyError:
        raise SceneError(f'{source}: has no transform_matrix') from None
    except (TypeError, ValueError):
        raise SceneError(f'{source}: transform_matrix is no 4x4 matrix: '
                         f'{str(frame["transform_matrix"])[:80]}') from None
    if T_44.shape not in ((3, 4), (4, 4)):
        raise SceneError(f'{source}: transform_matrix has the shape {T_44.shape}, expected 4x4')
    return np.asarray(T_44 @ _OPENCV_FROM_OPENGL)


def _lens(values: Mapping[str, Any], image_path: Path, source: str) -> Lens:
    found = image_size(image_path)
    size = (int(_number(values, 'w', source, found[0])),
            int(_number(values, 'h', source, found[1])))
    fx = _focal_length(values, 'x', size[0], source)
    fy = _focal_length(values, 'y', size[1], source) or fx
    fx = fx or fy
    if fx is None or fy is None:
        raise SceneError(f'{source}: has neither fl_x nor camera_angle_x')
    cx = _number(values, 'cx', source, size[0] / 2.0) - 0.5
    cy = _number(values, 'cy', source, size[1] / 2.0) - 0.5
    K_33 = camera_matrix(fx, fy, cx, cy)
    k1, k2, k3, k4, p1, p2 = (_number(values, key, source, 0.0)
                              for key in ('k1', 'k2', 'k3', 'k4', 'p1', 'p2'))
    model = str(values.get('camera_model') or '')
    if model in _FISHEYE_MODELS or values.get('is_fisheye'):
        return Lens('fisheye', K_33, (k1, k2, k3, k4), size)
    if model not in _PINHOLE_MODELS:
        raise SceneError(f'{source}: camera_model {model} is not supported, only '
                         f'{", ".join((*_PINHOLE_MODELS[:-1], *_FISHEYE_MODELS))}')
    if k4:
        raise SceneError(f'{source}: k4 = {k4:g} has no equal in OpenCV\'s lens model; calibrate '
                         f'with k1 k2 k3 p1 p2')
    coefficients = (k1, k2, p1, p2, k3)
    return Lens('opencv', K_33, coefficients if any(coefficients) else (), size)


def _focal_length(values: Mapping[str, Any], axis: str, side_px: int, source: str) -> float | None:
    """In pixels; None where the file does not say."""
    if values.get(f'fl_{axis}') is not None:
        return _number(values, f'fl_{axis}', source, math.nan)
    if values.get(f'camera_angle_{axis}') is not None:
        angle = _number(values, f'camera_angle_{axis}', source, math.nan)
        if not 0.0 < angle < math.pi:
            raise SceneError(f'{source}: camera_angle_{axis} = {angle:g}, expected radians '
                             f'between 0 and pi')
        return side_px / (2.0 * math.tan(angle / 2.0))
    return None


def _number(values: Mapping[str, Any], key: str, source: str, default: float) -> float:
    value = values.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SceneError(f'{source}: {key} is {value!r}, expected a number')
    if not math.isfinite(value):
        raise SceneError(f'{source}: {key} is {value}')
    return float(value)


def _text(values: Mapping[str, Any], key: str, source: str) -> str:
    if not isinstance(values.get(key), str):
        raise SceneError(f'{source}: {key} is {values.get(key)!r}, expected a path')
    return str(values[key])


def _matches(root: Path) -> bool:
    if root.is_file():
        return root.suffix == '.json'
    return (root / _FILE).is_file() or (root / _SPLIT_FILES[0][0]).is_file()


FORMAT = SceneFormat(
    'transforms', 'transforms.json (or transforms_train.json, transforms_test.json), the images',
    _matches, read_transforms)
