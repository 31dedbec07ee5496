# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Errors of a localizer, eager or scripted, on posed frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.evaluation.locating import Module, locate_frames, summarize_located


def measure_accuracy(module: Module, frames: Sequence[Frame],
                     device: torch.device | str = 'cpu') -> dict[str, Any]:
    """Localize every frame and summarise the errors (keys of `summarize_located`).

    Args:
        module: (H, W, 3) uint8 image and (3, 3) intrinsics -> named outputs.
        frames: At least one.
        device: Where the module lives.
    """
    return summarize_located(locate_frames(module, frames, device))
