# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Linear maps from features to keys: principal components, and the discriminant ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

REGULARISATION = 0.1


@dataclass(frozen=True)
class Projection:
    """queries = normalise((features - mean) @ matrix)."""

    mean_c: Tensor
    matrix_cd: Tensor

    def __call__(self, features_nc: Tensor) -> Tensor:
        """Unit vectors (..., d) of features of any leading shape."""
        return torch.nn.functional.normalize(
            (features_nc.float() - self.mean_c) @ self.matrix_cd, dim=-1)


def principal_projection(features_nc: Tensor, size: int) -> Projection:
    """The directions in which the features vary most."""
    mean, total = _scatter(features_nc.float())
    return Projection(mean, torch.linalg.eigh(total)[1][:, -size:])


def discriminant_projection(features_nc: Tensor, differences_mc: Tensor,
                            size: int) -> Projection:
    """The directions in which different points differ most, relative to views of one point.

    Linear discriminant analysis with matched views as classes, as Mikolajczyk & Matas, "Improving
    Descriptors for Fast Tree Matching by Optimal Linear Projection", ICCV 2007.

    Args:
        features_nc: Of all points.
        differences_mc: Between features of two views of the same point.
        size: Of the keys.
    """
    mean, total = _scatter(features_nc.float())
    within = differences_mc.float().T @ differences_mc.float() / (2 * len(differences_mc))
    channels = within.shape[0]
    # a share of identity: some hundred thousand noisy matches do not settle every direction
    level = REGULARISATION * within.trace() / channels
    values, vectors = torch.linalg.eigh(within + level * torch.eye(channels).to(within))
    whitening = vectors @ torch.diag(values ** -0.5) @ vectors.T
    directions = torch.linalg.eigh(whitening @ total @ whitening)[1][:, -size:]
    return Projection(mean, whitening @ directions)


def _scatter(features_nc: Tensor) -> tuple[Tensor, Tensor]:
    mean = features_nc.mean(dim=0)
    centred = features_nc - mean
    return mean, centred.T @ centred / len(features_nc)
