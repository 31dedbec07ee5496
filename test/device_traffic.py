# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a frozen model on a GPU would ask of the CPU, found out without a GPU.

torch's fake tensors have shape, type and device but no numbers: the frozen graph runs as it would
on CUDA, with its branches, and whatever needs a number on the host has none to get.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from implicit_relocalizer.localization.inference import pack
from implicit_relocalizer.network.model_file import move_constants

CUDA = torch.device('cuda', 0)
# They look at results on the host, which fake tensors do not show: cuSOLVER's for convergence.
_WAITING = ('aten._linalg_svd', 'aten._linalg_eigh', 'aten.linalg_eig',
            'aten._linalg_check_errors')


class DeviceTraffic(TorchDispatchMode):
    """Notes each operation that copies between devices or lets the host wait.

    Attributes:
        found: Such as 'aten._to_copy.default: cpu to cuda'.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (),
                           kwargs: Any = None) -> Any:
        if function is torch.ops.aten.equal.default:  # TorchScript compares constants to pool them
            return args[0] is args[1]
        try:
            result = function(*args, **(kwargs or {}))
        except (DataDependentOutputException, DynamicOutputShapeException):
            self.found.append(f'{function}: a number on the host')
            raise
        taken, given = _devices((args, kwargs)), _devices(result)
        if len(taken | given) > 1:
            self.found.append(f'{function}: {"+".join(sorted(taken))} to '
                              f'{"+".join(sorted(given))}')
        if str(function).startswith(_WAITING):
            self.found.append(f'{function}: waits')
        return result


def run_on_fake_cuda(frozen: torch.jit.ScriptModule, image_size: tuple[int, int],
                     ) -> tuple[list[str], Mapping[str, Tensor]]:
    """Run a module of `make_ready` that was not called before; afterwards it is of no more use.

    Returns:
        `DeviceTraffic.found` of one answer, and the (fake) answer; without one where the host
        needed a number.
    """
    # Made of numbers known at run time: a copy, and fake tensors let TorchScript crash with it.
    graph: Any = frozen.graph
    tables = [f'aten::tensor: {_source_line(node)}'
              for node in graph.findAllNodes('aten::tensor')
              if isinstance(node.inputsAt(0).type(), torch.ListType)]
    if tables:
        return tables, {}
    width, height = image_size
    # The optimizing executor looks into constants, which fake ones do not allow.
    with (FakeTensorMode(allow_non_fake_inputs=True), torch.jit.optimized_execution(False),
          torch.no_grad()):
        move_constants(frozen, CUDA)
        image_hw3 = torch.empty(height, width, 3, dtype=torch.uint8, device=CUDA)
        K_33 = torch.empty(3, 3, device=CUDA)
        traffic, answer = DeviceTraffic(), {}
        try:
            with traffic:
                answer = frozen(image_hw3, K_33)
                if 'R_world_camera' in answer:
                    pack(answer, with_points=True)  # what `StagedInference` does with it
        except RuntimeError:  # TorchScript's, of what was noted
            if not traffic.found:
                raise
    return traffic.found, answer


def _devices(values: Any) -> set[str]:
    return {value.device.type for value in tree_leaves(values) if isinstance(value, Tensor)}


def _source_line(node: Any) -> str:
    lines = node.sourceRange().splitlines()
    marks = [number for number, line in enumerate(lines) if '~~~' in line]
    return lines[marks[0] - 1].strip() if marks else str(node).strip()
