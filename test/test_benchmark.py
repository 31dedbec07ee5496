# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`benchmark`: what is timed is what it says, ratios are paired, mistakes are named."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import seen_room
import torch

from implicit_relocalizer.cli import main
from implicit_relocalizer.evaluation.speed.images import (
    jpeg_message,
    noise_images,
    raw_message,
    resize,
)
from implicit_relocalizer.evaluation.speed.measuring import summarize_samples
from implicit_relocalizer.evaluation.speed.rounds import Samples, Subject, time_rounds
from implicit_relocalizer.evaluation.speed.spread import paired_ratio, spread_of
from implicit_relocalizer.evaluation.speed.steps import require_steps
from implicit_relocalizer.evaluation.speed.text import (
    RATIO_LABELS,
    STAGE_LABELS,
    benchmark_markdown,
)
from implicit_relocalizer.localization.image_decoding import rgb_from_message
from implicit_relocalizer.network.model_file import ModelFileError, ModelMetadata, save_model

SIZE = (160, 120)
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return seen_room.write_model(tmp_path_factory.mktemp('model') / 'seen.pt', SIZE,
                                 landmarks=1024, asked=60)


@pytest.fixture(scope='module')
def measured(model, tmp_path_factory):
    """What the command prints and writes, with threads that are not those of this process."""
    folder = tmp_path_factory.mktemp('benchmark')
    room = seen_room.write_room(folder / 'room', SIZE)
    threads = torch.get_num_threads(), cv2.getNumThreads()
    assert main(['benchmark', str(model), str(room), '--sift', '--no-dds', '--device', 'cpu',
                 '--rounds', '4', '--warm-up', '3', '--frames', '2', '--threads', '1',
                 '--size', '240x180', '--json', str(folder / 'result.json')]) == 0
    assert (torch.get_num_threads(), cv2.getNumThreads()) == threads
    return json.loads((folder / 'result.json').read_text())


def test_the_result_holds_what_the_issue_of_speed_asks_for(measured):
    cpu = measured['devices']['cpu']
    assert set(cpu['ratios']) == set(RATIO_LABELS)
    for key in ('forward_ms', 'align_ms', 'total_ms', 'baseline_ms', 'sift_ms'):
        assert 0.0 < cpu[key] < 60_000.0, key
    assert cpu['dds_ms'] is cpu['empty_node_ms'] is cpu['dds'] is None
    assert cpu['dds_absent_because'] == 'not asked for'
    assert cpu['ratios']['dds_over_process'] is None
    assert cpu['peak_rss_bytes'] > 5e7 and cpu['peak_cuda_bytes'] is None
    assert (cpu['input_size'], cpu['baseline_encoder']) == ([160, 120], 'gradient_descriptor')
    assert measured['images'] == {
        'source': 'held-out images of a scene', 'scene': 'room', 'split': 'standard', 'count': 2,
        'size': [240, 180]}
    assert measured['threads'] == {'torch': 1, 'opencv': 1} and measured['rounds'] == 4
    assert measured['hardware']['cpu']['threads'] == 1 and measured['versions']['torch']
    assert measured['model']['bytes'] > 1000 and len(measured['model']['sha256']) == 64


def test_every_step_is_timed_and_those_that_contain_others_take_longer(measured):
    stages = measured['devices']['cpu']['stages']
    assert set(STAGE_LABELS) - {'messages', 'unrecorded'} <= set(stages) <= set(STAGE_LABELS)
    for name, stage in stages.items():
        assert 0.0 < stage['p5_ms'] <= stage['median_ms'] <= stage['p95_ms'], name
    least = {name: stage['p5_ms'] for name, stage in stages.items()}
    assert least['encoder'] < least['total'] and least['align'] < least['total']
    assert least['kabsch'] < least['align'] + least['forward']


def test_messages_are_timed_where_there_is_ros(measured):
    pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')
    assert 0.0 < measured['devices']['cpu']['stages']['messages']['median_ms'] < 1000.0


def test_the_page_shows_the_numbers_of_the_file(measured):
    page = benchmark_markdown(measured)
    cpu = measured['devices']['cpu']
    for name, stage in cpu['stages'].items():
        assert f'| {STAGE_LABELS[name]} | {stage["median_ms"]:.2f} |' in page
    for name, value in cpu['ratios'].items():
        assert (f'{name}: ' in page) == (value is not None)
    assert f'{cpu["ratios"]["align_over_forward"]:.3f}' in page


def test_ratios_are_those_within_a_round_whatever_the_machine_does():
    speed = np.array([1.0, 1.0, 3.0, 0.5, 9.0])
    wall = {name: Samples(ms * speed, None, 0.5 * ms + speed) for name, ms in (
        ('forward', 100.0), ('hypotheses', 4.0), ('refinement', 6.0), ('total', 130.0),
        ('baseline', 65.0))}
    summary = summarize_samples(wall)
    assert summary['ratios']['overhead_over_forward'] == pytest.approx(0.3)
    assert summary['ratios']['align_over_forward'] == pytest.approx(0.1)
    assert summary['ratios']['total_over_baseline'] == pytest.approx(2.0)
    assert summary['ratios']['sift_over_total'] is None
    assert set(summary['cpu_time_ratios']) == {
        'overhead_over_forward', 'align_over_forward', 'total_over_baseline'}
    assert summary['cpu_time_ratios']['total_over_baseline'] == pytest.approx(1.9701)
    assert summary['ratio_spread']['total_over_baseline']['iqr'] == pytest.approx(0.0)
    assert summary['align_ms'] == pytest.approx(10.0) and summary['forward_ms'] == 100.0
    assert summary['frames_per_second'] == pytest.approx(1000.0 / 130.0, abs=1e-3)
    assert summary['stages']['total']['iqr_ms'] == pytest.approx(260.0)


