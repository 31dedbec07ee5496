# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""SIFT features of images, and their matches between two of them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from implicit_relocalizer.evaluation.metrics import Float64Array

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """n features of one image.

    Attributes:
        pixels_n2: x, y, pixel centres at integers.
        descriptors_n128: SIFT's own numbers, which fit into bytes.
    """

    pixels_n2: Float64Array
    descriptors_n128: NDArray[np.uint8]


class FeatureDetector:
    """OpenCV's SIFT.

    Args:
        count: The strongest so many per image.
        contrast_threshold: Of OpenCV; smaller finds more on weak texture.
    """

    def __init__(self, count: int = 2000, contrast_threshold: float = 0.02) -> None:
        self._sift = cv2.SIFT_create(  # type: ignore[attr-defined]
            nfeatures=count, contrastThreshold=contrast_threshold)

    def detect(self, image_hw3: NDArray[np.uint8]) -> Features:
        """Features of an RGB image."""
        grey_hw = cv2.cvtColor(image_hw3, cv2.COLOR_RGB2GRAY)
        keypoints, descriptors = self._sift.detectAndCompute(grey_hw, None)
        if not keypoints:
            return Features(np.zeros((0, 2)), np.zeros((0, 128), np.uint8))
        return Features(np.array([keypoint.pt for keypoint in keypoints], np.float64),
                        descriptors.astype(np.uint8))


def root_descriptors(descriptors_n128: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RootSIFT (Arandjelovic and Zisserman, CVPR 2012): sqrt(d / |d|_1), of unit length."""
    values = descriptors_n128.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1e-6))


def match_mutually(first_n128: NDArray[np.float32], second_m128: NDArray[np.float32],
                   ratio: float) -> IntArray:
    """Pairs (k, 2) of indices that are each other's nearest and pass Lowe's ratio test.

    Args:
        first_n128: RootSIFT of one image.
        second_m128: Of another; with fewer than two there is nothing to compare a match with.
        ratio: Largest distance of the nearest, as a share of the second nearest's.
    """
    if len(first_n128) < 1 or len(second_m128) < 2:
        return np.zeros((0, 2), np.int64)
    cosines_nm = torch.from_numpy(first_n128) @ torch.from_numpy(second_m128).T
    best_n2, index_n2 = cosines_nm.topk(2, dim=1)
    squared_n2 = (2.0 - 2.0 * best_n2).clamp(min=0.0)
    nearest_n = index_n2[:, 0]
    mutual_n = cosines_nm.argmax(dim=0)[nearest_n] == torch.arange(len(first_n128))
    kept = (mutual_n & (squared_n2[:, 0] < ratio ** 2 * squared_n2[:, 1])).nonzero()[:, 0]
    return torch.stack([kept, nearest_n[kept]], dim=1).numpy()
