# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The steps of one answer, each with its own inputs, to be timed one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from implicit_relocalizer.evaluation.speed.images import BenchmarkImages
from implicit_relocalizer.evaluation.speed.rounds import Subject
from implicit_relocalizer.evaluation.speed.runtime import Runner
from implicit_relocalizer.geometry.kabsch import weighted_kabsch
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.model_file import STEPS, ModelFileError


def require_steps(path: Path, module: nn.Module) -> None:
    """Check that the steps of a model's answer can be called one by one.

    Raises:
        ModelFileError: it has none; with the remedy.
    """
    missing = [name for name in STEPS if not hasattr(module, name) or _takes_others(module, name)]
    if missing:
        raise ModelFileError(
            f'{path}: has no {", ".join(missing)}, or with other arguments, so its steps cannot '
            f'be timed: it was exported by an older version, or is a pose regression; train it '
            f'again with '
            f'`implicit-relocalizer train SCENE --out {path.name}`')


def _takes_others(module: nn.Module, name: str) -> bool:
    """Whether a scripted step has another number of arguments than that of this version."""
    schema = getattr(getattr(module, name), 'schema', None)
    expected = inspect.signature(getattr(Localizer, name)).parameters
    return schema is not None and len(schema.arguments) != len(expected)


@torch.inference_mode()
def step_subjects(runner: Runner, images: BenchmarkImages, device: torch.device) -> list[Subject]:
    """Upload and resize, encoder, head, the whole network, Kabsch and the steps after it.

    The inputs of each step are computed beforehand for every image, so that a step can be timed
    without those before it. On CUDA each is recorded as the whole model is; beside them stands the
    model called step by step.
    """
    scripted_kabsch = torch.jit.script(weighted_kabsch)
    steps: Any = runner.steps  # methods of a scripted module have no types
    K_33 = [torch.from_numpy(K).to(device, torch.float32) for K in images.K_n33]
    prepared: list[Tensor] = []
    K_133: list[Tensor] = []
    features: list[Tensor] = []
    clouds: list[tuple[Tensor, ...]] = []
    hypotheses: list[tuple[Tensor, ...]] = []
    fits: list[tuple[Tensor, ...]] = []

    def upload(i: int) -> Tensor:
        return torch.from_numpy(images.images_hw3[i]).to(device)

    for i in range(len(images)):
        image, K = steps.prepare(upload(i), K_33[i])
        prepared.append(image)
        K_133.append(K)
        features.append(steps.encode(image)[0])
        clouds.append(steps.predict(image, K))
        hypotheses.append(steps.hypothesize(*clouds[i], K))
        fits.append(steps.refine(*hypotheses[i], *clouds[i], K))

    def kabsch(i: int) -> object:
        points_world, points_camera, weights, _ = clouds[i]
        return scripted_kabsch(points_camera, points_world, weights)

    def recorded(name: str, call: Callable[[int], object]) -> Subject:
        calls = [runner.recorded(partial(call, i)) for i in range(len(images))]
        return Subject(name, lambda i: calls[i]())

    def prepare(i: int) -> tuple[Tensor, Tensor]:
        return steps.prepare(
            upload(i), torch.from_numpy(images.K_n33[i]).to(device, torch.float32))

    on_gpu = [] if device.type == 'cpu' else [
        Subject('unrecorded', lambda i: steps(upload(i), K_33[i])['covariance'].cpu())]
    return [
        Subject('prepare', prepare),
        recorded('encoder', lambda i: steps.encode(prepared[i])),
        recorded('head', lambda i: steps.interpret(features[i])),
        recorded('forward', lambda i: steps.predict(prepared[i], K_133[i])),
        Subject('kabsch', kabsch),  # its SVD waits for a GPU
        recorded('hypotheses', lambda i: steps.hypothesize(*clouds[i], K_133[i])),
        recorded('refinement', lambda i: steps.refine(*hypotheses[i], *clouds[i], K_133[i])),
        recorded('assessment', lambda i: steps.assess(
            *fits[i], *hypotheses[i], *clouds[i], K_133[i])),
        *on_gpu,
    ]
