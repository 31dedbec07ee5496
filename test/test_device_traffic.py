# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""On a GPU a model gets its image and intrinsics, and nothing else moves before the answer."""

from __future__ import annotations

from typing import Dict

import pytest
import torch
from device_traffic import run_on_fake_cuda
from seen_room import write_model
from torch import Tensor, nn

from implicit_relocalizer.network.encoders import Encoder, build_encoder
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.keypoints import KeypointSampler
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.model_file import load_model, make_ready
from implicit_relocalizer.network.regressor import PoseRegressor, RegressionHead

SIZE = (240, 160)
CAMERA_SIZE = (480, 320)


def point_model(encoder: Encoder, alignment: str = 'refined') -> nn.Module:
    head = PointHead(encoder.channels, torch.zeros(4, 3), width=32, blocks=1)
    return Localizer(encoder, head, SIZE, 200.0, torch.zeros(3), alignment)


def regression_model(encoder_name: str) -> nn.Module:
    encoder = build_encoder(encoder_name)
    head = RegressionHead(encoder.channels, 1, 2, 32, 0.0)
    return PoseRegressor(encoder, head, SIZE, torch.zeros(3), 1.0)


def ready(module: nn.Module) -> torch.jit.ScriptModule:
    return make_ready(torch.jit.script(module.eval()))


def test_landmarks_are_found_without_the_host(tmp_path):
    write_model(tmp_path / 'model.pt', SIZE, landmarks=4_832, asked=100)
    module, _ = load_model(tmp_path / 'model.pt')
    assert module.head.centres_cd.shape[0] > 1  # on a CPU cells are asked for as numbers
    found, answer = run_on_fake_cuda(make_ready(module), CAMERA_SIZE)
    assert found == []
    assert {value.device.type for value in answer.values()} == {'cuda'}
    assert answer['pixels'].shape == (100, 2)


@pytest.mark.parametrize('make', [
    lambda: point_model(build_encoder('gradient_descriptor')),
    lambda: point_model(KeypointSampler(build_encoder('gradient_descriptor'), 100), 'kabsch'),
    lambda: regression_model('resnet18')], ids=['grid', 'sampler', 'regression'])
def test_other_models_answer_without_the_host(make):
    module = make()
    found, answer = run_on_fake_cuda(ready(module), CAMERA_SIZE)
    is_kabsch = getattr(module, 'alignment', '') == 'kabsch'
    assert found == (['aten._linalg_svd.default: waits'] if is_kabsch else [])
    assert {value.device.type for value in answer.values()} == {'cuda'}


class _Bad(nn.Module):
    """One of the ways to let the host wait."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.register_buffer('scale', torch.ones(3))

    def forward(self, image_hw3: Tensor, K_33: Tensor) -> Dict[str, Tensor]:
        row = K_33[0] * self.scale
        if self.way == 'number':
            row = row * float(row.sum())
        elif self.way == 'mask':
            row = row[row > 0]
        elif self.way == 'size table':
            row = row * torch.arange(image_hw3.shape[2]).to(row)
        elif self.way == 'download':
            row = row.cpu()
        elif self.way == 'table':
            row = row * torch.tensor([0.5, 1.0, 2.0]).to(row)
        return {'row': row}


@pytest.mark.parametrize(('way', 'expected'), [
    ('number', 'aten._local_scalar_dense.default: a number on the host'),
    ('mask', 'aten.index.Tensor: a number on the host'),
    ('size table', 'aten._to_copy.default: cpu to cuda'),
    ('download', 'aten._to_copy.default: cuda to cpu'),
    ('table', '')])
def test_what_would_wait_is_found(way, expected):
    found, _ = run_on_fake_cuda(ready(_Bad(way)), CAMERA_SIZE)
    assert found == ([expected] if expected else [])
