# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The processes that train together: one alone, or those that torchrun started."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from implicit_relocalizer.training.configuration import ConfigurationError

T = TypeVar('T')

# The others wait while the first measures every held-out frame.
TIMEOUT = timedelta(hours=2)


class TeamError(RuntimeError):
    """Another process of the team ended; the message is its."""


@dataclass(frozen=True)
class Team:
    """Processes of one training. The first writes, logs, validates and exports for all.

    Attributes:
        rank: Of this process, 0 to size - 1.
        size: Processes in all; with 1 every method does nothing that takes time.
        local_rank: Of this process on its machine; its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for the team."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> tuple[T, ...]:
        """This process's part, evenly spread over all items."""
        return tuple(items[self.rank::self.size])

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over the team of numbers that every process gives in the same order."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, in every process.

        Raises:
            TeamError: in the others, where making it failed in the first.
        """
        if self.size == 1:
            return make()
        made: list[Any] = [None, None]
        failure: Exception | None = None
        if self.is_first:
            try:
                made[0] = make()
            except Exception as error:
                failure = error
                made[1] = str(error)
        dist.broadcast_object_list(made, src=0)
        if failure is not None:
            raise failure
        if made[1] is not None:
            raise TeamError(f'the first process ended: {made[1]}')
        return cast(T, made[0])

    def copy_state(self, module: nn.Module) -> None:
        """Give every process the first one's weights and buffers."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)

    def average_gradients_of(self, module: nn.Module) -> nn.Module:
        """The module, whose gradients are the mean over the team after each backward pass."""
        if self.size == 1:
            return module
        # What is no parameter stays as each process has it: batch statistics are the first's.
        return DistributedDataParallel(module, broadcast_buffers=False)


ALONE = Team()


@contextmanager
def join_team(device: str) -> Iterator[Team]:
    """Join the processes that torchrun started; alone where it did not.

    Args:
        device: 'auto', 'cpu' or 'cuda' of the configuration: decides gloo or NCCL.

    Raises:
        ConfigurationError: more processes on this machine than it has GPUs.
    """
    size = int(os.environ.get('WORLD_SIZE', '1'))
    if size == 1 or 'MASTER_ADDR' not in os.environ:
        yield ALONE
        return
    local_rank = int(os.environ.get('LOCAL_RANK', '0'))
    cuda = device != 'cpu' and torch.cuda.is_available()
    if cuda and local_rank >= torch.cuda.device_count():
        raise ConfigurationError(
            f'process {local_rank} of this machine has no GPU of its own: there are '
            f'{torch.cuda.device_count()}; start torchrun with --nproc-per-node '
            f'{torch.cuda.device_count()}')
    if cuda:
        torch.cuda.set_device(local_rank)
    # Its functions have the group as default that is there when they are imported, which
    # DistributedDataParallel does. One kept so outlives join_team, and a thread of it that drops
    # a tensor while the interpreter ends aborts the process.
    importlib.import_module('torch.distributed.nn')
    # small numbers and objects travel between the CPUs in any case
    dist.init_process_group('cpu:gloo,cuda:nccl' if cuda else 'gloo', timeout=TIMEOUT)
    try:
        yield Team(dist.get_rank(), size, local_rank)
    finally:
        dist.destroy_process_group()
