# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The SIFT map measured as a model is: the same keys, the same two columns."""

from __future__ import annotations

import time
from typing import Any

from implicit_relocalizer.data.frames import Scene, SceneError
from implicit_relocalizer.evaluation.locating import list_errors, spread, summarize_located
from implicit_relocalizer.evaluation.model_evaluation import (
    SPLITS,
    median_duration_ms,
    progress_of,
)
from implicit_relocalizer.evaluation.sift_features import FeatureDetector
from implicit_relocalizer.evaluation.sift_map import SiftLocalizer, build_sift_map


def evaluate_sift_map(scene: Scene, features: int, neighbours: int,
                      max_train_frames: int | None = None, per_frame: bool = False,
                      show_progress: bool = True) -> dict[str, Any]:
    """Build a map of the training frames and find both splits in it; JSON values.

    The training column flatters: a training image's own descriptors are in the map.

    Raises:
        SceneError: no training frames, or nothing could be triangulated.
    """
    if not scene.split('train'):
        raise SceneError(f'{scene.root}: has no training frames to make a map of')
    start_s, start_cpu_s = time.monotonic(), time.process_time()
    detector = FeatureDetector(features)
    sift_map = build_sift_map(scene.split('train'), detector, neighbours, show_progress)
    localizer = SiftLocalizer(sift_map, detector)
    result: dict[str, Any] = {
        'model': {'name': 'SIFT map', 'bytes': sift_map.size_bytes},
        'points': len(sift_map.points_world_p3), 'descriptors': len(sift_map.point_d),
        'settings': {'features_per_image': features, 'neighbours': neighbours},
        'building_seconds': time.monotonic() - start_s,
        'building_cpu_seconds': time.process_time() - start_cpu_s}
    located_all = []
    for split in SPLITS:
        frames = scene.split(split)
        if split == 'train':
            frames = tuple(spread(frames, max_train_frames))
        located = localizer.locate_frames(progress_of(frames, split, show_progress))
        located_all += located
        result[split] = summarize_located(located)
    if per_frame:
        result['frames_detail'] = list_errors(located_all)
    return {**result, 'milliseconds_per_image': median_duration_ms(located_all),
            'wall_seconds': time.monotonic() - start_s}
