# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What every encoder costs: weights, model file, time per image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from implicit_relocalizer.evaluation.hardware import describe_hardware
from implicit_relocalizer.evaluation.versions import find_versions
from implicit_relocalizer.network.encoders import Encoder, build_encoder
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.localizer import Localizer

ANCHORS = 48
FOCAL_PER_WIDTH = 0.8
WARM_UP_CALLS = 6  # TorchScript profiles and compiles during the first ones


@dataclass(frozen=True)
class EncoderTiming:
    """Milliseconds per image of the network's input size, medians over repeats.

    Attributes:
        encoder_ms: The encoder alone.
        localizer_ms: Image to pose: encoder, point head, hypotheses and refinement.
    """

    encoder_ms: float
    localizer_ms: float


def measure_encoders(names: Sequence[str], input_size: tuple[int, int],
                     devices: Sequence[torch.device], threads: int,
                     seconds_each: float = 2.0) -> dict[str, Any]:
    """The encoder table as JSON values.

    Weights are random: neither size nor time depends on their values.

    Args:
        names: Of encoders.
        input_size: Width and height in pixels that the networks see; multiples of 8.
        devices: Where to measure.
        threads: Of torch on the CPU.
        seconds_each: How long each time is measured, after the warm-up.
    """
    rows = [_measure_encoder(name, input_size, devices, threads, seconds_each) for name in names]
    return {'kind': 'encoders', 'input_size': list(input_size), 'cpu_threads': threads,
            'hardware': {device.type: describe_hardware(device) for device in devices},
            'versions': find_versions(), 'rows': rows}


def format_encoder_table(table: dict[str, Any]) -> str:
    """The table for a terminal or a Markdown page."""
    devices = list(table['hardware'])
    columns = ['encoder', 'weights (M)', 'file (MB)',
               *(f'{part} on {device} (ms)' for device in devices
                 for part in ('encoder', 'image to pose'))]
    lines = [columns, ['---', *['---:'] * (len(columns) - 1)]]
    for row in table['rows']:
        times = [f'{row["timing"][device][key]:.1f}' for device in devices
                 for key in ('encoder_ms', 'localizer_ms')]
        lines.append([row['encoder'], f'{row["parameters"] / 1e6:.2f}',
                      f'{row["model_file_bytes"] / 1e6:.1f}', *times])
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _measure_encoder(name: str, input_size: tuple[int, int], devices: Sequence[torch.device],
                     threads: int, seconds: float) -> dict[str, Any]:
    torch.manual_seed(0)
    encoder = build_encoder(name)
    localizer = torch.jit.script(_untrained_localizer(encoder, input_size).eval())
    file = io.BytesIO()
    torch.jit.save(localizer, file)
    timing = {device.type: asdict(_measure_times(file, input_size, device, threads, seconds))
              for device in devices}
    return {'encoder': name, 'channels': encoder.channels, 'stride': encoder.stride,
            'encoder_parameters': _count(encoder), 'parameters': _count(localizer),
            'model_file_bytes': len(file.getvalue()), 'timing': timing}


def _untrained_localizer(encoder: Encoder, input_size: tuple[int, int]) -> Localizer:
    anchors = torch.randn(ANCHORS, 3)
    return Localizer(encoder, PointHead(encoder.channels, anchors, width=256, blocks=2),
                     input_size, FOCAL_PER_WIDTH * input_size[0], torch.zeros(3))


def _measure_times(file: io.BytesIO, input_size: tuple[int, int], device: torch.device,
                   threads: int, seconds: float) -> EncoderTiming:
    file.seek(0)
    module = torch.jit.load(file, map_location=device).eval()
    width, height = input_size
    generator = torch.Generator().manual_seed(0)
    image_hw3 = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)
    focal_px = FOCAL_PER_WIDTH * width
    K_33 = torch.tensor([[focal_px, 0.0, 0.5 * (width - 1)], [0.0, focal_px, 0.5 * (height - 1)],
                         [0.0, 0.0, 1.0]])
    image_hw3, K_33 = image_hw3.to(device), K_33.to(device)
    prepared_13hw = image_hw3.permute(2, 0, 1).unsqueeze(0).float() / 255.0
    return EncoderTiming(
        encoder_ms=_median_ms(module.encoder, (prepared_13hw,), threads, seconds),
        localizer_ms=_median_ms(module, (image_hw3, K_33), threads, seconds))


@torch.inference_mode()
def _median_ms(module: nn.Module, inputs: tuple[Tensor, ...], threads: int,
               seconds: float) -> float:
    timer = Timer('module(*inputs)', globals={'module': module, 'inputs': inputs},
                  num_threads=threads)
    timer.timeit(WARM_UP_CALLS)
    return 1e3 * timer.blocked_autorange(min_run_time=seconds).median


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
