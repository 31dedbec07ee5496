# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reader for a plain folder: `rgb/ poses/ K.txt [splits/] [depth/] [frames.csv]`."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from implicit_relocalizer.data.frames import Float64Array, Lens, Scene, SceneError
from implicit_relocalizer.data.image_files import IMAGE_SUFFIXES, image_size
from implicit_relocalizer.data.poses import checked_pose
from implicit_relocalizer.data.readers.scene_format import SceneFormat
from implicit_relocalizer.data.scene_builder import RawFrame, SceneBuilder
from implicit_relocalizer.data.splits import STANDARD
from implicit_relocalizer.data.text_files import read_intrinsics, read_matrix


def read_folder_scene(root: Path, split: str = STANDARD) -> Scene:
    """Read a scene stored as a plain folder.

    `rgb/NAME.jpg|png` are the images, `poses/NAME.txt` their 4x4 camera-to-world transforms in
    metres (OpenCV camera axes), `K.txt` the 3x3 intrinsics of the images, `splits/SPLIT.txt` the
    names of the held-out frames (without one, every 8th frame by name). Optional:
    `depth/NAME.png` (uint16 millimetres) and `frames.csv` with columns name, sequence, stamp_s.

    Raises:
        SceneError: a file that concerns all frames is missing or holds something unusable, or
            no frame is left; single bad frames are left out.
    """
    root = Path(root)
    if not root.is_dir():
        raise SceneError(f'{root}: no such folder; expected one with rgb/, poses/ and K.txt')
    images = sorted(p for p in (root / 'rgb').glob('*') if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise SceneError(f'{root / "rgb"}: no .jpg or .png images; put the camera images there')
    _check_unique_names(images)
    K_33 = read_intrinsics(root / 'K.txt')
    lens = Lens('opencv', K_33, (), _most_frequent_size(images))
    details = _read_details(root / 'frames.csv')
    builder = SceneBuilder(root, split)
    for image_path in images:
        name = image_path.stem
        pose_path = root / 'poses' / f'{name}.txt'
        depth_path = root / 'depth' / f'{name}.png'
        sequence, stamp_s = details.get(name, ('', None))
        with builder.frame(name):
            builder.add(RawFrame(
                name, image_path, lens, read_matrix(pose_path, (4, 4)), pose_path,
                sequence=sequence, stamp_s=stamp_s,
                depth_path=depth_path if depth_path.exists() else None))
    return builder.build()


def read_pose(path: Path) -> Float64Array:
    """Read a 4x4 camera-to-world transform and check that it is one."""
    return checked_pose(read_matrix(path, (4, 4)), path)


def _read_details(path: Path) -> dict[str, tuple[str, float | None]]:
    if not path.exists():
        return {}
    with path.open(newline='') as file:
        rows = list(csv.DictReader(file))
    try:
        return {row['name']: (row['sequence'], float(row['stamp_s'])) for row in rows}
    except (KeyError, ValueError, TypeError) as error:
        raise SceneError(f'{path}: expected columns name,sequence,stamp_s ({error})') from None


def _check_unique_names(images: list[Path]) -> None:
    first: dict[str, Path] = {}
    for path in images:
        other = first.setdefault(path.stem, path)
        if other is not path:
            raise SceneError(f'{path}: has the name of {other.name}; one pose and one split entry '
                             f'cannot stand for two images, remove one')


def _most_frequent_size(images: list[Path]) -> tuple[int, int]:
    """Of the readable images: K.txt fits one size only, and most images have it."""
    sizes: Counter[tuple[int, int]] = Counter()
    problem: SceneError | None = None
    for path in images:
        try:
            sizes[image_size(path)] += 1
        except SceneError as error:
            problem = problem or error
    if not sizes:
        raise problem or SceneError(f'{images[0].parent}: no readable image')
    return sizes.most_common(1)[0][0]


FORMAT = SceneFormat(
    'folder', 'rgb/NAME.jpg|png, poses/NAME.txt (4x4 camera-to-world, OpenCV axes), K.txt',
    lambda root: (root / 'rgb').is_dir() and (root / 'poses').is_dir(), read_folder_scene)
