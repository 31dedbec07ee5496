# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""More landmarks for a model: from images whose positions are known, orientations or not.

What the model knows already says how an image at its border is turned, once its position is given.
Such images bring landmarks of their own, with which images further out can be understood. Nothing
is forgotten: the landmarks that were there stay as they are.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from implicit_relocalizer.data.images import PosedImages
from implicit_relocalizer.geometry.hypotheses import reprojection_errors
from implicit_relocalizer.geometry.orientation import orientation_at_position
from implicit_relocalizer.network.landmark_cells import cell_count
from implicit_relocalizer.network.landmarks import LandmarkHead, padded_count
from implicit_relocalizer.network.localizer import Localizer, error_weights
from implicit_relocalizer.training.configuration import LandmarkConfig
from implicit_relocalizer.training.landmarks.depths import fill_in, search_lines, vote
from implicit_relocalizer.training.landmarks.observations import Observations, observe
from implicit_relocalizer.training.landmarks.overlap import overlapping_views
from implicit_relocalizer.training.landmarks.selection import Landmarks, select_landmarks

logger = logging.getLogger(__name__)

HYPOTHESES = 256
BATCH = 8
# An image of an unknown part of two_rooms agreed with its best orientation in 7 of 500 points at
# most; those with 13 or more had the right one, within 3 degrees.
TRUSTED_INLIERS = 25
INLIER_PX = 5.0
LEAST_VIEWS = 3
IMAGES_PER_ROUND = 24
PARTNERS_AROUND = 24


@dataclass(frozen=True)
class Extension:
    """What came of it.

    Attributes:
        rounds: How often the images were looked at.
        trusted: Images whose orientation was labelled or found.
        landmarks_before, landmarks_after: Of the model.
    """

    rounds: int
    trusted: int
    landmarks_before: int
    landmarks_after: int


@torch.no_grad()
def extend_landmarks(localizer: Localizer, images: PosedImages, rotations_known: bool,
                     config: LandmarkConfig, device: torch.device, seed: int) -> Extension:
    """Give the localizer's landmark head the landmarks of more images.

    Args:
        localizer: With a `LandmarkHead`, which is replaced by a larger one.
        images: Positions relative to the localizer's origin; rotations are read only if
            `rotations_known`.
        rotations_known: Whether the labels hold orientations.
        config: How depths are searched; `most` bounds the new landmarks, not the old ones.
        device: Where to compute.
        seed: Of the hypotheses and the order of the images.
    """
    original = localizer.head
    assert isinstance(original, LandmarkHead)
    generator = torch.Generator().manual_seed(seed)
    size = (localizer.input_width, localizer.input_height)
    observations = observe(images, localizer.encoder, size, device)
    grow = _Growth(original, observations, localizer.nominal_focal_px, config, generator)
    if rotations_known:
        grow.trusted_i[:] = True
    else:
        while grow.one_round():
            pass
        grow.settle()
    localizer.head = grow.from_all_trusted()
    return Extension(grow.rounds, int(grow.trusted_i.sum()), len(original.points_m3),
                     len(localizer.head.points_m3))


class _Growth:
    """A map that grows from its border into images whose positions are known."""

    def __init__(self, original: LandmarkHead, observations: Observations,
                 nominal_focal_px: float, config: LandmarkConfig,
                 generator: torch.Generator) -> None:
        self._original, self._head = original, original
        self._observations, self._focal_px = observations, nominal_focal_px
        self._config, self._generator = config, generator
        count = len(observations.K_i33)
        self._R_i33 = observations.R_world_camera_i33.clone()
        self.trusted_i = torch.zeros(count, dtype=torch.bool)
        self.rounds = 0

    def one_round(self) -> bool:
        """Look at the images that are next; whether the map grew."""
        self.rounds += 1
        asked = self._next_images()
        if len(asked) == 0:
            return False
        R_a33, inliers_a = _estimate(self._head, self._observations, asked, self._generator)
        new = asked[inliers_a >= TRUSTED_INLIERS]
        self._R_i33[new] = R_a33[inliers_a >= TRUSTED_INLIERS]
        self.trusted_i[new] = True
        logger.info('round %d: %d more orientations, %d of %d images', self.rounds, len(new),
                    int(self.trusted_i.sum()), len(self.trusted_i))
        if len(new) == 0 or int(self.trusted_i.sum()) < LEAST_VIEWS:
            return False
        around = self._nearest_to(new, self.trusted_i, len(new) + PARTNERS_AROUND)
        self._head = _extended(self._head, self._chosen(around), self._focal_px, self._config,
                               self._generator)
        return True

    def settle(self) -> None:
        """Find all trusted orientations anew, now that the whole map is there."""
        trusted = torch.nonzero(self.trusted_i)[:, 0]
        if len(trusted):
            self._R_i33[trusted], _ = _estimate(self._head, self._observations, trusted,
                                                self._generator)

    def from_all_trusted(self) -> LandmarkHead:
        """The original head with the landmarks of all trusted images."""
        trusted = torch.nonzero(self.trusted_i)[:, 0]
        if len(trusted) < LEAST_VIEWS:
            return self._original
        return _extended(self._original, self._chosen(trusted), self._focal_px, self._config,
                         self._generator)

    def _next_images(self) -> Tensor:
        """All images at first, then those nearest to the trusted ones."""
        pending = torch.nonzero(~self.trusted_i)[:, 0]
        if self.rounds == 1:
            return pending
        return self._nearest_to(torch.nonzero(self.trusted_i)[:, 0], ~self.trusted_i,
                                IMAGES_PER_ROUND)

    def _nearest_to(self, images: Tensor, among_i: Tensor, count: int) -> Tensor:
        positions = self._observations.t_local_camera_i3.cpu()
        candidates = torch.nonzero(among_i)[:, 0]
        distance = torch.cdist(positions[candidates], positions[images]).amin(dim=1)
        return candidates[distance.argsort()[:count]]

    def _chosen(self, images: Tensor) -> Observations:
        chosen = images.to(self._observations.K_i33.device)
        observations = replace(self._observations, R_world_camera_i33=self._R_i33)
        return replace(
            observations, features_inc=observations.features_inc[chosen],
            pixels_in2=observations.pixels_in2[chosen], K_i33=observations.K_i33[chosen],
            R_world_camera_i33=observations.R_world_camera_i33[chosen],
            t_local_camera_i3=observations.t_local_camera_i3[chosen])


