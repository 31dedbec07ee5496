# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Depth of keypoints from known poses: epipolar search, votes of several views, neighbours.

Learning from poses alone does not mean one ray at a time. With both poses known, a keypoint's
partner in another view lies on a line, and each candidate on it names a depth. Views vote;
keypoints without a majority take the depth of their neighbours in the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_relocalizer.training.landmarks.observations import Observations

LINE_DISTANCE_PX = 1.5
LEAST_SIMILARITY = 0.5
NEAREST, FARTHEST = 0.12, 20.0
LEAST_DEPTH_RATIO = 0.02
SURE_VOTES = 3
NEIGHBOURS = 8


@dataclass(frozen=True)
class Matches:
    """The best partner of each keypoint in each of P partner views.

    Attributes:
        partner_inp: Index of the keypoint in the partner view.
        inverse_depth_inp: Which inverse depth (1/m) that means; 0 where there is none.
        deviation_inp: What an error of one pixel changes of it.
        similarity_inp: Cosine of the two keys; 0 where there is no partner.
    """

    partner_inp: Tensor
    inverse_depth_inp: Tensor
    deviation_inp: Tensor
    similarity_inp: Tensor


@dataclass(frozen=True)
class Depths:
    """What the views agree on.

    Attributes:
        inverse_depth_in: 1/m; 0 where no view has a partner.
        votes_in: Number of partner views that agree on it.
        agrees_inp: Which partners these are.
    """

    inverse_depth_in: Tensor
    votes_in: Tensor
    agrees_inp: Tensor


def search_lines(observations: Observations, queries_ind: Tensor, partners_ip: Tensor,
                 nominal_depth_m: float,
                 on_progress: Callable[[int], object] = lambda images_done: None) -> Matches:
    """Find each keypoint's most similar partner on its epipolar line in every partner view.

    Args:
        observations: Keypoints and cameras.
        queries_ind: Their keys, unit vectors.
        partners_ip: Which views to search (`overlap.overlapping_views`).
        nominal_depth_m: Depths from 0.12 to 20 times this are possible.
        on_progress: Called with the number of images done.
    """
    columns = []
    for a in range(len(partners_ip)):
        columns.append(_search_views(observations, queries_ind, a, partners_ip[a],
                                     nominal_depth_m))
        on_progress(a + 1)
    return Matches(*(torch.stack(column) for column in zip(*columns, strict=True)))


