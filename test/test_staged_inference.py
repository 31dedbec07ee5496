# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Buffers, recordings and what becomes of them where they fail: all but CUDA itself."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from box_room import BoxRoom
from seen_room import POSES, intrinsics, write_model

from implicit_relocalizer.localization.inference import DirectInference
from implicit_relocalizer.localization.model_runner import ModelRunner
from implicit_relocalizer.localization.staged_inference import (
    CALLS_BEFORE_RECORDING,
    MOST_SIZES,
    Recording,
    StagedInference,
    reason_of,
)

SIZE = (240, 160)
K_33 = intrinsics(SIZE)


def image(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)


def look(image_hw3: torch.Tensor, K_33: torch.Tensor) -> dict[str, torch.Tensor]:
    """A model: mean colour as position, the least of it as confidence."""
    colour_3 = image_hw3.float().mean(dim=(0, 1))
    if colour_3.max() < 1.0:
        raise RuntimeError('a black image')
    return {'R_world_camera': K_33 / K_33[2, 2], 't_world_camera': colour_3.double(),
            'covariance': torch.eye(6, dtype=torch.float64) * colour_3[0],
            'confidence': colour_3.min() / 255.0, 'inlier_fraction': colour_3.max() / 255.0,
            'points_world': image_hw3[0].double(), 'weights': image_hw3[0, :, 0].float()}


class CpuAccelerator:
    """The CPU as a device: a recording is a call whose results go where the first ones were."""

    device = torch.device('cpu')

    def __init__(self) -> None:
        self.allocated: list[tuple[int, ...]] = []
        self.recorded = self.replayed = self.waited = 0

    def empty_on_host(self, shape, dtype):
        self.allocated.append(shape)
        return torch.empty(shape, dtype=dtype)

    def queue(self):
        return contextlib.nullcontext()

    def record(self, call):
        self.recorded += 1
        outputs = tuple(torch.full_like(output, -1) for output in call())

        def replay():
            self.replayed += 1
            for output, new in zip(outputs, call(), strict=True):
                output.copy_(new)

        return Recording(outputs, replay)

    def wait(self):
        self.waited += 1


class RefusingAccelerator(CpuAccelerator):
    """Fails as CUDA does: in the middle of a recording, and then at its end."""

    def record(self, call):
        self.recorded += 1
        try:
            call()
            raise RuntimeError('trace\noperation not permitted when stream is capturing')
        finally:
            raise RuntimeError('capture was invalidated')


def check_equal(found, expected) -> None:
    np.testing.assert_array_equal(found.t_map_camera_m, expected.t_map_camera_m)
    np.testing.assert_array_equal(found.R_map_camera, expected.R_map_camera)
    np.testing.assert_array_equal(found.covariance_66, expected.covariance_66)
    assert (found.confidence, found.inlier_fraction) == (
        expected.confidence, expected.inlier_fraction)
    assert (found.points is None) == (expected.points is None)
    if found.points is not None:
        np.testing.assert_array_equal(found.points.points_map_n3, expected.points.points_map_n3)
        np.testing.assert_array_equal(found.points.weights_n, expected.points.weights_n)


def test_answers_are_those_of_the_model_before_and_in_a_recording():
    accelerator, direct = CpuAccelerator(), DirectInference(look)
    staged = StagedInference(look, accelerator)
    answers = [staged.locate(image(seed), K_33, seed % 2 == 0) for seed in range(9)]
    for seed, answer in enumerate(answers):  # each keeps its own numbers
        check_equal(answer, direct.locate(image(seed), K_33, seed % 2 == 0))
    assert accelerator.recorded == 1
    assert accelerator.replayed == 9 - CALLS_BEFORE_RECORDING
    assert accelerator.waited == 9  # once an answer
    # What goes in, numbers and points: not once more for eight other images.
    assert accelerator.allocated == [(64 + 3 * 240 * 160,), (50,), (240, 4)]


def test_each_size_is_recorded_and_few_are_kept():
    accelerator, direct = CpuAccelerator(), DirectInference(look)
    staged = StagedInference(look, accelerator)
    sizes = [(32 + 16 * i, 24) for i in range(MOST_SIZES + 1)]
    for size in sizes:
        assert not staged.is_settled(size)
        for seed in range(CALLS_BEFORE_RECORDING + 1):
            check_equal(staged.locate(image(seed, size), K_33, True),
                        direct.locate(image(seed, size), K_33, True))
        assert staged.is_settled(size)
        staged.locate(image(0, sizes[1]), K_33, False)  # in use, and so kept
    assert accelerator.recorded == len(sizes)
    assert [staged.is_settled(size) for size in sizes] == [False, *[True] * MOST_SIZES]


