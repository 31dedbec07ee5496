# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""torch.compile where it is wanted and can be had."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

logger = logging.getLogger(__name__)

P = ParamSpec('P')
T = TypeVar('T')


def compiled(function: Callable[P, T], wanted: bool, device: torch.device) -> Callable[P, T]:
    """The function compiled, or as it is where nobody wants that or it cannot be done here.

    Compiling happens at the first call. It needs a C++ compiler on a CPU and Triton on a GPU;
    where they are missing, a warning says so.
    """
    if not wanted:
        return function
    reason = why_not_compiled(device)
    if reason is not None:
        logger.warning('nothing is compiled, training goes on without: %s', reason)
        return function
    return torch.compile(function)


def why_not_compiled(device: torch.device) -> str | None:
    """Why torch.compile does not work here, found by trying; None where it does."""
    return _try_compiling(device.type)


@functools.cache
def _try_compiling(device_type: str) -> str | None:
    values = torch.linspace(-1.0, 1.0, 64, device=device_type, requires_grad=True)
    try:
        torch.compile(_something_small)(values).sum().backward()
        torch.compiler.reset()
    except Exception as error:  # every backend has its own, all mean the same here
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f'{type(error).__name__}: {lines[0] if lines else "no reason given"}'
    return None


def _something_small(values: torch.Tensor) -> torch.Tensor:
    return torch.tanh(values) * values
