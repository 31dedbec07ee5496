# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A small rendered place and a model of it, made once for all tests and workers of a session."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked_programs import finish
from PIL import Image

from implicit_relocalizer.data.frames import Frame, Scene, SceneError
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.data.readers.folder import read_folder_scene

IMAGE_SIZE = (160, 120)
MAPPING_FRAMES, HELD_OUT_FRAMES = 110, 60
# What makes the demo's model small and quickly made; held-out frames are found to 2 cm.
TRAINING = ['input_width=160', 'validation_fraction=0', 'landmarks.most=8000',
            'landmarks.partner_views=8', 'landmarks.points_asked=100']
MEASURED_FRAMES = 4
NOTHING_DRAWS = 3  # exit status


@dataclass(frozen=True)
class RenderedPlace:
    """A scene, its model, and its held-out frames in the order of the drive (10 Hz)."""

    scene: Scene
    model: Path

    @property
    def held_out(self) -> tuple[Frame, ...]:
        """The drive that nothing was learned from."""
        return self.scene.split('test')


def rendered_place(tmp_path_factory: pytest.TempPathFactory) -> RenderedPlace:
    """Render and learn the place, unless another test file or worker has: 35 s of one core.

    Skips the test, with the reason, where nothing can be drawn.
    """
    pytest.importorskip('vtkmodules', reason='needs VTK, from the extra demo')
    folder = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        folder = folder.parent  # that of the session; ours is the worker's
    place, run = folder / 'rendered_place', folder / 'rendered_place_run'
    with (folder / 'rendered_place.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Each in a process of its own: VTK and torch's compiler do not live together in one.
        for result, function, arguments in ((place, render, (place,)),
                                            (run / 'model.pt', train, (place, run))):
            if not result.exists():
                status, output = finish(folder / f'{function.__name__}.log', function, *arguments)
                if status == NOTHING_DRAWS:
                    pytest.skip(f'no rendered place: {output}')
                assert status == 0, output
    return RenderedPlace(read_folder_scene(place), run / 'model.pt')


def render(place: Path) -> None:
    """Render the scene; ends the process with `NOTHING_DRAWS` where nothing can be drawn."""
    from implicit_relocalizer.data.synthetic import synthesize
    from implicit_relocalizer.data.synthetic.offscreen import find_window_class
    try:
        find_window_class()
    except SceneError as error:
        print(error)
        sys.exit(NOTHING_DRAWS)
    synthesize(place, seed=0, image_size=IMAGE_SIZE, mapping_frames=MAPPING_FRAMES,
               held_out_frames=HELD_OUT_FRAMES, progress=False)


def train(place: Path, run: Path) -> None:
    """Learn the model; held-out frames are for the tests to measure."""
    from implicit_relocalizer.cli.train import find_config
    from implicit_relocalizer.evaluation.accuracy import measure_accuracy
    from implicit_relocalizer.training.configuration_file import load_configuration
    from implicit_relocalizer.training.trainer import train_scene

    def measure_some(module: Any, frames: Sequence[Frame], device: Any) -> dict[str, Any]:
        return measure_accuracy(module, frames[:MEASURED_FRAMES], device)

    train_scene(read_folder_scene(place), load_configuration(find_config('landmarks'), TRAINING),
                run, measure_some, show_progress=False)


def rgb_of(frame: Frame) -> np.ndarray:
    """The image of a frame, (H, W, 3) uint8."""
    return read_frame_image(frame).numpy()


def cropped_to(rgb_hw3: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of an image, resized to (width, height)."""
    image = Image.fromarray(rgb_hw3)
    scale = max(size[0] / image.width, size[1] / image.height)
    image = image.resize((round(image.width * scale), round(image.height * scale)),
                         Image.Resampling.LANCZOS)
    left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
    return np.asarray(image.crop((left, top, left + size[0], top + size[1])))