def test_a_model_that_cannot_be_recorded_is_called_and_one_warning_says_why(caplog):
    accelerator, direct = RefusingAccelerator(), DirectInference(look)
    staged = StagedInference(look, accelerator)
    with caplog.at_level(logging.WARNING):
        for seed in range(8):
            assert staged.is_settled(SIZE) == (seed > CALLS_BEFORE_RECORDING)
            check_equal(staged.locate(image(seed), K_33, True),
                        direct.locate(image(seed), K_33, True))
        staged.locate(image(0, (64, 48)), K_33, False)
    assert accelerator.recorded == 1
    (warning,) = caplog.messages
    assert 'operation not permitted when stream is capturing' in warning
    assert 'step by step' in warning


def test_without_recordings_nothing_is_recorded():
    accelerator = CpuAccelerator()
    staged = StagedInference(look, accelerator, records=False)
    for seed in range(8):
        check_equal(staged.locate(image(seed), K_33, False),
                    DirectInference(look).locate(image(seed), K_33, False))
    assert staged.is_settled(SIZE) and accelerator.recorded == 0


def test_after_an_image_that_fails_the_device_is_waited_for_and_the_next_is_answered():
    accelerator = CpuAccelerator()
    staged = StagedInference(look, accelerator)
    black = np.zeros((160, 240, 3), np.uint8)
    with pytest.raises(RuntimeError, match='a black image'):
        staged.locate(black, K_33, False)
    assert accelerator.waited == 1
    check_equal(staged.locate(image(1), K_33, False),
                DirectInference(look).locate(image(1), K_33, False))


def test_steps_are_recorded_or_stay_as_they_are(caplog):
    values = torch.arange(3.0)
    step = StagedInference(look, CpuAccelerator()).recorded(lambda: (values * 2.0,))
    values += 1.0
    torch.testing.assert_close(step()[0], torch.tensor([2.0, 4.0, 6.0]))

    def plain() -> torch.Tensor:
        return values

    assert StagedInference(look, RefusingAccelerator()).recorded(plain) is plain
    assert 'not permitted' in caplog.text
    assert StagedInference(look, CpuAccelerator(), records=False).recorded(plain) is plain
    assert DirectInference(look).recorded(plain) is plain


def test_the_reason_is_the_first_of_a_chain():
    try:
        RefusingAccelerator().record(lambda: None)
    except RuntimeError as error:
        assert reason_of(error) == (
            'RuntimeError: operation not permitted when stream is capturing')
    assert reason_of(RuntimeError()) == 'RuntimeError: without a message'


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('room') / 'model.pt'
    write_model(path, SIZE, landmarks=1_600, asked=100)
    return path


@pytest.fixture(scope='module')
def on_cpu(model) -> ModelRunner:
    return ModelRunner(model, torch.device('cpu'))


def views() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Images of two sizes with intrinsics, and where the camera was."""
    found = []
    for pose in POSES[:2]:
        small = BoxRoom().render(pose, K_33, SIZE)[0]
        large = np.ascontiguousarray(small.repeat(2, axis=0).repeat(2, axis=1))
        found += [(small, K_33, pose[:3, 3]), (large, intrinsics((480, 320)), pose[:3, 3])]
    return found


def test_a_real_model_answers_through_buffers_as_without(on_cpu):
    staged = StagedInference(on_cpu.steps, CpuAccelerator())
    for number in range(CALLS_BEFORE_RECORDING + 1):
        for image_hw3, K, position_m in views():
            expected = on_cpu.locate(image_hw3, K, with_points=True)
            assert np.linalg.norm(expected.t_map_camera_m - position_m) < 0.05
            found = staged.locate(image_hw3, K, with_points=number % 2 == 0)
            np.testing.assert_allclose(found.t_map_camera_m, expected.t_map_camera_m, atol=1e-5)
            np.testing.assert_allclose(found.covariance_66, expected.covariance_66, rtol=1e-3)
            if found.points is not None:
                np.testing.assert_allclose(
                    found.points.points_map_n3, expected.points.points_map_n3, atol=1e-5)
    assert staged.is_settled(SIZE) and staged.is_settled((480, 320))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('cuda_graphs', [True, False], ids=['captured', 'step by step'])
def test_a_gpu_answers_as_the_cpu(model, on_cpu, cuda_graphs, caplog):
    runner = ModelRunner(model, torch.device('cuda'), cuda_graphs)
    runner.warm_up()
    for _ in range(CALLS_BEFORE_RECORDING + 2):
        for image_hw3, K, _ in views():
            found = runner.locate(image_hw3, K, with_points=True)
            expected = on_cpu.locate(image_hw3, K, with_points=True)
            # A GPU resizes without rounding to bytes.
            np.testing.assert_allclose(found.t_map_camera_m, expected.t_map_camera_m, atol=0.02)
            assert found.confidence == pytest.approx(expected.confidence, abs=0.1)
            assert found.points.points_map_n3.shape == expected.points.points_map_n3.shape
    assert caplog.messages == []  # it could be captured
