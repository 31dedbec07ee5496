# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reader for sequences of the TUM RGB-D benchmark (Sturm et al., IROS 2012)."""

from __future__ import annotations

import re
from pathlib import Path

from implicit_relocalizer.data.frames import Lens, Scene, SceneError
from implicit_relocalizer.data.image_files import find_image, image_size
from implicit_relocalizer.data.readers.pose_track import (
    NS_PER_S,
    NoPoseError,
    PoseSample,
    PoseTrack,
)
from implicit_relocalizer.data.readers.scene_format import SceneFormat
from implicit_relocalizer.data.scene_builder import RawFrame, SceneBuilder
from implicit_relocalizer.data.splits import STANDARD
from implicit_relocalizer.data.text_files import (
    camera_matrix,
    data_lines,
    numbers,
    read_intrinsics,
)

IMAGE_SIZE = (640, 480)
# Motion capture runs at 100 Hz; a longer gap means that it lost the camera.
MAX_GAP_S = 0.1
# Colour cameras as the benchmark publishes them (the third is rectified already).
LENSES = {
    'freiburg1': Lens('opencv', camera_matrix(517.3, 516.5, 318.6, 255.3),
                      (0.2624, -0.9531, -0.0054, 0.0026, 1.1633), IMAGE_SIZE),
    'freiburg2': Lens('opencv', camera_matrix(520.9, 521.0, 325.1, 249.7),
                      (0.2312, -0.7849, -0.0033, -0.0001, 0.9172), IMAGE_SIZE),
    'freiburg3': Lens('opencv', camera_matrix(535.4, 539.2, 320.1, 247.6), (), IMAGE_SIZE),
}


def read_tum_rgbd(root: Path, split: str = STANDARD, intrinsics: Path | None = None,
                  max_gap_s: float = MAX_GAP_S) -> Scene:
    """Read one sequence: `rgb.txt` (stamp, file) and `groundtruth.txt` (stamp, pose).

    A ground-truth line is `stamp tx ty tz qx qy qz qw`, camera-to-world, OpenCV axes. The pose
    at an image's stamp is interpolated (slerp) between the two around it; images before the
    first, after the last, or in a gap of more than `max_gap_s` are left out. The camera is the
    published one of Freiburg 1, 2 or 3 by the folder's name (`freiburg1` or `fr1` in it), or
    `intrinsics`, a 3x3 matrix in a text file (or `K.txt` in the folder) of images without
    distortion. Depth is not in millimetres (5000 = 1 m) and not used.

    Raises:
        SceneError: a list is missing or unreadable, the camera unknown, or no frame is left.
    """
    root = Path(root)
    track = _read_track(root / 'groundtruth.txt')
    if intrinsics is None and (root / 'K.txt').is_file():
        intrinsics = root / 'K.txt'
    lens = _published_lens(root) if intrinsics is None else None
    K_33 = read_intrinsics(intrinsics) if intrinsics is not None else None
    builder = SceneBuilder(root, split)
    for source, words in data_lines(root / 'rgb.txt', 'lines "stamp rgb/stamp.png"'):
        name = Path(words[-1]).stem
        with builder.frame(name):
            if len(words) != 2:
                raise SceneError(f'{source}: {len(words)} columns, expected stamp and file name')
            stamp_ns = _nanoseconds(words[0], source)
            image_path = find_image(root / words[1])
            if K_33 is not None:
                lens = Lens('opencv', K_33, (), image_size(image_path))
            assert lens is not None
            try:
                T_world_camera = track.interpolate(stamp_ns, max_gap_s)
            except NoPoseError as error:
                raise SceneError(f'{source}: no pose at {words[0]}: {error}') from None
            builder.add(RawFrame(name, image_path, lens, T_world_camera, source,
                                 sequence=root.resolve().name, stamp_s=stamp_ns / NS_PER_S))
    return builder.build()


def _read_track(path: Path) -> PoseTrack:
    samples = []
    wrong = ''
    for source, words in data_lines(path, 'lines "stamp tx ty tz qx qy qz qw"'):
        if len(words) != 8:
            raise SceneError(f'{source}: {len(words)} columns, expected stamp tx ty tz '
                             f'qx qy qz qw')
        x, y, z, qx, qy, qz, qw = numbers(words[1:], source)
        sample = PoseSample(_nanoseconds(words[0], source), (x, y, z), (qx, qy, qz, qw))
        wrong = wrong or ('' if sample.is_usable else f'{source}: {" ".join(words)}')
        samples.append(sample)
    track = PoseTrack(samples)
    if not len(track):
        raise SceneError(f'{path}: none of its {len(samples)} poses is usable'
                         f'{"; the first: " + wrong if wrong else ""}')
    return track


def _nanoseconds(word: str, source: str) -> int:
    """Exact, which a float of seconds since 1970 is not."""
    match = re.fullmatch(r'(\d+)(?:\.(\d*))?', word)
    if match is None:
        return round(numbers([word], source)[0] * NS_PER_S)
    return int(match.group(1)) * NS_PER_S + int((match.group(2) or '').ljust(9, '0')[:9])


def _published_lens(root: Path) -> Lens:
    match = re.search(r'(?:freiburg|fr)([123])', root.resolve().name)
    if match is None:
        raise SceneError(
            f'{root}: the name tells no camera of the benchmark (freiburg1, freiburg2 or '
            f'freiburg3); put the 3x3 intrinsics of undistorted images there as K.txt or give '
            f'--intrinsics')
    return LENSES[f'freiburg{match.group(1)}']


FORMAT = SceneFormat(
    'tum', 'rgb.txt, groundtruth.txt and rgb/, as TUM RGB-D sequences have them',
    lambda root: (root / 'rgb.txt').is_file() and (root / 'groundtruth.txt').is_file(),
    read_tum_rgbd, frozenset({'intrinsics', 'max_gap_s'}))
