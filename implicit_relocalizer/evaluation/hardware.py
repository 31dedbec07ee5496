# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a result was made on: times mean nothing without it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_SLACK = 0.5
BUSY = ', which had other work to do'


def describe_hardware(device: torch.device | str = 'cpu') -> dict[str, Any]:
    """Processor, cores that this process may use, torch's threads, and the GPU if one is used.

    `load_average` is that of the last minute: called before the work, what others do beside it.
    """
    device = torch.device(device)
    return {'device': device.type,
            'processor': _processor_name(),
            'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity')
            else os.cpu_count(),
            'threads': torch.get_num_threads(),
            'load_average': round(os.getloadavg()[0], 1) if hasattr(os, 'getloadavg') else None,
            'gpu': torch.cuda.get_device_name(device) if device.type == 'cuda' else None}


def _processor_name() -> str:
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors='replace').splitlines():
            if line.startswith('model name'):
                return ' '.join(line.partition(':')[2].split())
    return platform.processor() or platform.machine()


def is_busy(hardware: Mapping[str, Any]) -> bool:
    """Whether others left too few cores for the threads, so that times say little."""
    load = hardware.get('load_average')
    return load is not None and load + hardware['threads'] > hardware['cores'] + _SLACK
