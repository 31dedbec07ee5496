# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a pose is weighed against: pose regression on two encoders, and a SIFT map."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from implicit_relocalizer.data.frames import Scene, SceneError
from implicit_relocalizer.evaluation.sift_features import FeatureDetector
from implicit_relocalizer.evaluation.sift_map import SiftLocalizer, build_sift_map
from implicit_relocalizer.evaluation.speed.rounds import Subject
from implicit_relocalizer.network.model_file import save_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from implicit_relocalizer.evaluation.speed.images import BenchmarkImages, Size
    from implicit_relocalizer.evaluation.speed.runtime import Runner, Runtime
    from implicit_relocalizer.network.model_file import ModelMetadata

MOBILENET = 'mobilenet_v3_large'


@contextmanager
def untrained_regressors(encoders: Iterable[str], metadata: ModelMetadata, input_size: Size,
                         runtime: Runtime, device: torch.device) -> Iterator[dict[str, Runner]]:
    """Pose regressions by the names of their encoders, written and loaded like any model file.

    Their weights are random, which neither size nor time depends on.
    """
    with TemporaryDirectory() as folder:
        runners = {}
        for name in set(encoders):
            torch.manual_seed(0)
            module = torch.jit.script(runtime.build_regressor(name, input_size).eval())
            path = Path(folder) / f'{name}.pt'
            save_model(module, path, replace(metadata, encoder=name, calibration={}))
            runners[name] = runtime.open(path, device)
        yield runners


def build_sift_localizer(scene: Scene, features: int = 2000, neighbours: int = 12,
                         show_progress: bool = True) -> SiftLocalizer:
    """A SIFT map of a scene's training images, as `implicit-relocalizer sift-map` makes it.

    Raises:
        SceneError: no training frames, or nothing could be triangulated.
    """
    if not scene.split('train'):
        raise SceneError(f'{scene.root}: has no training frames to make a map of')
    detector = FeatureDetector(features)
    return SiftLocalizer(
        build_sift_map(scene.split('train'), detector, neighbours, show_progress), detector)


def sift_subject(localizer: SiftLocalizer, images: BenchmarkImages) -> Subject:
    """SIFT, nearest neighbours in the map, PnP-RANSAC and Levenberg-Marquardt."""
    return Subject('sift_map',
                   lambda i: localizer.locate(images.images_hw3[i], images.K_n33[i]))
