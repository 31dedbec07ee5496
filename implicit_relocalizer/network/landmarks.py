# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The landmark head: world points as a mixture over learned landmarks of the place.

Where `heads.PointHead` mixes a few dozen anchors and adds an offset that a network has to learn,
this head mixes tens of thousands: one for every spot of the place that the training views show.
A feature, projected to the directions that tell landmarks apart, meets the landmarks' keys; the
softmax over the most similar ones and one outlier class says how much each of them counts.
"""

from typing import Tuple

import torch
from torch import Tensor, nn

from implicit_relocalizer.network.heads import LOG_ERROR_MAX, LOG_ERROR_MIN, CloudHead
from implicit_relocalizer.network.landmark_cells import (
    GROUP,
    arrange_in_cells,
    cell_blocks,
    search_cells,
)

CHUNK = 1024
CANDIDATES = 8


class LandmarkHead(CloudHead):
    """Features -> landmark mixture -> world point, depth and expected error.

    Args:
        channels: Numbers per point of the encoder.
        key_size: Numbers per landmark key.
        count: Landmarks; a multiple of `GROUP` (see `padded_count`).
        nominal_depth_m: Median distance of the landmarks from the cameras that saw them.
        cells: Of the search on a CPU (see `landmark_cells`); 1 searches all landmarks.

    Raises:
        ValueError: no landmarks, or a group that is not full.
    """

    feature_mean_c: Tensor
    projection_cd: Tensor
    keys_md: Tensor
    points_m3: Tensor
    log_depth_m: Tensor
    centres_cd: Tensor
    blocks_cds: Tensor
    key_scale: Tensor
    similarity_scale: Tensor
    outlier_similarity: Tensor
    error_of_mass: Tensor

    def __init__(self, channels: int, key_size: int, count: int,
                 nominal_depth_m: float = 2.5, cells: int = 1) -> None:
        super().__init__()
        if count <= 0 or count % GROUP != 0:
            raise ValueError(f'{count} landmarks; the head needs a multiple of {GROUP}')
        self.nominal_depth_m = float(nominal_depth_m)
        self.candidates = min(CANDIDATES, count)
        self.group, self.chunk = GROUP, CHUNK
        self.near_ratio = 0.08
        self.log_error_min, self.log_error_max = LOG_ERROR_MIN, LOG_ERROR_MAX
        self.register_buffer('feature_mean_c', torch.zeros(channels))
        self.register_buffer('projection_cd', torch.zeros(channels, key_size))
        self.register_buffer('keys_md', torch.zeros(count, key_size, dtype=torch.int8))
        self.register_buffer('key_scale', torch.tensor(1.0 / 127.0))
        self.register_buffer('centres_cd', torch.zeros(cells, key_size))
        self.blocks_cds = torch.zeros(0, key_size, 0)  # no buffer: `make_ready` fills it
        self.register_buffer('points_m3', torch.zeros(count, 3))
        self.register_buffer('log_depth_m', torch.zeros(count, dtype=torch.float16))
        self.register_buffer('similarity_scale', torch.tensor(20.0))
        self.register_buffer('outlier_similarity', torch.tensor(0.6))
        self.register_buffer('error_of_mass', torch.tensor([4.4, -4.1]))

    def forward(self, features_nc: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Predict for points of any leading shape.

        Returns:
            points_world_n3 (metres), log_depth_n (log metres at the nominal focal length) and
            log_error_n (log pixels of expected reprojection error), all float32.
        """
        queries = self.project(features_nc.float().flatten(0, -2))
        similarities, landmarks = self.most_similar(queries)
        points, log_depth, mass = self.mix(similarities, landmarks)
        log_error = (self.error_of_mass[0] + self.error_of_mass[1] * mass).clamp(
            self.log_error_min, self.log_error_max)
        shape = features_nc.shape[:-1]
        return points.unflatten(0, shape), log_depth.reshape(shape), log_error.reshape(shape)

    def project(self, features_nc: Tensor) -> Tensor:
        """Features to unit vectors in the space of the keys: (N, key_size)."""
        return nn.functional.normalize(
            torch.matmul(features_nc - self.feature_mean_c, self.projection_cd), dim=-1)

    def most_similar(self, queries_nd: Tensor) -> Tuple[Tensor, Tensor]:
        """Cosines and indices of the most similar landmarks of each query: (N, candidates).

        On a CPU only the likeliest cells are searched, where there are any; otherwise all.
        """
        cells, landmarks = self.centres_cd.shape[0], self.keys_md.shape[0]
        if cells == 1 or queries_nd.is_cuda:
            return self._search_all(queries_nd)
        is_ready = self.blocks_cds.shape[0] > 0
        blocks = self.blocks_cds if is_ready else cell_blocks(self.keys_md, cells)
        products, rows = search_cells(queries_nd, blocks, self.centres_cd, landmarks,
                                      self.candidates)
        return products * self.key_scale, rows

    @torch.jit.export
    def make_ready(self) -> None:
        """Spend memory, four times that of the keys, on not converting them for every image."""
        if self.centres_cd.shape[0] > 1 and not self.keys_md.is_cuda:
            blocks = cell_blocks(self.keys_md, self.centres_cd.shape[0])
            self.blocks_cds = blocks.contiguous()

    def arrange(self, generator: torch.Generator) -> Tensor:
        """Put the landmarks cell by cell: (count,) which row each of them was in before."""
        cells = self.centres_cd.shape[0]
        if cells == 1:
            return torch.arange(self.keys_md.shape[0], device=self.keys_md.device)
        order, centres = arrange_in_cells(self.keys_md.float() * self.key_scale, cells, generator)
        for buffer in (self.keys_md, self.points_m3, self.log_depth_m):
            buffer.copy_(buffer[order].clone())
        self.centres_cd.copy_(centres)
        return order

    def _search_all(self, queries_nd: Tensor) -> Tuple[Tensor, Tensor]:
        """Exact: groups of rows stand for their best member, so that little needs sorting.

        If a landmark is among the k best, its group is among the k best groups.
        """
        best = []
        for first in range(0, self.keys_md.shape[0], self.chunk):
            keys = self.keys_md[first:first + self.chunk].to(queries_nd.dtype)
            similarity = torch.matmul(keys, queries_nd.t())
            best.append(similarity.unflatten(0, [-1, self.group]).amax(1))
        by_group = torch.cat(best, dim=0).t().contiguous()
        groups = by_group.topk(min(self.candidates, by_group.shape[1]), dim=1)[1]
        member = torch.arange(self.group, device=groups.device)
        rows = (groups.unsqueeze(-1) * self.group + member).flatten(1)
        keys = self.keys_md[rows].to(queries_nd.dtype)
        similarity = torch.matmul(keys, queries_nd.unsqueeze(-1)).squeeze(-1) * self.key_scale
        top = similarity.topk(self.candidates, dim=1)
        return top[0], rows.gather(1, top[1])

    def mix(self, similarities_nk: Tensor, landmarks_nk: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """The heaviest spot of each mixture.

        Look-alike landmarks lie in several places, whose mean would be none of them. The point is
        the mean of the landmarks around the one with most mass around it.

        Returns:
            points_n3, log_depth_n, and mass_n: the share of the mixture that agrees.
        """
        outlier = self.outlier_similarity.expand(similarities_nk.shape[0], 1)
        logits = self.similarity_scale * torch.cat([similarities_nk, outlier], dim=1)
        share = torch.softmax(logits, dim=1)[:, :-1]
        landmarks_m = landmarks_nk.flatten()
        points = self.points_m3.index_select(0, landmarks_m).view(-1, landmarks_nk.shape[1], 3)
        log_depth = self.log_depth_m.index_select(0, landmarks_m).view_as(share).float()
        near, extended = _near(points, self.near_ratio * torch.exp(log_depth))
        share = share.double()
        mass, centre = torch.bmm(near, share.unsqueeze(-1)).squeeze(-1).max(dim=1)
        kept = near.gather(1, centre.reshape(-1, 1, 1).expand(-1, 1, near.shape[2])).squeeze(1)
        weight = kept * share
        weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-12)
        point = torch.bmm(weight.unsqueeze(1), extended)[:, 0, 2:]
        return point.float(), (weight * log_depth).sum(1).float(), mass.float()


