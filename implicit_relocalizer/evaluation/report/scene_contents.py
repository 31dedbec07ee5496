# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The contents of a report about a model on a scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from implicit_relocalizer.data.frames import Frame, Split
from implicit_relocalizer.evaluation.locating import LocatedFrame, Module
from implicit_relocalizer.evaluation.report.contents import ReportContents, ReportFrame
from implicit_relocalizer.evaluation.report.measures import measure_frames
from implicit_relocalizer.evaluation.report.viewing import (
    MAX_MAP_FRAMES,
    learned_cloud,
    picture_with_points,
    spread_evenly,
)

WORST_FRAMES = 10
SPLITS: tuple[Split, ...] = ('train', 'test')


def scene_contents(result: Mapping[str, Any], located: Mapping[Split, Sequence[LocatedFrame]],
                   module: Module, min_confidence: float,
                   device: torch.device | str = 'cpu') -> ReportContents:
    """Gather what a page shows: looks again at the worst held-out frames and at some others.

    Args:
        result: As its file holds it.
        located: The answers by split, in the order of the scene.
        module: What gave them.
        min_confidence: What an answer needs to be accepted.
        device: Where the module lives.
    """
    answers = [answer for split in SPLITS for answer in located.get(split, ())]
    start_s = min((answer.frame.stamp_s for answer in answers
                   if answer.frame.stamp_s is not None), default=None)
    frames = tuple(_report_frame(answer, start_s, min_confidence) for answer in answers)
    measures = measure_frames(frames)
    held_out = np.array([i for i, frame in enumerate(frames) if frame.group == 'test'], np.int64)
    unanswered = [int(i) for i in held_out if not measures.is_answered[i]]
    pictured = [*measures.worst(held_out, WORST_FRAMES), *unanswered[:2]]
    scene_frames: list[Frame] = [answer.frame for answer in answers]
    notes = {}
    cloud = learned_cloud(module, spread_evenly(scene_frames, MAX_MAP_FRAMES), device)
    if cloud is None:
        notes['cloud'] = 'The model gives no points, so there is no learned place to show.'
    return ReportContents(
        str(result.get('scene', 'scene')), 'scene', result, frames,
        pictures={i: picture_with_points(module, scene_frames[i], device) for i in pictured},
        cloud=cloud, notes=notes)


def _report_frame(answer: LocatedFrame, start_s: float | None, threshold: float) -> ReportFrame:
    frame, confidence = answer.frame, answer.confidence
    refusal = ''
    if answer.T_world_camera is None:
        refusal = 'the model gave no pose: its numbers were not finite or no rotation'
    elif confidence is not None and not confidence >= threshold:
        refusal = (f'would be refused: confidence {confidence:.3f} is below the threshold '
                   f'{threshold:.3f}')
    return ReportFrame(
        frame.name, frame.split,
        None if frame.stamp_s is None or start_s is None else frame.stamp_s - start_s,
        frame.T_world_camera, answer.T_world_camera, answer.covariance_66, confidence,
        None if confidence is None or answer.T_world_camera is None else confidence >= threshold,
        refusal)
