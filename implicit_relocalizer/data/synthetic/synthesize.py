# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Renders a synthetic place and its drives into the plain-folder format."""

from __future__ import annotations

import csv
import json
import logging
import math
import shutil
import time
from pathlib import Path

import numpy as np
from PIL import Image

from implicit_relocalizer.data.frames import Float64Array, Scene, SceneError
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.data.synthetic.atlas import build_meshes, exposure_for
from implicit_relocalizer.data.synthetic.crossing import plan_crossing
from implicit_relocalizer.data.synthetic.drives import Drive, FreeSpace, plan_mapping
from implicit_relocalizer.data.synthetic.lighting import light_patches
from implicit_relocalizer.data.synthetic.offscreen import find_window_class
from implicit_relocalizer.data.synthetic.place import Place, furnish
from implicit_relocalizer.data.synthetic.rendering import Mesh, MeshRenderer, pinhole_intrinsics
from implicit_relocalizer.data.synthetic.sensor import Sensor

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
HORIZONTAL_FOV_DEG = 67.0
DEPTH_STRIDE = 4
SETTINGS_NAME = 'synthetic.json'
OWN_NAMES = {'rgb', 'poses', 'depth', 'splits', 'K.txt', 'frames.csv', SETTINGS_NAME}
DRIVE_EXPOSURES = {'drive1': 1.0, 'drive2': 0.9, 'drive3': 1.08}
JPEG_QUALITY = 95
SUPERSAMPLING = 3
# Texture pixels per metre for images 480 pixels wide, and the fewest that patterns survive.
TEXTURE_PX_M, COARSEST_PX_M = 333.0, 40.0
FURNISHING_ATTEMPTS = 12


def synthesize(output: Path, *, seed: int = 0, image_size: tuple[int, int] = (480, 360),
               mapping_frames: int = 400, held_out_frames: int = 100,
               progress: bool = True) -> Scene:
    """Make a furnished room and the images that a robot took in it, and return the scene.

    Two mapping drives are for training; a third one elsewhere in the same room is held out. The
    same arguments give the same place. The folder appears under its name when it is complete.

    Args:
        output: The folder to make, in the format of `read_folder_scene`. One that already holds
            the result of the same arguments is read and returned.
        seed: Chooses the place: its furniture, colours, pictures and ways.
        image_size: (width, height) in pixels. Fine texture and lighting follow the width.
        mapping_frames: Images of the two mapping drives together.
        held_out_frames: Images of the held-out drive, at 10 Hz.
        progress: Log how far it is.

    Raises:
        SceneError: the folder holds something else, an argument is out of range, or VTK is
            missing or cannot draw here.
    """
    output = Path(output)
    settings = {'version': FORMAT_VERSION, 'seed': seed, 'image_size': list(image_size),
                'mapping_frames': mapping_frames, 'held_out_frames': held_out_frames}
    _check_arguments(seed, image_size, mapping_frames, held_out_frames)
    if _is_finished(output, settings):
        logger.info('%s: already holds this synthetic place; using it', output)
        return read_folder_scene(output)
    find_window_class()
    start = time.monotonic()
    partial = _fresh_partial_folder(output)
    density_px_m = max(COARSEST_PX_M, TEXTURE_PX_M * image_size[0] / 480)
    place, drives = _place_with_drives(seed, density_px_m, mapping_frames, held_out_frames)
    meshes = _lit_meshes(place, image_size[0], seed)
    if progress:
        logger.info('%s: room %.1f x %.1f m furnished and lit in %.0f s', output,
                    *place.size_m[:2], time.monotonic() - start)
    _render_drives(partial, meshes, drives, image_size, seed, progress)
    _write_lists(partial, drives)
    (partial / SETTINGS_NAME).write_text(json.dumps(settings, indent=1) + '\n')
    partial.rename(output)
    if progress:
        logger.info('%s: %d images in %.0f s', output, mapping_frames + held_out_frames,
                    time.monotonic() - start)
    return read_folder_scene(output)


def _check_arguments(seed: int, image_size: tuple[int, int], mapping_frames: int,
                     held_out_frames: int) -> None:
    if seed < 0:
        raise SceneError(f'seed {seed}: must be zero or more')
    if min(image_size) < 16 or max(image_size) > 4096:
        raise SceneError(f'image size {image_size[0]}x{image_size[1]}: each side must be from 16 '
                         f'to 4096 pixels')
    if mapping_frames < 2 or held_out_frames < 1:
        raise SceneError(f'{mapping_frames} mapping and {held_out_frames} held-out frames: '
                         f'at least 2 and 1 are needed')