def _estimate(head: LandmarkHead, observations: Observations, images_a: Tensor,
              generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Orientations of images at their known positions, and how many points agree with each."""
    rotations, counts = [], []
    scale = observations.pixel_scale
    for images in images_a.split(BATCH):
        points, _, log_error = head(observations.features_inc[images].float())
        pixels, K = observations.pixels_in2[images], observations.K_i33[images]
        t_b3 = observations.t_local_camera_i3[images]
        uniforms = torch.rand(HYPOTHESES, 2, generator=generator).to(points)
        R_b33, _ = orientation_at_position(points, pixels, K, t_b3, error_weights(log_error),
                                           uniforms, 10.0 * scale, 3.0 * scale, iterations=8)
        errors = reprojection_errors(R_b33.unsqueeze(1), t_b3.unsqueeze(1), points, pixels, K)
        rotations.append(R_b33)
        counts.append((errors[:, 0] < INLIER_PX * scale).sum(dim=1).cpu())
    return torch.cat(rotations), torch.cat(counts)


def _extended(head: LandmarkHead, observations: Observations, nominal_focal_px: float,
              config: LandmarkConfig, generator: torch.Generator) -> LandmarkHead:
    """The head with the landmarks that these images add to it."""
    # image by image: the features of thousands of images do not fit in float32
    queries = torch.stack([head.project(features.float())
                           for features in observations.features_inc])
    partners = overlapping_views(observations.R_world_camera_i33, observations.t_local_camera_i3,
                                 head.nominal_depth_m, config.partner_views)
    depths = vote(search_lines(observations, queries, partners, head.nominal_depth_m))
    known = head.keys_md.float() * head.key_scale, head.points_m3
    added = select_landmarks(observations, queries, fill_in(depths, observations.pixels_in2),
                             config.most, generator, known=known)
    return _joined(head, added, observations, nominal_focal_px, generator)


def _joined(head: LandmarkHead, added: Landmarks, observations: Observations,
            nominal_focal_px: float, generator: torch.Generator) -> LandmarkHead:
    zoom = observations.K_i33[added.image_m.to(observations.K_i33.device)][:, 0, 0] \
        / nominal_focal_px
    log_depth = torch.cat([head.log_depth_m, (added.depth_m / zoom).log().half()])
    quantised = (added.keys_md / head.key_scale).round().clamp(-127, 127).to(torch.int8)
    keys = torch.cat([head.keys_md, quantised])
    points = torch.cat([head.points_m3, added.points_local_m3])
    rows = (torch.arange(padded_count(len(points))) % len(points)).to(points.device)
    larger = LandmarkHead(head.feature_mean_c.shape[0], keys.shape[1], len(rows),
                          head.nominal_depth_m, cell_count(len(rows))).to(points.device)
    for name, value in (('keys_md', keys[rows]), ('points_m3', points[rows]),
                        ('log_depth_m', log_depth[rows])):
        getattr(larger, name).copy_(value)
    for name in ('feature_mean_c', 'projection_cd', 'key_scale', 'similarity_scale',
                 'outlier_similarity', 'error_of_mass'):
        getattr(larger, name).copy_(getattr(head, name))
    larger.arrange(generator)
    return larger.eval()
