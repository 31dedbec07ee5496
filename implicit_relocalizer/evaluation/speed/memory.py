# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Peak memory of this process and on the GPU."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch

_STATUS = Path('/proc/self/status')
_CLEAR = Path('/proc/self/clear_refs')


def peak_rss_bytes() -> int | None:
    """The most memory that this process has had resident; None where unknown.

    Linux tells the peak of this very program; ru_maxrss may be that of the one which started it.
    """
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith('VmHWM:'):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == 'darwin' else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_cuda_bytes(device: torch.device) -> int | None:
    """The most that torch has had allocated on the GPU; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == 'cuda' else None


def forget_peaks(device: torch.device) -> None:
    """Begin both peaks anew from what is in use now, as far as this system can."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text('5')
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
