# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The buffer of stage A: features of grid cells of all (virtual) views, computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_relocalizer.data.augmentation import (
    ViewRange,
    Views,
    draw_views,
    points_seen,
    real_views,
)
from implicit_relocalizer.data.images import PosedImages, as_float_images
from implicit_relocalizer.network.encoders import Encoder

ENCODING_BATCH = 8
STORAGE_DTYPE = torch.float16


@dataclass(frozen=True)
class PointBatch:
    """Cells with the camera that saw each of them (N cells)."""

    features_nc: Tensor
    pixels_n2: Tensor
    K_n33: Tensor
    R_world_camera_n33: Tensor
    t_local_camera_n3: Tensor


@dataclass(frozen=True)
class PointBuffer:
    """M cells of V views in memory.

    Attributes:
        features_mc: float16 features.
        pixels_m2: Cell centres in their view, pixels.
        view_m: Index of the view each cell comes from.
        K_v33, R_world_camera_v33, t_local_camera_v3: Cameras of the views.
    """

    features_mc: Tensor
    pixels_m2: Tensor
    view_m: Tensor
    K_v33: Tensor
    R_world_camera_v33: Tensor
    t_local_camera_v3: Tensor

    def __len__(self) -> int:
        return self.features_mc.shape[0]

    def batch(self, indices_n: Tensor, device: torch.device) -> PointBatch:
        """Gather cells by index onto a device, features as float32."""
        view = self.view_m[indices_n]
        return PointBatch(
            self.features_mc[indices_n].to(device).float(),
            self.pixels_m2[indices_n].to(device), self.K_v33[view].to(device),
            self.R_world_camera_v33[view].to(device), self.t_local_camera_v3[view].to(device))

    def feature_statistics(self, sample: int = 50_000) -> tuple[Tensor, Tensor]:
        """Mean per channel and one common scale that makes the average variance one."""
        step = max(1, len(self) // sample)
        features = self.features_mc[::step].float()
        mean = features.mean(dim=0)
        scale = 1.0 / (features - mean).pow(2).mean().sqrt().clamp(min=1e-6)
        return mean, scale.expand_as(mean)


def buffer_bytes(image_count: int, views_per_image: int, points_per_view: int,
                 channels: int) -> int:
    """Memory that a buffer of these settings takes."""
    per_point = channels * STORAGE_DTYPE.itemsize + 2 * 4 + 8
    return image_count * views_per_image * points_per_view * per_point


def fill_buffer(images: PosedImages, encoder: Encoder, view_size: tuple[int, int],
                views_per_image: int, points_per_view: int, limits: ViewRange,
                generator: torch.Generator, device: torch.device,
                on_progress: Callable[[int], object] = lambda images_done: None) -> PointBuffer:
    """Encode every image and its virtual views and keep random cells of each.

    The first view of an image is the camera itself. Cells that the real camera did not see
    wholly are left out.
    """
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    cameras: list[tuple[Tensor, Tensor, Tensor]] = []
    view_count = 0
    for views in _view_batches(images, view_size, views_per_image, limits, generator, device):
        features, pixels, view = _sample_cells(views, encoder, points_per_view, generator)
        parts.append((features, pixels, view + view_count))
        cameras.append((views.K_b33.cpu(), views.R_world_camera_b33.cpu(),
                        views.t_world_camera_b3.cpu()))
        view_count += views.images_b3hw.shape[0]
        on_progress(view_count)
    features, pixels, view = (torch.cat(column) for column in zip(*parts, strict=True))
    K, R, t = (torch.cat(column) for column in zip(*cameras, strict=True))
    return PointBuffer(features, pixels, view, K, R, t)


def _view_batches(images: PosedImages, view_size: tuple[int, int], views_per_image: int,
                  limits: ViewRange, generator: torch.Generator,
                  device: torch.device) -> Iterator[Views]:
    for first in range(0, len(images), ENCODING_BATCH):
        chosen = slice(first, first + ENCODING_BATCH)
        labelled = (as_float_images(images.images_bhw3[chosen].to(device)),
                    images.K_b33[chosen].to(device), images.R_world_camera_b33[chosen].to(device),
                    images.t_local_camera_b3[chosen].to(device))
        yield real_views(*labelled, view_size)
        for _ in range(views_per_image - 1):
            yield draw_views(*labelled, limits, view_size, generator)


@torch.no_grad()
def _sample_cells(views: Views, encoder: Encoder, points_per_view: int,
                  generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Random whole cells of each view: features (float16), pixels and view indices, on the CPU."""
    features, pixels = encoder.sample(views.images_b3hw)
    whole = points_seen(views.valid_bhw, pixels, encoder.stride).cpu()
    batch, count = whole.shape
    order = torch.rand(batch, count, generator=generator) + (~whole).float()
    cell = order.argsort(dim=1)[:, :points_per_view]
    keep = torch.gather(whole, 1, cell).flatten()
    view = torch.arange(batch).unsqueeze(1).expand_as(cell).flatten()[keep]
    cell = cell.flatten()[keep]
    chosen = features[view.to(features.device), cell.to(features.device)]
    return chosen.to(STORAGE_DTYPE).cpu(), pixels.cpu()[view, cell], view
