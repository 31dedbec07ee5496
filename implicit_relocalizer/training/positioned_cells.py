# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Grid cells by image for fine-tuning: all views of an image put into its own camera.

A virtual view is the real camera turned and zoomed, so each of its cells is a pixel of the real
camera too. All cells of an image then share one unknown orientation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from implicit_relocalizer.data.augmentation import ViewRange
from implicit_relocalizer.data.images import PosedImages
from implicit_relocalizer.geometry.camera import project, resize_intrinsics, unproject
from implicit_relocalizer.network.encoders import Encoder
from implicit_relocalizer.training.buffer import fill_buffer


@dataclass(frozen=True)
class CellBatch:
    """N cells of each of B images, in the images' own cameras.

    Attributes:
        features_bnc: float32.
        pixels_bn2: Pixels of the real camera at the network's input size.
        depth_factor_bn: Depth in the real camera per depth that the head predicts.
        K_b33: Intrinsics of the real cameras at that size.
        t_local_camera_b3: Labels, metres.
    """

    features_bnc: Tensor
    pixels_bn2: Tensor
    depth_factor_bn: Tensor
    K_b33: Tensor
    t_local_camera_b3: Tensor


@dataclass(frozen=True)
class PositionedCells:
    """M cells of I images in memory, those of one image next to each other.

    `R_world_camera_i33` are labels, or None where the labels are positions alone.
    """

    features_mc: Tensor
    pixels_m2: Tensor
    depth_factor_m: Tensor
    first_i: Tensor
    count_i: Tensor
    K_i33: Tensor
    t_local_camera_i3: Tensor
    R_world_camera_i33: Tensor | None

    def __len__(self) -> int:
        return self.first_i.shape[0]

    def draw(self, images_b: Tensor, cells_per_image: int, generator: torch.Generator,
             device: torch.device) -> CellBatch:
        """Random cells of images given by index, on a device."""
        share = torch.rand(len(images_b), cells_per_image, generator=generator)
        count_b1 = self.count_i[images_b].unsqueeze(1)
        cell = self.first_i[images_b].unsqueeze(1) + (share * count_b1).long().clamp(
            max=count_b1 - 1)
        return CellBatch(
            self.features_mc[cell].to(device).float(), self.pixels_m2[cell].to(device),
            self.depth_factor_m[cell].to(device), self.K_i33[images_b].to(device),
            self.t_local_camera_i3[images_b].to(device))


def forget_rotations(images: PosedImages) -> PosedImages:
    """The images as if nobody knew their orientations (the identity stands for all)."""
    eye = torch.eye(3).expand(len(images), 3, 3).clone()
    return replace(images, R_world_camera_b33=eye)


def collect_cells(images: PosedImages, rotations_known: bool, encoder: Encoder,
                  view_size: tuple[int, int], nominal_focal_px: float, views_per_image: int,
                  points_per_view: int, limits: ViewRange, generator: torch.Generator,
                  device: torch.device,
                  on_progress: Callable[[int], object] = lambda images_done: None,
                  ) -> PositionedCells:
    """Encode every image and its virtual views and keep random cells of each.

    Args:
        images: With their labels; rotations are read only if `rotations_known`.
        rotations_known: Whether the labels hold orientations.
        encoder: Frozen.
        view_size: Width and height of the network's input.
        nominal_focal_px: Focal length for which the head predicts depth.
        views_per_image, points_per_view, limits: See `buffer.fill_buffer`.
        generator, device: See there.
        on_progress: Called with the number of images done.
    """
    height, width = images.images_bhw3.shape[1:3]
    K_i33 = resize_intrinsics(images.K_b33, view_size[0] / width, view_size[1] / height)
    features, pixels, factors, counts = [], [], [], []
    # Seen from an axis-parallel camera, the pose of a view is its turn against that camera.
    unrotated = forget_rotations(images)
    for index in range(len(images)):
        one = replace(unrotated, **{
            name: getattr(unrotated, name)[index:index + 1] for name in (
                'images_bhw3', 'K_b33', 'R_world_camera_b33', 't_local_camera_b3')})
        buffer = fill_buffer(one, encoder, view_size, views_per_image, points_per_view, limits,
                             generator, device)
        K_m33, R_camera_view_m33 = buffer.K_v33[buffer.view_m], \
            buffer.R_world_camera_v33[buffer.view_m]
        rays_m13 = unproject(buffer.pixels_m2.unsqueeze(1), K_m33) \
            @ R_camera_view_m33.transpose(1, 2)
        seen_m12, depth_m1 = project(rays_m13, K_i33[index].expand(len(buffer), 3, 3))
        features.append(buffer.features_mc)
        pixels.append(seen_m12.squeeze(1))
        factors.append(depth_m1.squeeze(1) * K_m33[:, 0, 0] / nominal_focal_px)
        counts.append(len(buffer))
        on_progress(index + 1)
    count_i = torch.tensor(counts)
    return PositionedCells(
        torch.cat(features), torch.cat(pixels), torch.cat(factors), count_i.cumsum(0) - count_i,
        count_i, K_i33, images.t_local_camera_b3,
        images.R_world_camera_b33 if rotations_known else None)
