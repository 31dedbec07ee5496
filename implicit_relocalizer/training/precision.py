# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Devices and number formats: what this machine is fast at."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def choose_device(name: str) -> torch.device:
    """The device that 'auto', 'cpu' or 'cuda' (the current one of its process) stands for here.

    Raises:
        ValueError: 'cuda' where torch sees no such device.
    """
    if name == 'cuda' and not torch.cuda.is_available():
        raise ValueError('device is cuda, but torch finds no CUDA device here; '
                         'use device: auto or cpu')
    if name == 'cpu' or not torch.cuda.is_available():
        return torch.device('cpu')
    return torch.device('cuda', torch.cuda.current_device())


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware has it ('auto'), else float32.

    A CPU without bfloat16 instructions emulates them: four times slower than float32.
    """
    if name == 'auto':
        native = torch.cuda.is_bf16_supported() if device.type == 'cuda' else _cpu_has_bfloat16()
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if name == 'bfloat16' else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Autocast to dtype; nothing for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def _cpu_has_bfloat16() -> bool:
    # private to torch, hence the guards: without them float32 is always right
    probes = ('_is_amx_tile_supported', '_is_avx512_bf16_supported')
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
