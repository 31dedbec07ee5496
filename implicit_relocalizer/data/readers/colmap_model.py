# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""COLMAP models on disk: cameras and images, text or binary, without the points.

Formats: https://colmap.github.io/format.html. An own parser because pycolmap is 20 MB of compiled
code for what are two tables.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from implicit_relocalizer.data.frames import SceneError
from implicit_relocalizer.data.text_files import numbers, read_lines

# Names and numbers of parameters by COLMAP's model id.
CAMERA_MODELS: tuple[tuple[str, int], ...] = (
    ('SIMPLE_PINHOLE', 3), ('PINHOLE', 4), ('SIMPLE_RADIAL', 4), ('RADIAL', 5), ('OPENCV', 8),
    ('OPENCV_FISHEYE', 8), ('FULL_OPENCV', 12), ('FOV', 5), ('SIMPLE_RADIAL_FISHEYE', 4),
    ('RADIAL_FISHEYE', 5), ('THIN_PRISM_FISHEYE', 12), ('RAD_TAN_THIN_PRISM_FISHEYE', 16))
_POINT_BYTES = 24
_IMAGE_COLUMNS = 10


class ColmapCamera(NamedTuple):
    """A camera as COLMAP stores it: the centre of the upper left pixel is (0.5, 0.5)."""

    model: str
    size: tuple[int, int]
    parameters: tuple[float, ...]


class ColmapImage(NamedTuple):
    """An image as COLMAP stores it: world-to-camera, quaternion w x y z."""

    name: str
    quaternion_wxyz: tuple[float, ...]
    translation: tuple[float, ...]
    camera_id: int
    source: str


def read_cameras(folder: Path) -> dict[int, ColmapCamera]:
    """Cameras by id from `cameras.bin`, or `cameras.txt` where there is none.

    Raises:
        SceneError: missing, cut off, or not what it should be.
    """
    path = folder / 'cameras.bin'
    cameras = dict(_binary_cameras(path) if path.is_file()
                   else _text_cameras(folder / 'cameras.txt'))
    if not cameras:
        raise SceneError(f'{folder}: its list of cameras is empty')
    return cameras


def read_images(folder: Path) -> list[ColmapImage]:
    """The registered images from `images.bin`, or `images.txt` where there is none.

    Raises:
        SceneError: missing, cut off, or not what it should be.
    """
    path = folder / 'images.bin'
    images = list(_binary_images(path) if path.is_file()
                  else _text_images(folder / 'images.txt'))
    if not images:
        raise SceneError(f'{folder}: its list of images is empty; no image was registered')
    return images


def _text_cameras(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    counts = dict(CAMERA_MODELS)
    for number, line in enumerate(read_lines(path, "COLMAP's cameras"), start=1):
        words = re.split(r'[,\s]+', line.strip())
        if not words[0] or words[0].startswith('#'):
            continue
        source = f'{path}, line {number}'
        if len(words) < 5:
            raise SceneError(f'{source}: {len(words)} columns, expected id, model, width, height, '
                             f'parameters')
        model, parameters = words[1], tuple(numbers(words[4:], source))
        if model in counts and len(parameters) != counts[model]:
            raise SceneError(f'{source}: {len(parameters)} parameters, {model} has '
                             f'{counts[model]}')
        camera_id, width, height = (int(value) for value in numbers(
            [words[0], *words[2:4]], source))
        yield camera_id, ColmapCamera(model, (width, height), parameters)


def _text_images(path: Path) -> Iterator[ColmapImage]:
    lines = iter(enumerate(read_lines(path, "COLMAP's images"), start=1))
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith('#'):
            continue
        source = f'{path}, line {number}'
        words = re.split(r'[,\s]+', line.strip(), maxsplit=_IMAGE_COLUMNS - 1)
        if len(words) != _IMAGE_COLUMNS:
            raise SceneError(f'{source}: {len(words)} columns, expected id, quaternion w x y z, '
                             f'translation x y z, camera id, name')
        values = numbers(words[:-1], source)
        _, points = next(lines, (0, ''))
        if len(points.split()) % 3:
            raise SceneError(f'{path}, line {number + 1}: expected the points (x, y, id) of '
                             f'{words[-1]} or an empty line: every image has two lines')
        yield ColmapImage(words[-1], tuple(values[1:5]), tuple(values[5:8]), int(values[8]),
                          source)


class _Cursor:
    """Reads packed little-endian values one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data = path.read_bytes()
        self._offset = 0

    def values(self, layout: str, what: str) -> tuple[float, ...]:
        packed = struct.Struct('<' + layout)
        if self._offset + packed.size > len(self._data):
            self._fail(what)
        values = packed.unpack_from(self._data, self._offset)
        self._offset += packed.size
        return values

    def name(self, what: str) -> str:
        end = self._data.find(b'\0', self._offset)
        if end < 0:
            self._fail(what)
        name = self._data[self._offset:end].decode('utf-8', errors='replace')
        self._offset = end + 1
        return name

    def skip(self, count: int, what: str) -> None:
        self._offset += count
        if self._offset > len(self._data):
            self._offset -= count
            self._fail(what)

    def _fail(self, what: str) -> None:
        raise SceneError(f'{self.path}: cut off in {what} (byte {self._offset} of '
                         f'{len(self._data)}); copy it again')


def _binary_cameras(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    cursor = _Cursor(path)
    count = int(cursor.values('Q', 'the number of cameras')[0])
    for index in range(count):
        what = f'camera {index + 1} of {count}'
        camera_id, model_id, width, height = (
            int(value) for value in cursor.values('IiQQ', what))
        if not 0 <= model_id < len(CAMERA_MODELS):
            raise SceneError(f'{path}: {what} has the unknown model id {model_id}; convert it '
                             f'with COLMAP to one of {", ".join(n for n, _ in CAMERA_MODELS)}')
        name, parameter_count = CAMERA_MODELS[model_id]
        parameters = cursor.values(f'{parameter_count}d', what)
        yield camera_id, ColmapCamera(name, (width, height), parameters)


def _binary_images(path: Path) -> Iterator[ColmapImage]:
    cursor = _Cursor(path)
    count = int(cursor.values('Q', 'the number of images')[0])
    for index in range(count):
        what = f'image {index + 1} of {count}'
        _, *pose, camera_id = cursor.values('I7dI', what)
        name = cursor.name(what)
        point_count = int(cursor.values('Q', what)[0])
        cursor.skip(point_count * _POINT_BYTES, what)
        yield ColmapImage(name, tuple(pose[:4]), tuple(pose[4:]), int(camera_id),
                          f'{path}, {name}')
