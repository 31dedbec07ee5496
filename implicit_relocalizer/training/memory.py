# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Memory: how much there is, and what to change where it was not enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from implicit_relocalizer.training.configuration import ConfigurationError

# Of the memory that is free: the rest is for the network, its gradients and the caches.
MAX_MEMORY_SHARE = 0.7
# How torch's CPU allocator says it, in its versions.
_CPU_MESSAGES = ('DefaultCPUAllocator', "can't allocate memory", 'not enough memory',
                 'std::bad_alloc')
_CGROUP = Path('/sys/fs/cgroup')


@dataclass(frozen=True)
class Remedy:
    """A setting that lowers the memory a step takes.

    Attributes:
        key: In the configuration, such as 'mapping.batch_points'.
        value: As it is now.
        smaller: What to try.
    """

    key: str
    value: int
    smaller: int

    def __str__(self) -> str:
        return f'{self.key}={self.smaller} (now {self.value})'


def halved(key: str, value: int, least: int = 1) -> Remedy:
    """The remedy that halves a setting."""
    return Remedy(key, value, max(least, value // 2))


def available_bytes() -> int:
    """Memory that this process may still take: of the machine and of its container."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / 'memory.max').read_text().strip()
        used = int((_CGROUP / 'memory.current').read_text())
        # pages of files that were read count as used, but are given up on demand
        cached = next(int(line.split()[1])
                      for line in (_CGROUP / 'memory.stat').read_text().splitlines()
                      if line.startswith('inactive_file '))
        return available if limit == 'max' else min(available, int(limit) - used + cached)
    except (OSError, ValueError, StopIteration):
        return available  # no container that says its limit this way


def check_images_fit(count: int, image_size: tuple[int, int]) -> None:
    """Refuse a scene whose training images would not fit, before an hour is spent on decoding.

    Args:
        count: Images that this process holds.
        image_size: Width and height in pixels.

    Raises:
        ConfigurationError: says by how much, and what to do.
    """
    width, height = image_size
    needed = 2 * count * width * height * 3  # twice: they are gathered into one tensor
    available = available_bytes()
    if needed > MAX_MEMORY_SHARE * available:
        fitting = int(count * MAX_MEMORY_SHARE * available / needed)
        raise ConfigurationError(
            f'{count} training images of {width}x{height} would take {needed / 1e9:.2g} GB while '
            f'they are loaded, and {available / 1e9:.2g} GB of memory are free; keep at most '
            f'{fitting} training images, or store them smaller, with their intrinsics')


@contextmanager
def explain_memory_errors(doing: str, remedies: Sequence[Remedy]) -> Iterator[None]:
    """Turn an allocation that failed into a sentence that says what to lower.

    Args:
        doing: What was going on, such as 'mapping'.
        remedies: The settings that help, the best first.

    Raises:
        ConfigurationError: instead of torch's or Python's own error.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_memory_error(error):
            raise
        where = 'the GPU' if isinstance(error, torch.OutOfMemoryError) else 'the CPU'
        raise ConfigurationError(
            f'{doing}: out of memory on {where}; set {" or ".join(map(str, remedies))}. '
            f'The last checkpoint is kept') from error


def is_memory_error(error: BaseException) -> bool:
    """Whether an error means that memory could not be had."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_MESSAGES)
