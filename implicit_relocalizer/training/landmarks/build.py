# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The landmark head of a place, from its posed images: steps with names."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from implicit_relocalizer.data.images import PosedImages
from implicit_relocalizer.network.encoders import Encoder
from implicit_relocalizer.network.landmark_cells import cell_count
from implicit_relocalizer.network.landmarks import LandmarkHead, padded_count
from implicit_relocalizer.training.configuration import ConfigurationError, LandmarkConfig
from implicit_relocalizer.training.landmarks.calibration import calibrate
from implicit_relocalizer.training.landmarks.depths import (
    SURE_VOTES,
    Depths,
    fill_in,
    matched_differences,
    search_lines,
    vote,
)
from implicit_relocalizer.training.landmarks.observations import Observations, observe
from implicit_relocalizer.training.landmarks.overlap import overlapping_views
from implicit_relocalizer.training.landmarks.projections import (
    Projection,
    discriminant_projection,
    principal_projection,
)
from implicit_relocalizer.training.landmarks.selection import Landmarks, select_landmarks
from implicit_relocalizer.training.phases import Phases

logger = logging.getLogger(__name__)

FEATURES_FOR_STATISTICS = 60_000
DIFFERENCES_FOR_STATISTICS = 60_000
LEAST_DIFFERENCES = 2000
DEPTH_ROUNDS = 3
DEPTH_CHANGE = 1.6
# Of the keypoints. Unrelated poses reach 0.15 %, images far apart (every 8th of two_rooms) 1.5 %.
LEAST_AGREEMENT = 0.005


def build_landmark_head(images: PosedImages, encoder: Encoder, input_size: tuple[int, int],
                        nominal_focal_px: float, nominal_depth_m: float, config: LandmarkConfig,
                        device: torch.device, seed: int, phases: Phases) -> LandmarkHead:
    """Learn the landmarks of a place.

    Args:
        images: All training images.
        encoder: Frozen.
        input_size: Width and height that the network sees.
        nominal_focal_px: Focal length that the head's depths are for.
        nominal_depth_m: First guess of how far things are; corrected by what is found.
        config: Settings.
        device: Where to compute.
        seed: Of the random orders.
        phases: Get the time of each step.

    Raises:
        ConfigurationError: too few images, or none that agree on any depth.
    """
    if len(images) < 3:
        raise ConfigurationError(f'{len(images)} training images; landmarks need 3 or more that '
                                 f'see the same things')
    generator = torch.Generator().manual_seed(seed)
    with phases.step_by_step('describing', len(images)) as advance:
        observations = observe(images, encoder, input_size, device, advance)
    projection, depths, depth_m = _triangulate(observations, nominal_depth_m, config, generator,
                                               phases)
    with phases.step('keys'):
        queries = _queries(projection, observations)
    with phases.step('voting'):
        inverse_depth = fill_in(depths, observations.pixels_in2)
    with phases.step_by_step('selecting', len(images)) as advance:
        landmarks = select_landmarks(observations, queries, inverse_depth, config.most, generator,
                                     advance)
    logger.info('%d landmarks from %d keypoints; median depth %.1f m', len(landmarks),
                queries.shape[0] * queries.shape[1], depth_m)
    with phases.step('arranging'):
        head = _assemble(encoder.channels, projection, landmarks, observations, nominal_focal_px,
                         depth_m).to(device)
        order = head.arrange(generator).cpu()
    with phases.step('calibrating'):
        calibrate(head, observations, landmarks.image_m[_padding(len(landmarks))][order])
    return head


def _triangulate(observations: Observations, nominal_depth_m: float, config: LandmarkConfig,
                 generator: torch.Generator, phases: Phases,
                 ) -> tuple[Projection, Depths, float]:
    """Keys that tell points apart, depths that views agree on, and their median in metres.

    Which views are partners and which depths are possible depends on how far things are: the
    search is repeated when the first guess was far off.
    """
    with phases.step('keys'):
        flat = observations.features_inc.flatten(0, 1)
        sample = flat[::max(1, len(flat) // FEATURES_FOR_STATISTICS)]
        projection = principal_projection(sample, config.key_size)
        queries = _queries(projection, observations)
    count = len(observations.K_i33)
    for _ in range(DEPTH_ROUNDS):
        partners = overlapping_views(observations.R_world_camera_i33,
                                     observations.t_local_camera_i3, nominal_depth_m,
                                     config.partner_views)
        with phases.step_by_step('triangulating', count) as advance:
            matches = search_lines(observations, queries, partners, nominal_depth_m, advance)
        with phases.step('voting'):
            depths = vote(matches)
        agreed = depths.inverse_depth_in[depths.votes_in >= 2]
        if len(agreed) == 0:
            raise _disagreement(0.0)
        found_m = float(1.0 / agreed.median())
        close = max(found_m / nominal_depth_m, nominal_depth_m / found_m) < DEPTH_CHANGE
        nominal_depth_m = found_m
        if close:
            break
    sure_votes = min(SURE_VOTES, partners.shape[1])
    share = float((depths.votes_in >= sure_votes).float().mean())
    if share < LEAST_AGREEMENT:
        raise _disagreement(share)
    with phases.step('keys'):
        differences = matched_differences(observations, partners, matches, depths,
                                          DIFFERENCES_FOR_STATISTICS, generator)
        if len(differences) >= LEAST_DIFFERENCES:
            projection = discriminant_projection(sample, differences, config.key_size)
        else:
            logger.info('only %d matches: keys are principal components', len(differences))
    return projection, depths, nominal_depth_m


def _disagreement(share: float) -> ConfigurationError:
    return ConfigurationError(
        f'the training images agree on the depth of {100.0 * share:.1f} % of their keypoints, as '
        'if their poses had nothing to do with them; check poses and intrinsics with '
        '`implicit-relocalizer inspect`, and that the camera moved and did not only turn')


def _queries(projection: Projection, observations: Observations) -> Tensor:
    """Keys (I, N, d) of all keypoints, image by image: their features do not fit in float32."""
    return torch.stack([projection(features_nc) for features_nc in observations.features_inc])


def _assemble(channels: int, projection: Projection, landmarks: Landmarks,
              observations: Observations, nominal_focal_px: float,
              nominal_depth_m: float) -> LandmarkHead:
    rows = _padding(len(landmarks))
    head = LandmarkHead(channels, projection.matrix_cd.shape[1], len(rows), nominal_depth_m,
                        cell_count(len(rows)))
    keys = landmarks.keys_md[rows].cpu()
    scale = float(keys.abs().max()) / 127.0
    head.key_scale.fill_(scale)
    head.keys_md.copy_((keys / scale).round().to(torch.int8))
    head.points_m3.copy_(landmarks.points_local_m3[rows].cpu())
    zoom = observations.K_i33[landmarks.image_m][:, 0, 0].cpu() / nominal_focal_px
    head.log_depth_m.copy_((landmarks.depth_m.cpu() / zoom).log()[rows].half())
    head.feature_mean_c.copy_(projection.mean_c.cpu())
    head.projection_cd.copy_(projection.matrix_cd.cpu())
    return head


def _padding(count: int) -> Tensor:
    """Rows that fill the last group by repeating the first landmarks."""
    return torch.arange(padded_count(count)) % count
