# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The verdict on a process that was watched for long, and the command that watches."""

import json

import numpy as np
import pytest
from colour_model import write_model

from implicit_relocalizer.cli import main
from implicit_relocalizer.ros.benchmark.plan import BenchmarkError
from implicit_relocalizer.ros.benchmark.soak import Sample, fit_count, fit_growth, judge

TIMES_S = np.arange(0.0, 1800.0, 5.0)


def autocorrelated(seed: int, correlation: float = 0.9) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=len(TIMES_S))
    for i in range(1, len(noise)):
        noise[i] += correlation * noise[i - 1]
    return noise


def test_a_leak_of_ten_kilobytes_a_second_is_seen_in_noise():
    sizes = 300.0 + 0.01 * TIMES_S + autocorrelated(0)
    fit = fit_growth(TIMES_S, sizes)
    assert not fit['is_flat']
    assert abs(fit['mib_per_hour'] - 36.0) < 3.0 * fit['standard_error']


def test_noise_that_wanders_is_not_taken_for_growth():
    fits = [fit_growth(TIMES_S, 300.0 + autocorrelated(seed)) for seed in range(100)]
    assert sum(fit['is_flat'] for fit in fits) >= 90
    # The error told is the one that slopes without a growth have.
    spread = np.std([fit['mib_per_hour'] for fit in fits])
    assert 0.6 < np.mean([fit['standard_error'] for fit in fits]) / spread < 1.4


def test_what_does_not_move_and_what_shrinks_is_flat():
    assert fit_growth(TIMES_S, np.full_like(TIMES_S, 300.0))['is_flat']
    assert fit_growth(TIMES_S, 300.0 - 0.01 * TIMES_S)['is_flat']


@pytest.mark.parametrize(('counts', 'is_flat'), [
    ([20] * 20, True), ([20, 21] * 10, True), ([20] * 10 + [30] + [20] * 9, True),
    (list(range(20)), False), ([20] * 14 + [21] * 6, False)])
def test_more_threads_at_the_end_than_ever_at_the_beginning_is_growth(counts, is_flat):
    assert fit_count(counts)['is_flat'] == is_flat


def test_what_happens_before_it_is_warm_does_not_count():
    samples = [Sample(t, 100.0 + min(t, 60.0), 50.0, 20, 30) for t in range(0, 200, 5)]
    assert judge(samples, 60.0)['is_flat']
    assert judge(samples, 60.0)['rss']['mib_per_hour'] == 0.0
    assert judge(samples, 0.0)['rss']['mib_per_hour'] > 100.0
    with pytest.raises(BenchmarkError, match=r'4 samples .* too few'):
        judge(samples, 180.0)


def test_a_few_seconds_of_the_node(tmp_path, capsys):
    pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
    pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')
    status = main(['soak', str(write_model(tmp_path / 'm.pt')), '--minutes', '0.06', '--rate',
                   '20', '--sample-seconds', '0.2', '--json', str(tmp_path / 'soak.json')])
    result = json.loads((tmp_path / 'soak.json').read_text())
    assert status == (0 if result['is_flat'] else 1)  # too short for more
    assert result['answers']['answered'] > 30 and result['threads']['first'] > 1
    assert all(s['rss_mib'] > s['anonymous_mib'] > 10.0 and s['descriptors'] > 5
               for s in result['samples'][-10:])
    output = capsys.readouterr().out
    assert 'anonymous memory' in output and 'file descriptors' in output
