# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reader for a plain folder: `rgb/ poses/ K.txt splits/ [depth/] [frames.csv]`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from implicit_relocalizer.data.frames import Float64Array, Frame, Scene, SceneError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
ROTATION_TOLERANCE = 1e-3


def read_folder_scene(root: Path, split: str = 'standard') -> Scene:
    """Read a scene stored as a plain folder.

    `rgb/NAME.jpg|png` are the images, `poses/NAME.txt` their 4x4 camera-to-world transforms in
    metres (OpenCV camera axes), `K.txt` the 3x3 intrinsics of the images, `splits/SPLIT.txt` the
    names of the held-out frames. Optional: `depth/NAME.png` (uint16 millimetres) and `frames.csv`
    with columns name, sequence, stamp_s.

    Raises:
        SceneError: a file is missing or holds something unusable.
    """
    root = Path(root)
    if not root.is_dir():
        raise SceneError(f'{root}: no such folder; expected one with rgb/, poses/ and K.txt')
    images = sorted(p for p in (root / 'rgb').glob('*') if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise SceneError(f'{root / "rgb"}: no .jpg or .png images; put the camera images there')
    _check_unique_names(images)
    K_33 = read_intrinsics(root / 'K.txt')
    test_names = _read_test_names(root / 'splits' / f'{split}.txt', {p.stem for p in images})
    details = _read_details(root / 'frames.csv')
    frames = []
    for image_path in images:
        name = image_path.stem
        depth_path = root / 'depth' / f'{name}.png'
        sequence, stamp_s = details.get(name, ('', None))
        frames.append(Frame(
            name=name, image_path=image_path, K_33=K_33,
            T_world_camera=read_pose(root / 'poses' / f'{name}.txt'),
            split='test' if name in test_names else 'train',
            sequence=sequence, stamp_s=stamp_s,
            depth_path=depth_path if depth_path.exists() else None))
    return Scene(root.resolve().name, root, tuple(frames), _common_image_size(images))


def read_pose(path: Path) -> Float64Array:
    """Read a 4x4 camera-to-world transform and check that it is one."""
    T_44 = _read_matrix(path, (4, 4))
    R_33 = T_44[:3, :3]
    error = np.abs(R_33 @ R_33.T - np.eye(3)).max()
    if error > ROTATION_TOLERANCE or np.linalg.det(R_33) < 0:
        raise SceneError(
            f'{path}: the upper left 3x3 is no rotation (R R^T differs from identity by '
            f'{error:.2g}, determinant {np.linalg.det(R_33):.3f}); poses are camera-to-world '
            f'rigid transforms in metres')
    if not np.allclose(T_44[3], [0, 0, 0, 1]):
        raise SceneError(f'{path}: last row is {T_44[3].tolist()}, expected 0 0 0 1')
    return T_44


def read_intrinsics(path: Path) -> Float64Array:
    """Read a 3x3 pinhole matrix and check that it is one."""
    K_33 = _read_matrix(path, (3, 3))
    if K_33[0, 0] <= 0 or K_33[1, 1] <= 0 or not np.allclose(K_33[2], [0, 0, 1]):
        raise SceneError(f'{path}: {K_33.tolist()} is no camera matrix; '
                         f'expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0')
    return K_33


def _read_matrix(path: Path, shape: tuple[int, int]) -> Float64Array:
    try:
        matrix = np.loadtxt(path, dtype=np.float64)
    except FileNotFoundError:
        raise SceneError(f'{path}: missing; expected a {shape[0]}x{shape[1]} matrix') from None
    except ValueError as error:
        raise SceneError(f'{path}: not a table of numbers ({error})') from None
    if matrix.shape != shape:
        raise SceneError(f'{path}: shape {matrix.shape}, expected {shape}')
    if not np.isfinite(matrix).all():
        raise SceneError(f'{path}: holds NaN or infinity; drop the frame or repair the pose')
    return matrix


def _read_test_names(path: Path, names: set[str]) -> set[str]:
    if not path.exists():
        known = sorted(p.stem for p in path.parent.glob('*.txt'))
        raise SceneError(f'{path}: no such split; the folder has {known or "none"}. '
                         f'List the names of the held-out frames there, one a line')
    test_names = {line.strip() for line in path.read_text().splitlines() if line.strip()}
    unknown = sorted(test_names - names)
    if unknown:
        raise SceneError(f'{path}: names {unknown[:3]} that have no image in rgb/')
    if not test_names or test_names == names:
        raise SceneError(f'{path}: holds out {len(test_names)} of {len(names)} frames; '
                         f'both training and test need some')
    return test_names


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


def _common_image_size(images: list[Path]) -> tuple[int, int]:
    first_size: tuple[int, int] | None = None
    for path in images:
        try:
            with Image.open(path) as image:
                size = image.size
        except UnidentifiedImageError:
            raise SceneError(f'{path}: not a readable image') from None
        first_size = first_size or size
        if size != first_size:
            raise SceneError(f'{path}: {size[0]}x{size[1]} while {images[0].name} is '
                             f'{first_size[0]}x{first_size[1]}; K.txt can only fit one size')
    assert first_size is not None
    return first_size
