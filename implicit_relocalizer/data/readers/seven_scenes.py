# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reader for 7-Scenes (Shotton et al., CVPR 2013) in its own layout."""

from __future__ import annotations

import re
from pathlib import Path

from implicit_relocalizer.data.frames import Float64Array, Lens, Scene, SceneError, Split
from implicit_relocalizer.data.image_files import find_image, image_size
from implicit_relocalizer.data.readers.scene_format import SceneFormat
from implicit_relocalizer.data.scene_builder import RawFrame, SceneBuilder
from implicit_relocalizer.data.splits import STANDARD
from implicit_relocalizer.data.text_files import (
    camera_matrix,
    data_lines,
    read_intrinsics,
    read_matrix,
)

IMAGE_SIZE = (640, 480)
K_DEFAULT_33 = camera_matrix(585.0, 585.0, 320.0, 240.0)
_LISTS: tuple[tuple[str, Split], ...] = (('TrainSplit.txt', 'train'), ('TestSplit.txt', 'test'))


def read_seven_scenes(root: Path, split: str = STANDARD, intrinsics: Path | None = None) -> Scene:
    """Read one scene: `seq-01/frame-000000.color.png`, `.pose.txt`, and the two split lists.

    The data set has no calibration. The default K (585, 585, 320, 240 at 640x480) is the one its
    page gives: that of the depth camera, whose poses these are. It is commonly used for the
    colour images too; others take 525, the nominal focal length of the Kinect's colour camera,
    and shift the poses to that camera by an extrinsic calibration of another Kinect. Give
    `intrinsics`, a 3x3 matrix in a text file, or put it into the scene as `K.txt`, to choose.
    Frames whose pose is not finite (tracking was lost) are left out. Depth is of the other
    camera, not registered to colour, and so not used.

    Raises:
        SceneError: a list or a sequence is missing, or no frame is left.
    """
    root = Path(root)
    if intrinsics is None and (root / 'K.txt').is_file():
        intrinsics = root / 'K.txt'
    K_given_33 = None if intrinsics is None else read_intrinsics(intrinsics)
    lists = _read_lists(root)
    sequences = sorted(path for path in root.glob('seq-*') if path.is_dir())
    if not sequences:
        hint = '; unzip the seq-*.zip files' if any(root.glob('seq-*.zip')) else ''
        raise SceneError(f'{root}: no seq-01 or other sequence folders{hint}')
    builder = SceneBuilder(root, split)
    for sequence in sequences:
        stems = {path.name.split('.')[0] for path in sequence.glob('frame-*.*')
                 if '.color.' in path.name or path.name.endswith('.pose.txt')}
        for stem in sorted(stems):
            pose_path = sequence / f'{stem}.pose.txt'
            name = f'{sequence.name}/{stem}'
            with builder.frame(name):
                image_path = find_image(sequence / f'{stem}.color.png')
                builder.add(RawFrame(
                    name, image_path, _lens(image_path, K_given_33),
                    read_matrix(pose_path, (4, 4)), pose_path,
                    split=lists.get(sequence.name), sequence=sequence.name))
    return builder.build()


def _lens(image_path: Path, K_given_33: Float64Array | None) -> Lens:
    """The default camera belongs to the original images, a given one to whatever is there."""
    if K_given_33 is None:
        return Lens('opencv', K_DEFAULT_33, (), IMAGE_SIZE)
    return Lens('opencv', K_given_33, (), image_size(image_path))


def _read_lists(root: Path) -> dict[str, Split]:
    """'seq-01' -> split; empty where the scene has no lists at all."""
    if not any((root / name).is_file() for name, _ in _LISTS):
        return {}
    lists: dict[str, Split] = {}
    for file_name, split in _LISTS:
        for source, words in data_lines(root / file_name, 'a list of sequences, one a line'):
            match = re.fullmatch(r'seq(?:uence)?[-_ ]?(\d+)', ''.join(words), re.IGNORECASE)
            if match is None:
                raise SceneError(f'{source}: {" ".join(words)!r} names no sequence; expected '
                                 f'sequence1 and the like')
            name = f'seq-{int(match.group(1)):02d}'
            if not (root / name).is_dir():
                hint = f'; unzip {name}.zip' if (root / f'{name}.zip').is_file() else ''
                raise SceneError(f'{source}: {words[0]} has no folder {name}{hint}')
            if lists.setdefault(name, split) != split:
                raise SceneError(f'{source}: {words[0]} is in both split lists')
    return lists


def _matches(root: Path) -> bool:
    return (root / 'TrainSplit.txt').is_file() or any(root.glob('seq-*/frame-*.pose.txt'))


FORMAT = SceneFormat(
    '7scenes', 'seq-01/frame-000000.color.png and .pose.txt ..., TrainSplit.txt, TestSplit.txt',
    _matches, read_seven_scenes, frozenset({'intrinsics'}))
