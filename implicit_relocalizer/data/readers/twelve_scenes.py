# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reader for 12-Scenes (Valentin et al., 3DV 2016) in its own layout."""

from __future__ import annotations

import re
from pathlib import Path

from implicit_relocalizer.data.frames import Lens, Scene, SceneError, Split
from implicit_relocalizer.data.image_files import find_image
from implicit_relocalizer.data.readers.scene_format import SceneFormat
from implicit_relocalizer.data.scene_builder import RawFrame, SceneBuilder
from implicit_relocalizer.data.splits import STANDARD
from implicit_relocalizer.data.text_files import (
    camera_matrix,
    data_lines,
    numbers,
    read_lines,
    read_matrix,
)


def read_twelve_scenes(root: Path, split: str = STANDARD) -> Scene:
    """Read one scene: `data/frame-000000.color.jpg`, `.pose.txt`, `info.txt`, `split.txt`.

    `info.txt` has the colour camera's intrinsics, `split.txt` the sequences as ranges of frame
    numbers; the first one is held out, the others train, as the benchmark says. Frames whose
    pose is not finite are left out. Depth is 640x480, no whole fraction of the 1296x968 colour
    images, and not used.

    Raises:
        SceneError: a list is missing or unreadable, or no frame is left.
    """
    root = Path(root)
    lens = _read_camera(root / 'info.txt')
    ranges = _read_ranges(root / 'split.txt') if (root / 'split.txt').is_file() else []
    folder = root / 'data' if (root / 'data').is_dir() else root
    stems = {path.name.split('.')[0] for path in folder.glob('frame-*.*')
             if '.color.' in path.name or path.name.endswith('.pose.txt')}
    if not stems:
        raise SceneError(f'{folder}: no frame-000000.color.jpg or other frames; unzip the data')
    builder = SceneBuilder(root, split)
    for stem in sorted(stems):
        pose_path = folder / f'{stem}.pose.txt'
        sequence, official = _sequence_of(stem, ranges)
        with builder.frame(stem):
            builder.add(RawFrame(
                stem, find_image(folder / f'{stem}.color.jpg'), lens,
                read_matrix(pose_path, (4, 4)), pose_path, split=official, sequence=sequence))
    return builder.build()


def _read_camera(path: Path) -> Lens:
    values = {}
    for line in read_lines(path, 'the camera, from the 12-Scenes download'):
        key, _, value = line.partition('=')
        values[key.strip()] = value.split()
    try:
        size = int(values['m_colorWidth'][0]), int(values['m_colorHeight'][0])
        matrix = values['m_calibrationColorIntrinsic']
    except (KeyError, IndexError, ValueError) as error:
        raise SceneError(f'{path}: expected m_colorWidth, m_colorHeight and '
                         f'm_calibrationColorIntrinsic ({error})') from None
    if len(matrix) != 16:
        raise SceneError(f'{path}: m_calibrationColorIntrinsic has {len(matrix)} numbers, '
                         f'expected the 16 of a 4x4 matrix')
    entries = numbers(matrix, path)
    return Lens('opencv', camera_matrix(entries[0], entries[5], entries[2], entries[6]), (), size)


def _read_ranges(path: Path) -> list[tuple[str, int, int]]:
    """Sequences in the order of the file: name, first and last frame number."""
    ranges: list[tuple[str, int, int]] = []
    for source, words in data_lines(path, 'the sequences'):
        text = ' '.join(words)
        start, end = (re.search(rf'\b{key}\s*=\s*(\d+)', text) for key in ('start', 'end'))
        if start is None or end is None:
            raise SceneError(f'{source}: {text!r}, expected a line such as '
                             f'"sequence0 [frames=357] [start=0 ; end=356]"')
        ranges.append((words[0], int(start.group(1)), int(end.group(1))))
    if len(ranges) < 2:
        raise SceneError(f'{path}: {len(ranges)} sequences; the first is held out and the others '
                         f'train, so at least two are needed')
    return ranges


def _sequence_of(stem: str, ranges: list[tuple[str, int, int]]) -> tuple[str, Split | None]:
    digits = stem.rpartition('-')[2]
    for index, (name, first, last) in enumerate(ranges):
        if digits.isdigit() and first <= int(digits) <= last:
            return name, 'train' if index else 'test'
    return '', None


def _matches(root: Path) -> bool:
    return (root / 'info.txt').is_file() and (
        (root / 'split.txt').is_file() or any(root.glob('data/frame-*.pose.txt')))


FORMAT = SceneFormat(
    '12scenes', 'data/frame-000000.color.jpg and .pose.txt ..., info.txt, split.txt',
    _matches, read_twelve_scenes)
