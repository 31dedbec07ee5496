# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""One and the same posed images in the layout of every format that has a reader."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from box_room import IMAGE_SIZE, K_33, BoxRoom, sweep
from PIL import Image
from scipy.spatial.transform import Rotation

COUNT = 10
OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
# As our K_33 with pixel centres at 0.5.
FX, FY, CX, CY = K_33[0, 0], K_33[1, 1], K_33[0, 2] + 0.5, K_33[1, 2] + 0.5


@dataclass(frozen=True)
class Shots:
    """Poses and the images taken there."""

    poses: list[np.ndarray]
    images: list[np.ndarray]


def take_shots(count: int = COUNT) -> Shots:
    room = BoxRoom()
    poses = sweep(count)
    return Shots(poses, [room.render(T_world_camera)[0] for T_world_camera in poses])


def save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def quaternion_wxyz(R_33: np.ndarray) -> list[float]:
    x, y, z, w = Rotation.from_matrix(R_33).as_quat().tolist()
    return [w, x, y, z]


def text(values: object) -> str:
    return ' '.join(f'{value:.12g}' for value in np.ravel(values))


def write_folder(root: Path, shots: Shots) -> None:
    (root / 'poses').mkdir(parents=True)
    np.savetxt(root / 'K.txt', K_33)
    for i, (T, image) in enumerate(zip(shots.poses, shots.images, strict=True)):
        save(image, root / 'rgb' / f'{i:04d}.png')
        np.savetxt(root / 'poses' / f'{i:04d}.txt', T)


def write_seven_scenes(root: Path, shots: Shots) -> None:
    for i, (T, image) in enumerate(zip(shots.poses, shots.images, strict=True)):
        stem = root / f'seq-{1 + i % 2:02d}' / f'frame-{i // 2:06d}'
        save(image, Path(f'{stem}.color.png'))
        rows = ['\t'.join(f'{value:.7e}' for value in row) for row in T]
        Path(f'{stem}.pose.txt').write_text('\t\r\n '.join(rows) + '\t\r\n')
    (root / 'TrainSplit.txt').write_text('sequence2\r\n')
    (root / 'TestSplit.txt').write_text('sequence1\r\n\r\n')
    np.savetxt(root / 'K.txt', K_33)


def write_twelve_scenes(root: Path, shots: Shots) -> None:
    for i, (T, image) in enumerate(zip(shots.poses, shots.images, strict=True)):
        save(image, root / 'data' / f'frame-{i:06d}.color.png')
        np.savetxt(root / 'data' / f'frame-{i:06d}.pose.txt', T)
    matrix = np.eye(4)
    matrix[:3, :3] = K_33
    (root / 'info.txt').write_text(
        'm_versionNumber = 4\nm_sensorName = StructureSensor\n'
        f'm_colorWidth = {IMAGE_SIZE[0]}\nm_colorHeight = {IMAGE_SIZE[1]}\nm_depthWidth = 640\n'
        f'm_calibrationColorIntrinsic = {text(matrix)} \n'
        f'm_calibrationDepthIntrinsic = {text(np.eye(4))} \n')
    (root / 'split.txt').write_text(
        'sequence0 [frames=4]  [start=0 ; end=3]\n'
        f'sequence1 [frames={COUNT - 4}]  [start=4 ; end={COUNT - 1}]\n')


def write_cambridge(root: Path, shots: Shots, distortion: float = 0.0) -> None:
    lines, cameras = [], []
    for i, (T, image) in enumerate(zip(shots.poses, shots.images, strict=True)):
        save(image, root / f'seq{1 + i % 3}' / f'frame{i:05d}.png')
        q = quaternion_wxyz(T[:3, :3].T)
        lines.append(f'seq{1 + i % 3}/frame{i:05d}.png {text(T[:3, 3])} {text(q)}')
        cameras.append(f'seq{1 + i % 3}/frame{i:05d}.jpg\t{text([FX, *q, *T[:3, 3]])} '
                       f'{distortion:.12g} 0 ')
    header = 'Visual Landmark Dataset V1\nImageFile, Camera Position [X Y Z W P Q R]\n\n'
    (root / 'dataset_train.txt').write_text(header + '\n'.join(lines[3:]) + '\n')
    (root / 'dataset_test.txt').write_text(header + '\n'.join(lines[:3]) + '\n')
    (root / 'reconstruction.nvm').write_text(
        f'NVM_V3 \n\n{len(cameras)}\n' + '\n'.join(cameras) + '\n\n1\n0 0 0 9 9 9 1 0 5 1 2\n0\n')


def colmap_poses(shots: Shots) -> list[tuple[list[float], list[float]]]:
    inverses = [np.linalg.inv(T) for T in shots.poses]
    return [(quaternion_wxyz(T[:3, :3]), T[:3, 3].tolist()) for T in inverses]


