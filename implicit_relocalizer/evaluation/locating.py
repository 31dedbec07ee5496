# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Ask a model for the pose of every frame, once, and let others look at what it answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.evaluation.frame_rows import (
    describe_pose,
    describe_silence,
    finite_or_none,
)
from implicit_relocalizer.evaluation.metrics import (
    RECALL_LIMITS,
    Float64Array,
    PoseErrors,
    RecallLimit,
    pose_errors,
    summarize,
)

Module = Callable[[Tensor, Tensor], dict[str, Tensor]]
Outputs = Mapping[str, Tensor]
# Sees a frame, its image's width and height, and the module's outputs.
Observer = Callable[[Frame, tuple[int, int], Outputs], None]

WARM_UP_CALLS = 4


@dataclass(frozen=True)
class LocatedFrame:
    """One frame and the answer to it.

    Attributes:
        frame: With the true pose.
        T_world_camera: The estimate, 4x4 camera-to-world in metres; None where there is none.
        confidence: As the method reports it, or None.
        duration_ms: From the decoded image to the pose.
        covariance_66: As the method states it, of the position (metres) and the rotation about the
            world's fixed axes (radians); None where it states none.
    """

    frame: Frame
    T_world_camera: Float64Array | None
    confidence: float | None
    duration_ms: float
    covariance_66: Float64Array | None = None


@torch.inference_mode()
def locate_frames(module: Module, frames: Iterable[Frame], device: torch.device | str = 'cpu',
                  observers: Sequence[Observer] = ()) -> list[LocatedFrame]:
    """Localize frames one by one. A pose that is not finite is no answer.

    Args:
        module: (H, W, 3) uint8 image and (3, 3) intrinsics -> named outputs.
        frames: Of one scene.
        device: Where the module lives.
        observers: Called with every frame after its pose was timed.
    """
    torch.set_flush_denormal(True)  # as on the robot (localization.model_runner)
    located = []
    for index, frame in enumerate(frames):
        image_hw3 = read_frame_image(frame)
        K_33 = torch.from_numpy(frame.K_33).float().to(device)
        if index == 0:  # TorchScript compiles during its first calls
            for _ in range(WARM_UP_CALLS):
                module(image_hw3.to(device), K_33)
        start_s = time.perf_counter()
        outputs = module(image_hw3.to(device), K_33)
        T_44 = np.eye(4)
        T_44[:3, :3] = outputs['R_world_camera'].double().cpu().numpy()
        T_44[:3, 3] = outputs['t_world_camera'].double().cpu().numpy()
        duration_ms = 1e3 * (time.perf_counter() - start_s)
        confidence, covariance = outputs.get('confidence'), outputs.get('covariance')
        located.append(LocatedFrame(
            frame, T_44 if is_pose(T_44) else None,
            None if confidence is None else float(confidence), duration_ms,
            None if covariance is None else covariance.double().cpu().numpy()))
        for observe in observers:
            observe(frame, (image_hw3.shape[1], image_hw3.shape[0]), outputs)
    return located


def is_pose(T_44: Float64Array) -> bool:
    """Whether a 4x4 matrix is finite and its rotation is one, to single precision."""
    R_33 = T_44[:3, :3]
    return bool(np.isfinite(T_44).all() and np.abs(R_33 @ R_33.T - np.eye(3)).max() < 1e-3
                and np.linalg.det(R_33) > 0)


def errors_of(answered: Sequence[LocatedFrame]) -> PoseErrors:
    """Errors of frames that all have an answer."""
    return pose_errors(
        np.array([answer.frame.T_world_camera for answer in answered]).reshape(-1, 4, 4),
        np.array([answer.T_world_camera for answer in answered]).reshape(-1, 4, 4))


def summarize_located(located: Sequence[LocatedFrame],
                      limits: Sequence[RecallLimit] = RECALL_LIMITS) -> dict[str, Any]:
    """`ErrorSummary.to_dict` of these frames, with `frames`, how many were asked."""
    answered = [answer for answer in located if answer.T_world_camera is not None]
    summary = summarize(errors_of(answered), len(located), limits)
    return {'frames': len(located), **summary.to_dict()}


def list_errors(located: Sequence[LocatedFrame],
                min_confidence: float | None = None) -> list[dict[str, Any]]:
    """Every frame with its answer, as JSON values.

    Name, split, sequence, stamp, pose, covariance and errors (`describe_pose`; without an answer
    they are None), confidence, milliseconds, and whether the answer is `accepted`: None where
    nobody says what confidence it needs.
    """
    rows = []
    for answer in located:
        frame, T_true = answer.frame, answer.frame.T_world_camera
        rows.append({
            'name': frame.name, 'split': frame.split, 'sequence': frame.sequence,
            'stamp_s': frame.stamp_s,
            **(describe_silence(T_true) if answer.T_world_camera is None else
               describe_pose(answer.T_world_camera, T_true, answer.covariance_66)),
            'confidence': finite_or_none(answer.confidence),
            'accepted': None if min_confidence is None else is_accepted(answer, min_confidence),
            'milliseconds': answer.duration_ms})
    return rows


def is_accepted(answer: LocatedFrame, min_confidence: float) -> bool:
    """Whether the node would let this answer out, as far as its own numbers decide.

    As `localization.estimate.check_estimate` does with its defaults: a pose at all, as confident
    as needed, and a covariance with variances where there is one.
    """
    covariance = answer.covariance_66
    return bool(answer.T_world_camera is not None and answer.confidence is not None
                and answer.confidence >= min_confidence
                and (covariance is None or (np.isfinite(covariance).all()
                                            and (np.diag(covariance) > 0.0).all())))


def spread(frames: Sequence[Frame], count: int | None) -> list[Frame]:
    """At most `count` frames, evenly spread; all where it is None."""
    if count is None or len(frames) <= count:
        return list(frames)
    return [frames[int((i + 0.5) * len(frames) / count)] for i in range(count)]
