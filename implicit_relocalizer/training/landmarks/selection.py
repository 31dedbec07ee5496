# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From keypoints to landmarks: what a new view adds, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_relocalizer.training.landmarks.observations import Observations

SAME_SIMILARITY = 0.8
SAME_PX = 2.0


@dataclass(frozen=True)
class Landmarks:
    """M landmarks in random order.

    Attributes:
        keys_md: Unit vectors.
        points_local_m3: Metres, local origin.
        depth_m: Distance (z) in the view each was taken from, metres.
        image_m: Index of that view.
    """

    keys_md: Tensor
    points_local_m3: Tensor
    depth_m: Tensor
    image_m: Tensor

    def __len__(self) -> int:
        return len(self.depth_m)


def select_landmarks(observations: Observations, queries_ind: Tensor, inverse_depth_in: Tensor,
                     most: int, generator: torch.Generator,
                     on_progress: Callable[[int], object] = lambda images_done: None,
                     known: tuple[Tensor, Tensor] | None = None) -> Landmarks:
    """Go through the images in random order and keep the keypoints that are new.

    A keypoint is known already if a landmark of another image projects to within 2 px of it (in
    an image 360 px wide) and looks alike (cosine above 0.8).

    Args:
        observations: Keypoints and cameras.
        queries_ind: Their keys.
        inverse_depth_in: 1/m; keypoints with 0 are left out.
        most: Landmarks kept; a random part of them if there are more.
        generator: Of the orders.
        on_progress: Called with the number of images done.
        known: Keys and points of landmarks that exist already; they are not returned.
    """
    images, points, _ = queries_ind.shape
    points_local = observations.points_local(inverse_depth_in)
    usable = (inverse_depth_in > 0) & points_local.isfinite().all(dim=-1)
    before = 0 if known is None else len(known[0])
    keys = torch.empty(before + images * points, queries_ind.shape[2]).to(queries_ind)
    places = torch.empty(before + images * points, 3).to(points_local)
    origin = torch.empty(before + images * points, dtype=torch.long)
    if known is not None:
        keys[:before], places[:before] = known
    count = before
    for done, i in enumerate(torch.randperm(images, generator=generator).tolist()):
        stood_for = _known(observations, queries_ind[i], i, keys[:count], places[:count])
        new = torch.nonzero(usable[i] & ~stood_for)[:, 0]
        end = count + len(new)
        keys[count:end], places[count:end] = queries_ind[i, new], points_local[i, new]
        origin[count:end] = i * points + new.cpu()
        count = end
        on_progress(done + 1)
    order = before + torch.randperm(count - before, generator=generator)[:most]
    source = origin[order]
    depth = 1.0 / inverse_depth_in.flatten()[source.to(inverse_depth_in.device)]
    return Landmarks(keys[order.to(keys.device)], places[order.to(places.device)], depth,
                     source // points)


def _known(observations: Observations, queries_nd: Tensor, image: int, keys_md: Tensor,
           points_local_m3: Tensor) -> Tensor:
    """Which keypoints of an image some landmark stands for already: (N,) bool."""
    pixels = observations.pixels_in2[image]
    width, height = observations.input_size
    camera = (points_local_m3 - observations.t_local_camera_i3[image]) \
        @ observations.R_world_camera_i33[image]
    projected = camera @ observations.K_i33[image].T
    seen = projected[:, :2] / projected[:, 2:].clamp(min=1e-3)
    visible = torch.nonzero((camera[:, 2] > 1e-2) & (seen[:, 0] > 0) & (seen[:, 0] < width)
                            & (seen[:, 1] > 0) & (seen[:, 1] < height))[:, 0]
    keypoint, landmark = close_pairs(pixels, seen[visible], SAME_PX * observations.pixel_scale)
    alike = (queries_nd[keypoint] * keys_md[visible[landmark]]).sum(dim=1) > SAME_SIMILARITY
    known = torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
    known[keypoint[alike]] = True
    return known


def close_pairs(one_n2: Tensor, other_m2: Tensor, distance: float) -> tuple[Tensor, Tensor]:
    """Indices of all pairs of pixels (not negative) that are closer: (P) each.

    Of the first, those in one cell of a grid as wide as twice the distance are listed; a pixel
    of the others is held against the four cells that it can be close to.
    """
    cell_n2 = (one_n2 / (2.0 * distance)).long() + 1
    corner_m2 = ((other_m2 - distance) / (2.0 * distance)).floor().long() + 1
    columns, rows = (torch.cat([cell_n2, corner_m2 + 1]).amax(dim=0) + 1).tolist()
    of_cell, most = _list_by_cell(cell_n2[:, 1] * columns + cell_n2[:, 0], rows * columns)
    found = []
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        cell_m = (corner_m2[:, 1] + down) * columns + corner_m2[:, 0] + right
        for place in range(most):
            index_m = of_cell[cell_m, place]
            other = torch.nonzero(index_m >= 0)[:, 0]
            found.append(torch.stack([index_m[other], other]))
    one, other = torch.cat(found, dim=1)
    close = (one_n2[one] - other_m2[other]).norm(dim=1) < distance
    return one[close], other[close]


def _list_by_cell(cell_n: Tensor, cells: int) -> tuple[Tensor, int]:
    """Which of n lie in each cell: (cells, most), -1 where there are fewer, and that `most`."""
    order = cell_n.argsort(stable=True)
    count = torch.bincount(cell_n, minlength=cells)
    first = count.cumsum(0) - count
    place = torch.arange(len(cell_n), device=cell_n.device) - first[cell_n[order]]
    most = int(count.max())
    listed = torch.full((cells, most), -1, dtype=torch.long, device=cell_n.device)
    listed[cell_n[order], place] = order
    return listed, most