def _search_views(observations: Observations, queries_ind: Tensor, a: int, b_p: Tensor,
                  nominal_depth_m: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Partner, inverse depth, deviation and similarity (N, P) of view a's keypoints in views b."""
    scale = observations.pixel_scale
    K, R, t = (observations.K_i33, observations.R_world_camera_i33,
               observations.t_local_camera_i3)
    pixels_a, pixels_pm2 = observations.pixels_in2[a], observations.pixels_in2[b_p]
    homogeneous = torch.cat([pixels_a, torch.ones_like(pixels_a[:, :1])], dim=1)
    # the projection in b of the point at inverse depth w is far + w * near, homogeneous
    to_pixels_p33 = R[b_p] @ K[b_p].transpose(1, 2)
    far_pn3 = homogeneous @ torch.linalg.inv(K[a]).T @ R[a].T @ to_pixels_p33
    near_p13 = (t[a] - t[b_p]).unsqueeze(1) @ to_pixels_p33
    similarity = queries_ind[a] @ queries_ind[b_p].transpose(1, 2)
    # few pairs look alike: only they are worth any geometry
    view, row, column = torch.nonzero(similarity > LEAST_SIMILARITY, as_tuple=True)
    inverse_depth, px_per_unit, distance_px = _on_line(
        far_pn3[view, row], near_p13[view, 0], pixels_pm2[view, column])
    possible = ((distance_px < LINE_DISTANCE_PX * scale) & (px_per_unit > 0)
                & (inverse_depth > 1.0 / (FARTHEST * nominal_depth_m))
                & (inverse_depth < 1.0 / (NEAREST * nominal_depth_m)))
    pair = view[possible], row[possible], column[possible]
    score = torch.full_like(similarity, -1.0)
    score[pair] = similarity[pair] - 0.03 / scale * distance_px[possible]
    best, partner = score.max(dim=2)
    good = best > LEAST_SIMILARITY
    chosen_pn2 = pixels_pm2.gather(1, partner.unsqueeze(-1).expand(-1, -1, 2))
    inverse_depth, px_per_unit, _ = _on_line(far_pn3, near_p13, chosen_pn2)
    deviation = scale / px_per_unit.clamp(min=1e-6)
    return (partner.T, torch.where(good, inverse_depth, 0.0).T,
            torch.where(good, deviation, deviation.new_tensor(1e3)).T,
            torch.where(good, best, 0.0).T)


def _on_line(far: Tensor, near: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where a keypoint's line, far + w * near (..., 3), passes nearest to a pixel (..., 2).

    Returns:
        The inverse depth w there, by how many pixels the line moves on per unit of it (0 where
        the point would lie behind the camera), and the distance in pixels.
    """
    # w (near_xy - u near_z) = -(far_xy - u far_z) for the pixel u
    along = near[..., :2] - pixels * near[..., 2:]
    rest = far[..., :2] - pixels * far[..., 2:]
    length = along.square().sum(dim=-1).clamp(min=1e-12).sqrt()
    inverse_depth = -(rest * along).sum(dim=-1) / length.square()
    across = (rest[..., 0] * along[..., 1] - rest[..., 1] * along[..., 0]) / length
    depth_ratio = far[..., 2] + inverse_depth * near[..., 2]  # in the one view and the other
    in_front = depth_ratio > LEAST_DEPTH_RATIO
    depth_ratio = depth_ratio.clamp(min=LEAST_DEPTH_RATIO)
    return inverse_depth, in_front * length / depth_ratio, across.abs() / depth_ratio


def vote(matches: Matches) -> Depths:
    """For each keypoint, the depth that most views agree on, and those views' weighted mean."""
    inverse_depth, deviation = matches.inverse_depth_inp, matches.deviation_inp
    found = matches.similarity_inp > 0
    images = []
    for w, sigma, ok, similarity in zip(inverse_depth, deviation, found, matches.similarity_inp,
                                        strict=True):
        tolerance = 2.0 * torch.sqrt(sigma[:, :, None] ** 2 + sigma[:, None, :] ** 2)
        agree = (w[:, :, None] - w[:, None, :]).abs() < tolerance
        agree = agree & ok[:, :, None] & ok[:, None, :]
        support = (agree * similarity[:, None, :] ** 2).sum(dim=2)
        # a vote that would agree with anything is worth less
        support = support - 0.2 * (sigma / w.clamp(min=1e-4)).clamp(max=5.0)
        best = torch.where(ok, support, support.new_tensor(-9.0)).argmax(dim=1)
        agrees = agree[torch.arange(len(best)), best]
        weight = agrees * similarity ** 2 / sigma ** 2
        mean = (weight * w).sum(1) / weight.sum(1).clamp(min=1e-12)
        images.append((mean, agrees.sum(1), agrees))
    return Depths(*(torch.stack(column) for column in zip(*images, strict=True)))


def fill_in(depths: Depths, pixels_in2: Tensor) -> Tensor:
    """Inverse depth of every keypoint: its own where views agree, else its neighbours' median.

    Three agreeing partners are believed; two if they do not contradict the neighbours by more than
    a quarter. Images in which only a handful of keypoints have any partner keep what they have: 0
    for the others.
    """
    images = []
    for w, votes, pixels in zip(depths.inverse_depth_in, depths.votes_in, pixels_in2, strict=True):
        sure = votes >= SURE_VOTES
        if int(sure.sum()) <= NEIGHBOURS:
            sure = votes >= 1
        if int(sure.sum()) <= NEIGHBOURS:
            images.append(w)
            continue
        # the faster way by products is off by tenths of a pixel: a keypoint would neighbour itself
        distance = torch.cdist(pixels, pixels[sure],
                               compute_mode='donot_use_mm_for_euclid_dist')
        distance = torch.where(distance < 1e-3, distance.new_tensor(1e6), distance)
        near, index = distance.topk(NEIGHBOURS, dim=1, largest=False)
        weight = votes[sure][index] / (near + 3.0) ** 2
        expected = _weighted_median(w[sure][index], weight)
        agrees = (votes >= 2) & ((w - expected).abs() < 0.25 * expected)
        images.append(torch.where((votes >= SURE_VOTES) | agrees, w, expected))
    return torch.stack(images)


def _weighted_median(values_nk: Tensor, weights_nk: Tensor) -> Tensor:
    ordered, order = values_nk.sort(dim=1)
    cumulative = weights_nk.gather(1, order).cumsum(dim=1)
    middle = (cumulative < 0.5 * cumulative[:, -1:]).sum(dim=1, keepdim=True)
    return ordered.gather(1, middle.clamp(max=values_nk.shape[1] - 1))[:, 0]


def matched_differences(observations: Observations, partners_ip: Tensor, matches: Matches,
                        depths: Depths, most: int, generator: torch.Generator) -> Tensor:
    """Feature differences between views that agree on a point: (M, channels), M <= `most`."""
    sure = depths.agrees_inp & (depths.votes_in >= SURE_VOTES).unsqueeze(-1)
    image, point, column = torch.nonzero(sure, as_tuple=True)
    if len(image) > most:
        kept = torch.randperm(len(image), generator=generator)[:most].to(image.device)
        image, point, column = image[kept], point[kept], column[kept]
    other = partners_ip[image, column]
    partner = matches.partner_inp[image, point, column]
    return (observations.features_inc[image, point].float()
            - observations.features_inc[other, partner].float())
