# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Matrix products and convolutions that mixed-precision training leaves alone."""

from typing import List

import torch
from torch import Tensor


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in the precision of a and b, also where torch.autocast is on.

    Autocast computes products of float32 matrices in half precision, which for coordinates means
    errors of centimetres. Scripted code cannot switch it off for itself: whoever calls a scripted
    module under autocast has the errors.
    """
    if not torch.jit.is_scripting():
        with torch.autocast(a.device.type, enabled=False):
            return a @ b
    if a.dim() == 3 and b.dim() == 3 and a.shape[0] == b.shape[0]:
        return torch.bmm(a, b)  # by itself, not after the five calls that lead matmul to it
    return a @ b


def add_product(c_bmn: Tensor, a_bmk: Tensor, b_bkn: Tensor, scale: float) -> Tensor:
    """c + scale a @ b, in one operation and in the precision of all three; see `matmul`."""
    if not torch.jit.is_scripting():
        with torch.autocast(a_bmk.device.type, enabled=False):
            return torch.baddbmm(c_bmn, a_bmk, b_bkn, alpha=scale)
    return torch.baddbmm(c_bmn, a_bmk, b_bkn, alpha=scale)


def depthwise(images_bchw: Tensor, kernels_c1hw: Tensor, padding: List[int]) -> Tensor:
    """Each channel convolved with its own kernel, in the precision of both; see `matmul`."""
    if not torch.jit.is_scripting():
        with torch.autocast(images_bchw.device.type, enabled=False):
            return torch.nn.functional.conv2d(images_bchw, kernels_c1hw, padding=padding,
                                              groups=images_bchw.shape[1])
    return torch.nn.functional.conv2d(images_bchw, kernels_c1hw, padding=padding,
                                      groups=images_bchw.shape[1])
