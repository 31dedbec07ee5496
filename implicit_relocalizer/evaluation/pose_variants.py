# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Other ways from the same two clouds to a pose, measured on one trained model.

Thresholds are those of `network.localizer.Localizer`, for an image 360 px wide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.evaluation.geometry_errors import REQUIRED_OUTPUTS, has_points
from implicit_relocalizer.evaluation.locating import LocatedFrame, is_pose, summarize_located
from implicit_relocalizer.evaluation.metrics import Float64Array
from implicit_relocalizer.evaluation.perspective import pose_from_points
from implicit_relocalizer.geometry.hypotheses import best_hypothesis
from implicit_relocalizer.geometry.kabsch import weighted_kabsch
from implicit_relocalizer.geometry.refinement import refine_pose

# Name in results -> for a person.
VARIANT_LABELS = {
    'kabsch_unweighted': 'Kabsch, unweighted',
    'kabsch': 'Kabsch, weighted',
    'hypotheses': 'best hypothesis',
    'kabsch_refined': 'weighted Kabsch + refinement',
    'hypotheses_refined': 'best hypothesis + refinement',
    'pnp_ransac': 'OpenCV PnP-RANSAC + LM on the same points'}

_REFERENCE_WIDTH_PX = 360.0
_HYPOTHESIS_COUNT = 128
_HYPOTHESIS_THRESHOLD_PX, _REFINEMENT_DELTA_PX, _REFINEMENT_START_PX = 10.0, 3.0, 12.0
_INLIER_PX = 5.0


class PoseVariants:
    """Collects, frame by frame, the poses that the variants give."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._uniforms_h3 = torch.rand(_HYPOTHESIS_COUNT, 3, generator=generator)
        self._located: dict[str, list[LocatedFrame]] = {}

    def observe(self, frame: Frame, image_size: tuple[int, int],
                outputs: Mapping[str, Tensor]) -> None:
        """Take one frame in; a model without points adds nothing."""
        if not has_points(outputs):
            return
        poses = self.poses(outputs, torch.from_numpy(frame.K_33), image_size[0])
        for name, T_44 in poses.items():
            usable = T_44 is not None and is_pose(T_44)
            self._located.setdefault(name, []).append(
                LocatedFrame(frame, T_44 if usable else None, None, 0.0))

    def poses(self, outputs: Mapping[str, Tensor], K_33: Tensor, width_px: int,
              ) -> dict[str, Float64Array | None]:
        """T_world_camera by variant.

        Args:
            outputs: Of the module: the clouds, weights and pixels.
            K_33: Intrinsics of the image that the pixels are in.
            width_px: Of that image.
        """
        world_n3, camera_n3, weights_n, pixels_n2 = (
            outputs[name].double().cpu() for name in REQUIRED_OUTPUTS)
        # near the origin: maps may be far from it
        centre_3 = world_n3.nan_to_num(0.0, 0.0, 0.0).mean(0)
        world, camera = (world_n3 - centre_3)[None], camera_n3[None]
        weights, pixels, K = weights_n[None], pixels_n2[None], K_33.double()[None]
        scale = width_px / _REFERENCE_WIDTH_PX

        def refined(R: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            R, t, _, _ = refine_pose(R, t, world, pixels, K, weights, 12,
                                     _REFINEMENT_DELTA_PX * scale, _REFINEMENT_START_PX * scale)
            return R, t

        unweighted = weighted_kabsch(camera, world, torch.ones_like(weights))[:2]
        weighted = weighted_kabsch(camera, world, weights)[:2]
        best = best_hypothesis(camera, world, pixels, K, weights, self._uniforms_h3,
                               _HYPOTHESIS_THRESHOLD_PX * scale)[:2]
        solved = {'kabsch_unweighted': unweighted, 'kabsch': weighted, 'hypotheses': best,
                  'kabsch_refined': refined(*weighted), 'hypotheses_refined': refined(*best)}
        poses: dict[str, Float64Array | None] = {
            name: _as_matrix(R[0], t[0] + centre_3) for name, (R, t) in solved.items()}
        perspective = pose_from_points(world_n3.numpy(), pixels_n2.numpy(), K_33.numpy(),
                                       _HYPOTHESIS_THRESHOLD_PX * scale,
                                       final_threshold_px=_INLIER_PX * scale)
        poses['pnp_ransac'] = None if perspective is None else perspective.T_world_camera
        return poses

    def summarize(self) -> dict[str, dict[str, Any]]:
        """`summarize_located` by variant; empty where nothing was observed."""
        return {name: summarize_located(located) for name, located in self._located.items()}


def _as_matrix(R_33: Tensor, t_3: Tensor) -> Float64Array:
    T_44 = np.eye(4)
    T_44[:3, :3], T_44[:3, 3] = R_33.numpy(), t_3.numpy()
    return T_44
