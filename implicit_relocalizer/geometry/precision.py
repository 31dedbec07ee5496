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
    return a @ b


def bmm(a_bmk: Tensor, b_bkn: Tensor) -> Tensor:
    """`matmul` of as many matrices as there are others, without the calls that find that out."""
    if not torch.jit.is_scripting():
        with torch.autocast(a_bmk.device.type, enabled=False):
            return torch.bmm(a_bmk, b_bkn)
    return torch.bmm(a_bmk, b_bkn)


def add_product(c_bmn: Tensor, a_bmk: Tensor, b_bkn: Tensor, scale: float) -> Tensor:
    """c + scale a @ b, in one operation and in the precision of all three; see `matmul`."""
    if not torch.jit.is_scripting():
        with torch.autocast(a_bmk.device.type, enabled=False):
            return torch.baddbmm(c_bmn, a_bmk, b_bkn, alpha=scale)
    return torch.baddbmm(c_bmn, a_bmk, b_bkn, alpha=scale)


def addmm(c_n: Tensor, a_mk: Tensor, b_kn: Tensor) -> Tensor:
    """c + a @ b, in one operation and in the precision of all three; see `matmul`."""
    if not torch.jit.is_scripting():
        with torch.autocast(a_mk.device.type, enabled=False):
            return torch.addmm(c_n, a_mk, b_kn)
    return torch.addmm(c_n, a_mk, b_kn)


def depthwise(images_bchw: Tensor, kernels_c1hw: Tensor, padding: List[int]) -> Tensor:
    """Each channel convolved with its own kernel, in the precision of both; see `matmul`."""
    if not torch.jit.is_scripting():
        with torch.autocast(images_bchw.device.type, enabled=False):
            return torch.nn.functional.conv2d(images_bchw, kernels_c1hw, padding=padding,
                                              groups=images_bchw.shape[1])
    return torch.nn.functional.conv2d(images_bchw, kernels_c1hw, padding=padding,
                                      groups=images_bchw.shape[1])