def _near(points_nk3: Tensor, radius_nk: Tensor) -> Tuple[Tensor, Tensor]:
    """(N, K, K): 1.0 where the second point lies within the first one's radius of it, or 0.0;
    and (1, |p|^2, p) of each point p. Both in double precision, as a place may be large.

    |a - b|^2 - r^2 as one product of (|a|^2 - r^2, 1, -2 a) and (1, |b|^2, b) takes half the time
    of differences.
    """
    points = points_nk3.double()
    x, y, z = points.unbind(2)
    square_nk = (x * x).addcmul_(y, y).addcmul_(z, z)
    extended = torch.cat([torch.ones_like(points[:, :, :1]), square_nk.unsqueeze(2), points],
                         dim=2)
    swap_55 = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0],
                            [0.0, 0.0, -2.0, 0.0, 0.0], [0.0, 0.0, 0.0, -2.0, 0.0],
                            [0.0, 0.0, 0.0, 0.0, -2.0]], dtype=torch.float64)
    first = torch.matmul(extended, swap_55.to(points))
    first[:, :, 0] -= (radius_nk * radius_nk).double()
    near = torch.bmm(first, extended.transpose(1, 2)) < 0.0
    return near.to(points.dtype), extended


def padded_count(count: int) -> int:
    """The next multiple of the group size."""
    return -(-count // GROUP) * GROUP