def test_spread_is_that_of_numpy_and_of_nothing_there_is_none():
    values = np.arange(101.0)
    assert spread_of(values) == pytest.approx((50.0, 5.0, 95.0, 50.0))
    assert paired_ratio(2.0 * values + 2.0, values + 1.0) == pytest.approx((2.0, 2.0, 2.0, 0.0))
    with pytest.raises(ValueError, match='at least one round'):
        spread_of(np.zeros(0))


def test_rounds_take_turns_and_begin_with_another_each_time():
    calls = []

    def subject(name: str, seconds: float = 0.0) -> Subject:
        def call(image: int) -> None:
            calls.append((name, image))
            time.sleep(seconds)
        return Subject(name, call)

    samples = time_rounds([subject('a'), subject('b', 0.004), subject('c')], image_count=2,
                          rounds=6, warm_up_rounds=3, device=CPU)
    rounds = [calls[i:i + 3] for i in range(0, len(calls), 3)]
    assert len(rounds) == 9 and len(calls) == 27
    for before, after in pairwise(rounds):
        assert {name for name, _ in after} == {'a', 'b', 'c'}
        assert before[1][0] == after[0][0]
        assert len({image for _, image in after}) == 1 and before[0][1] != after[0][1]
    assert samples['b'].wall_ms.shape == (6,) and samples['b'].device_ms is None
    assert (samples['b'].cpu_ms < 4.0).all()  # asleep, as when others have the processor
    assert (samples['b'].wall_ms >= 4.0).all() and samples['a'].wall_ms.min() < 4.0
    with pytest.raises(ValueError, match='two subjects of one name'):
        time_rounds([subject('a'), subject('a')], 1, 1, 0, CPU)


def test_messages_hold_the_image_that_is_timed():
    image_hw3 = noise_images(seen_room.intrinsics(SIZE), SIZE, 1, (96, 72)).images_hw3[0]
    assert image_hw3.shape == (72, 96, 3) and image_hw3.std() > 20
    assert np.array_equal(rgb_from_message(raw_message(image_hw3)), image_hw3)
    decoded = rgb_from_message(jpeg_message(resize(image_hw3, (192, 144)))).astype(float)
    assert np.abs(decoded - resize(image_hw3, (192, 144))).mean() < 8.0


def test_noise_has_the_intrinsics_of_its_size():
    noise = noise_images(seen_room.intrinsics(SIZE), SIZE, 3, (320, 240))
    assert len(noise) == 3 and noise.size == (320, 240)
    np.testing.assert_allclose(noise.K_n33[2], seen_room.intrinsics((320, 240)))
    assert noise.description['source'] == 'textured noise' and noise.description['scene'] is None


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--size', '640x200'], 'another aspect ratio'),
    (['--sift'], 'name a SCENE after MODEL'),
])
def test_mistakes_are_named(model, capsys, arguments, message):
    assert main(['benchmark', str(model), '--no-dds', *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_size_that_is_none_is_refused(model, capsys):
    with pytest.raises(SystemExit):
        main(['benchmark', str(model), '--size', '640'])
    assert "'640' is no size of at least 16x16" in capsys.readouterr().err


def test_a_model_whose_steps_cannot_be_called_is_named_with_the_remedy(tmp_path, capsys):
    path = tmp_path / 'old.pt'
    K_33 = tuple(map(tuple, seen_room.intrinsics(SIZE).tolist()))
    save_model(torch.jit.script(Constant()), path, ModelMetadata(
        'somewhere', SIZE, K_33, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 'gradient_descriptor'))
    assert main(['benchmark', str(path), '--no-dds', '--device', 'cpu']) == 1
    error = capsys.readouterr().err
    assert f'{path}: has no prepare, encode, interpret, predict' in error
    assert 'train it again' in error


def test_a_step_with_other_arguments_is_one_of_another_version(tmp_path):
    class Older(torch.nn.Module):
        """Two of the steps, the second with one argument too many."""

        @torch.jit.export
        def encode(self, images_b3hw: torch.Tensor) -> torch.Tensor:
            return images_b3hw

        @torch.jit.export
        def interpret(self, features_bnc: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
            return features_bnc + more

    with pytest.raises(ModelFileError, match='has no prepare, interpret, predict, hypothesize'):
        require_steps(tmp_path / 'older.pt', torch.jit.script(Older()))


class Constant(torch.nn.Module):
    """Answers, but has no steps."""

    def forward(self, image_hw3: torch.Tensor, K_33: torch.Tensor) -> dict[str, torch.Tensor]:
        return {'R_world_camera': K_33}


def test_cuda_that_is_not_there_is_named(model, capsys, monkeypatch):
    monkeypatch.setattr(torch, 'cuda', SimpleNamespace(is_available=lambda: False))
    assert main(['benchmark', str(model), '--no-dds', '--device', 'both']) == 1
    assert 'torch finds no CUDA device here' in capsys.readouterr().err
