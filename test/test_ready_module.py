# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What runs on the robot answers as what was saved."""

import numpy as np
import pytest
import torch
from seen_room import intrinsics, write_model

from implicit_relocalizer.localization.model_runner import ModelRunner
from implicit_relocalizer.network.encoders import build_encoder
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.model_file import STEPS, load_model, make_ready

SIZE = (240, 160)
IMAGE = np.random.default_rng(0).integers(0, 256, (160, 240, 3), np.uint8)


def test_the_runner_answers_as_the_file(tmp_path):
    write_model(tmp_path / 'model.pt', SIZE)
    runner = ModelRunner(tmp_path / 'model.pt', torch.device('cpu'))
    K_33 = intrinsics(SIZE)
    module, _ = load_model(tmp_path / 'model.pt')
    with torch.inference_mode():
        outputs = module(torch.from_numpy(IMAGE), torch.from_numpy(K_33).float())
    for _ in range(4):  # the first calls are profiled, the later ones optimized
        estimate = runner.locate(IMAGE, K_33)
        np.testing.assert_allclose(estimate.t_map_camera_m, outputs['t_world_camera'], atol=1e-5)
        np.testing.assert_allclose(estimate.covariance_66, outputs['covariance'], rtol=1e-3)
        assert estimate.confidence == pytest.approx(float(outputs['confidence']), abs=1e-5)
    assert all(hasattr(runner.steps, name) for name in STEPS)


@pytest.mark.parametrize('encoder', ['resnet18', 'mobilenet_v3_large'])
def test_convolutions_lose_their_batch_normalisation_and_answer_the_same(encoder):
    torch.manual_seed(0)
    network = build_encoder(encoder)
    head = PointHead(network.channels, torch.randn(4, 3))
    localizer = Localizer(network, head, SIZE, 200.0, torch.zeros(3))
    with torch.no_grad():  # statistics that are not those of the start
        localizer.train().predict(torch.rand(2, 3, 160, 240), torch.eye(3).expand(2, 3, 3))
    module = torch.jit.script(localizer.eval())
    image, K_133 = torch.rand(1, 3, 160, 240), torch.eye(3)[None]
    with torch.inference_mode():
        expected = module.predict(image, K_133)
        ready = make_ready(module)
        for found, wanted in zip(ready.predict(image, K_133), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=2e-3, rtol=2e-3)
    assert 'batch_norm' in str(module.inlined_graph)
    assert 'batch_norm' not in str(ready.predict.graph)