def _is_finished(output: Path, settings: dict) -> bool:
    """Whether the folder holds exactly this; refuses one that holds anything else."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    try:
        found = json.loads((output / SETTINGS_NAME).read_text())
    except (OSError, ValueError):
        raise SceneError(f'{output}: exists and is no synthetic place; give another folder or '
                         f'remove it') from None
    if found != settings:
        raise SceneError(f'{output}: holds a synthetic place with other settings ({found}, now '
                         f'{settings}); give another folder or remove it')
    return True


def _fresh_partial_folder(output: Path) -> Path:
    """Make OUTPUT.partial, without what an interrupted run may have left there."""
    partial = output.with_name(output.name + '.partial')
    if partial.exists():
        strange = sorted({path.name for path in partial.iterdir()} - OWN_NAMES)
        if strange:
            raise SceneError(f'{partial}: holds {strange[:3]}, which no earlier run can have '
                             f'left there; remove the folder or give another output')
        shutil.rmtree(partial)
    for name in ('rgb', 'poses', 'depth', 'splits'):
        (partial / name).mkdir(parents=True)
    return partial


def _place_with_drives(seed: int, density_px_m: float, mapping_frames: int,
                       held_out_frames: int) -> tuple[Place, list[Drive]]:
    """Furnish until the robot gets through."""
    for attempt in range(FURNISHING_ATTEMPTS):
        place = furnish(seed, density_px_m, attempt)
        free, rng = FreeSpace(place.size_m, place.obstacles), np.random.default_rng([seed, 1])
        try:
            mapping = plan_mapping(free, mapping_frames, rng)
            mapped = np.concatenate([drive.T_world_camera_n44 for drive in mapping])
            return place, [*mapping, plan_crossing(free, held_out_frames, mapped, rng)]
        except SceneError as error:
            logger.debug('seed %d, attempt %d: %s', seed, attempt, error)
    raise SceneError(f'seed {seed}: no way through the furniture in {FURNISHING_ATTEMPTS} '
                     f'attempts; use another seed')


def _lit_meshes(place: Place, image_width: int, seed: int) -> list[Mesh]:
    """The place with its lighting baked in, as finely as the images can show."""
    cell_m = min(max(0.03 * 480 / image_width, 0.03), 0.1)
    light = light_patches(place.patches, place.lights, place.sun, cell_m=cell_m,
                          bounce_lights=120 if image_width >= 240 else 24,
                          shadow_size=256 if image_width >= 240 else 128,
                          rng=np.random.default_rng([seed, 2]))
    return build_meshes(place.patches, light, exposure_for(place.patches, light))


def _render_drives(folder: Path, meshes: list[Mesh], drives: list[Drive],
                   image_size: tuple[int, int], seed: int, progress: bool) -> None:
    K_33 = pinhole_intrinsics(image_size, HORIZONTAL_FOV_DEG)
    np.savetxt(folder / 'K.txt', K_33, fmt='%.9f')
    coarse_size = (math.ceil(image_size[0] / DEPTH_STRIDE),
                   math.ceil(image_size[1] / DEPTH_STRIDE))
    # Pixel (x, y) of the depth is pixel (4 x, 4 y) of the image, so all but K[2, 2] shrinks.
    K_depth = np.diag([1 / DEPTH_STRIDE, 1 / DEPTH_STRIDE, 1.0]) @ K_33
    camera = MeshRenderer(meshes, K_33, image_size, supersampling=SUPERSAMPLING)
    depth_camera = MeshRenderer(meshes, K_depth, coarse_size)
    rng = np.random.default_rng([seed, 3])
    sensor = Sensor(image_size, rng)
    total = sum(len(drive.stamp_s_n) for drive in drives)
    done = 0
    for drive in drives:
        phase = rng.uniform(0, 6.28)
        for index, T_world_camera in enumerate(drive.T_world_camera_n44):
            name = frame_name(drive, index)
            gain = DRIVE_EXPOSURES[drive.name] * (1 + 0.04 * math.sin(phase + 0.07 * index))
            image = sensor.expose(camera.color(T_world_camera), gain)
            Image.fromarray(image).save(folder / 'rgb' / f'{name}.jpg', quality=JPEG_QUALITY)
            depth = depth_in_millimetres(depth_camera.depth(T_world_camera))
            Image.fromarray(depth).save(folder / 'depth' / f'{name}.png')
            np.savetxt(folder / 'poses' / f'{name}.txt', T_world_camera, fmt='%.9f')
            done += 1
            if progress and done * 10 // total > (done - 1) * 10 // total:
                logger.info('rendered %d of %d images', done, total)
    camera.close()
    depth_camera.close()


def depth_in_millimetres(depth_m: Float64Array | np.ndarray) -> np.ndarray:
    """uint16 millimetres; 0 where nothing was met or beyond what 16 bits hold."""
    millimetres = np.round(np.where(np.isfinite(depth_m), depth_m, 0.0) * 1000)
    return np.where(millimetres > 65535, 0, millimetres).astype(np.uint16)


def frame_name(drive: Drive, index: int) -> str:
    """File stem of a drive's image."""
    return f'{drive.name}_{index:04d}'


def _write_lists(folder: Path, drives: list[Drive]) -> None:
    with (folder / 'frames.csv').open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['name', 'sequence', 'stamp_s'])
        for drive in drives:
            writer.writerows([frame_name(drive, index), drive.name, f'{stamp_s:.3f}']
                             for index, stamp_s in enumerate(drive.stamp_s_n))
    held_out = drives[-1]
    names = [frame_name(held_out, index) for index in range(len(held_out.stamp_s_n))]
    (folder / 'splits' / 'standard.txt').write_text('\n'.join(names) + '\n')
