# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""How far the mixture can be believed: measured with each image's own landmarks hidden."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_relocalizer.network.landmark_cells import GROUP
from implicit_relocalizer.network.landmarks import LandmarkHead
from implicit_relocalizer.training.landmarks.observations import Observations

IMAGES_ASKED = 32
CANDIDATES_ASKED = 48
QUERIES_AT_ONCE = 100
OWN_PENALTY = -2.0  # below any cosine
SCALES = (8.0, 12.0, 16.0, 20.0, 26.0, 34.0)
OUTLIER_SIMILARITIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SIGMA_PX = 2.0
MAX_ERROR_PX = 100.0


@torch.no_grad()
def calibrate(head: LandmarkHead, observations: Observations, image_of_landmark_m: Tensor) -> None:
    """Set the head's similarity scale, outlier similarity and error curve.

    Some training images are asked about their own keypoints, without the landmarks taken from
    them. The scale and the outlier class are those under which the pixels that were seen are most
    likely (a mixture over the landmarks' projections, and a uniform background); the expected
    error is a line in the mass of the mixture, fitted to the logarithm of the errors.
    """
    images = torch.linspace(0, len(observations.K_i33) - 1, IMAGES_ASKED).round().long().unique()
    keys_dm = (head.keys_md.float() * head.key_scale).T.contiguous()
    asked = [_ask(head, keys_dm, observations, image_of_landmark_m, int(i)) for i in images]
    similarities = torch.cat([a[0] for a in asked])
    landmarks = torch.cat([a[1] for a in asked])
    errors = torch.cat([a[2] for a in asked]) / observations.pixel_scale
    width, height = observations.input_size
    background = 1.0 / (width * height) * observations.pixel_scale ** 2
    density = torch.exp(-errors / SIGMA_PX) / (2.0 * math.pi * SIGMA_PX ** 2)
    best = -math.inf
    for scale in SCALES:
        for outlier in OUTLIER_SIMILARITIES:
            logits = scale * torch.cat(
                [similarities, torch.full_like(similarities[:, :1], outlier)], dim=1)
            share = torch.softmax(logits, dim=1)
            likelihood = (share[:, :-1] * density).sum(1) + share[:, -1] * background
            mean = float(likelihood.clamp(min=1e-12).log().mean())
            if mean > best:
                best = mean
                head.similarity_scale.fill_(scale)
                head.outlier_similarity.fill_(outlier)
    kept = similarities[:, :head.candidates], landmarks[:, :head.candidates]
    points, _, mass = head.mix(*kept)
    error_px = torch.cat([_reprojection_px(points[n * len(a[0]):(n + 1) * len(a[0])],
                                           observations, int(i))
                          for n, (i, a) in enumerate(zip(images, asked, strict=True))])
    _fit_error_curve(head, mass, error_px)


def _ask(head: LandmarkHead, keys_dm: Tensor, observations: Observations,
         image_of_landmark_m: Tensor, image: int) -> tuple[Tensor, Tensor, Tensor]:
    """Similarities, indices and reprojection errors of an image's best foreign landmarks."""
    queries = head.project(observations.features_inc[image].float())
    hidden_m = OWN_PENALTY * (image_of_landmark_m.to(queries.device) == image)
    # in parts that stay in the processor's cache
    parts = [largest(torch.addmm(hidden_m, some, keys_dm), CANDIDATES_ASKED)
             for some in queries.split(QUERIES_AT_ONCE)]
    top, index = (torch.cat(column) for column in zip(*parts, strict=True))
    points = head.points_m3[index]
    errors = torch.stack([_reprojection_px(points[:, k], observations, image)
                          for k in range(points.shape[1])], dim=1)
    return top, index, errors


def largest(values_nm: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`topk` of rows that are long and of groups (see `LandmarkHead`): the same values, sooner.

    If a value is among the k largest, its group's largest is among the k largest groups.
    """
    grouped = values_nm.unflatten(1, (-1, GROUP))
    groups = grouped.amax(dim=2).topk(min(count, grouped.shape[1]), dim=1)[1]
    member = torch.arange(GROUP, device=groups.device)
    index = (groups.unsqueeze(-1) * GROUP + member).flatten(1)
    top, place = values_nm.gather(1, index).topk(min(count, values_nm.shape[1]), dim=1)
    return top, index.gather(1, place)


def _reprojection_px(points_local_n3: Tensor, observations: Observations, image: int) -> Tensor:
    camera = (points_local_n3 - observations.t_local_camera_i3[image]) \
        @ observations.R_world_camera_i33[image]
    projected = camera @ observations.K_i33[image].T
    pixels = projected[:, :2] / projected[:, 2:].clamp(min=1e-3)
    error = (pixels - observations.pixels_in2[image]).norm(dim=1)
    return torch.where(camera[:, 2] > 1e-2, error, error.new_tensor(1e4))


def _fit_error_curve(head: LandmarkHead, mass_n: Tensor, error_px_n: Tensor) -> None:
    """Least squares of log error against mass, errors between half a pixel and 100 px."""
    log_error = error_px_n.clamp(0.5, MAX_ERROR_PX).log().double().cpu()
    columns = torch.stack([torch.ones_like(mass_n), mass_n], dim=1).double().cpu()
    # on a GPU there is no solution where all masses are the same
    solution = torch.linalg.lstsq(columns, log_error.unsqueeze(1)).solution[:, 0]
    head.error_of_mass.copy_(solution.to(head.error_of_mass))