def write_colmap_text(root: Path, shots: Shots, camera: str = '') -> None:
    camera = camera or f'PINHOLE {text(IMAGE_SIZE)} {text([FX, FY, CX, CY])}'
    model = root / 'sparse' / '0'
    model.mkdir(parents=True)
    (model / 'cameras.txt').write_text(f'# Camera list\n7 {camera}\n')
    lines = ['# Image list with two lines of data per image:']
    for i, (q, t) in enumerate(colmap_poses(shots)):
        save(shots.images[i], root / 'images' / 'left eye' / f'{i}.png')
        lines += [f'{i + 1} {text(q)} {text(t)} 7 left eye/{i}.png', '1.5 2.5 -1 3 4 17' * (i % 2)]
    (model / 'images.txt').write_text('\n'.join(lines) + '\n')


def write_colmap_binary(root: Path, shots: Shots, model_id: int = 1,
                        parameters: tuple[float, ...] = (FX, FY, CX, CY)) -> None:
    model = root / 'sparse'
    model.mkdir(parents=True)
    (model / 'cameras.bin').write_bytes(struct.pack(
        f'<QIiQQ{len(parameters)}d', 1, 7, model_id, *IMAGE_SIZE, *parameters))
    data = struct.pack('<Q', len(shots.poses))
    for i, (q, t) in enumerate(colmap_poses(shots)):
        save(shots.images[i], root / 'images' / f'{i}.png')
        data += struct.pack('<I7dI', i + 1, *q, *t, 7) + f'{i}.png\0'.encode()
        data += struct.pack('<Q', 2) + struct.pack('<ddqddq', 1.0, 2.0, -1, 3.0, 4.0, 17)
    (model / 'images.bin').write_bytes(data)


def transforms(shots: Shots, folder: str, suffix: str) -> list[dict[str, object]]:
    return [{'file_path': f'{folder}/r_{i}{suffix}',
             'transform_matrix': (T @ OPENGL_FROM_OPENCV).tolist()}
            for i, T in enumerate(shots.poses)]


def write_nerfstudio(root: Path, shots: Shots) -> None:
    for i, image in enumerate(shots.images):
        save(image, root / 'images' / f'r_{i}.png')
    frames = transforms(shots, 'images', '.png')
    (root / 'transforms.json').write_text(json.dumps({
        'camera_model': 'OPENCV', 'fl_x': FX, 'fl_y': FY, 'cx': CX, 'cy': CY, 'w': IMAGE_SIZE[0],
        'h': IMAGE_SIZE[1], 'k1': 0.0, 'k2': 0.0, 'p1': 0.0, 'p2': 0.0, 'frames': frames}))


def write_blender(root: Path, shots: Shots) -> None:
    frames = transforms(shots, './all', '')
    for i, image in enumerate(shots.images):
        save(image, root / 'all' / f'r_{i}.png')
    for name, part in (('train', frames[:7]), ('test', frames[7:])):
        (root / f'transforms_{name}.json').write_text(json.dumps({
            'camera_angle_x': 2.0 * np.arctan(IMAGE_SIZE[0] / 2.0 / FX), 'frames': part}))


def write_tum(root: Path, shots: Shots) -> None:
    images, poses = ['# color images', "# file: 'room.bag'"], ['# timestamp tx ty tz qx qy qz qw']
    for i, (T, image) in enumerate(zip(shots.poses, shots.images, strict=True)):
        stamp = f'1305031102.{175304 + 33001 * i:06d}'
        save(image, root / 'rgb' / f'{stamp}.png')
        images.append(f'{stamp} rgb/{stamp}.png')
        quaternion = Rotation.from_matrix(T[:3, :3]).as_quat()
        poses.append(f'{stamp} {text(T[:3, 3])} {text(quaternion)}')
    (root / 'rgb.txt').write_text('\n'.join(images) + '\n')
    (root / 'groundtruth.txt').write_text('\n'.join(poses) + '\n')
    np.savetxt(root / 'K.txt', K_33)


# By a name of ours: the format it is read as, and the writer.
WRITERS: dict[str, tuple[str, Callable[[Path, Shots], None]]] = {
    'folder': ('folder', write_folder), '7scenes': ('7scenes', write_seven_scenes),
    '12scenes': ('12scenes', write_twelve_scenes), 'cambridge': ('cambridge', write_cambridge),
    'colmap-text': ('colmap', write_colmap_text),
    'colmap-binary': ('colmap', write_colmap_binary),
    'nerfstudio': ('transforms', write_nerfstudio), 'blender': ('transforms', write_blender),
    'tum': ('tum', write_tum)}
