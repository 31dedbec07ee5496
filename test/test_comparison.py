# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Comparing results: progress is seen, noise is not taken for it, and only like with like."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from implicit_relocalizer.cli import main
from implicit_relocalizer.evaluation.comparison import (
    ComparisonError,
    check_comparable,
    compare_results,
)
from implicit_relocalizer.evaluation.comparison_text import describe_comparison
from implicit_relocalizer.evaluation.paired_bootstrap import (
    block_length,
    difference_interval,
    mean,
    percentile_of,
    subtract,
)

FEW = 400  # resamples, where intervals only have to be roughly right


def scene_result(translation_m: Any, **changes: Any) -> dict[str, Any]:
    """A result of `evaluate MODEL SCENE`; an error that is not finite is no answer."""
    rows = []
    for index, error_m in enumerate(np.asarray(translation_m, float).tolist()):
        lost = not np.isfinite(error_m)
        rows.append({
            'name': f'{index:04d}', 'split': 'test', 'accepted': not lost and error_m < 0.3,
            'translation_m': None if lost else error_m,
            'rotation_deg': None if lost else 10.0 * error_m,
            'normalised_position_error': None if lost else error_m / 0.02,
            'normalised_orientation_error': None if lost else error_m / 0.03})
    return {'kind': 'evaluation', 'scene': 'office', 'split': 'standard',
            'frames_detail': [{'name': 'learned', 'split': 'train', 'translation_m': 9.0,
                               'rotation_deg': 9.0}, *rows], **changes}


def run_result(errors_m: dict[int, float | None], bag: str = 'run', without=()) -> dict[str, Any]:
    """A result of `evaluate BAG`: errors by stamp, None where there is no answer."""
    return {'kind': 'recorded_run', 'bag': bag, 'frames_detail': [
                {'stamp_ns': stamp, 'translation_m': error_m, 'rotation_deg': 1.0}
                for stamp, error_m in errors_m.items() if error_m is not None],
            'unanswered_stamps_ns': [
                *(stamp for stamp, error_m in errors_m.items() if error_m is None), *without],
            'stamps_without_reference_ns': list(without)}


def errors(seed: int, count: int = 300) -> np.ndarray:
    return 0.02 * np.exp(0.7 * np.random.default_rng(seed).normal(size=count))


def row_of(comparison: dict[str, Any], label: str) -> dict[str, Any]:
    return next(row for row in comparison['rows'] if row['label'] == label)


def test_identical_results_differ_in_nothing():
    comparison = compare_results(scene_result(errors(0)), scene_result(errors(0)), 'a', 'b',
                                 resamples=FEW)
    assert comparison['frames_compared'] == 300 and len(comparison['rows']) == 19
    for row in comparison['rows']:
        assert (row['difference'], row['low'], row['high'], row['is_clear'], row['verdict']) == (
            0.0, 0.0, 0.0, False, '')
    assert 'better' not in describe_comparison(comparison, 'a').split('better, worse:')[0]


def test_a_fifth_less_error_is_progress_and_the_reverse_a_loss():
    base = errors(1)
    rng = np.random.default_rng(2)
    this = 0.8 * base * np.exp(0.3 * rng.normal(size=len(base)))
    better = compare_results(scene_result(this), scene_result(base), 'a', 'b')
    worse = compare_results(scene_result(base), scene_result(this), 'b', 'a', resamples=FEW)
    median = row_of(better, 'median position error')
    assert median['is_clear'] and median['verdict'] == 'better' and median['unit'] == 'cm'
    assert median['this'] == pytest.approx(100.0 * np.median(this))
    assert median['low'] < median['difference'] < median['high'] < 0.0
    assert row_of(worse, 'median position error')['verdict'] == 'worse'
    assert row_of(better, 'within 5 cm / 5°')['difference'] >= 0.0


def test_noise_is_rarely_taken_for_progress():
    clear = 0
    for seed in range(40):
        rng = np.random.default_rng(1000 + seed)
        hardness = errors(seed)
        this, other = (hardness * np.exp(0.3 * rng.normal(size=300)) for _ in range(2))
        low, high = difference_interval(this, other, percentile_of(50.0), resamples=FEW)
        clear += low > 0.0 or high < 0.0
    assert clear <= 5


def test_blocks_of_neighbours_are_wider_than_single_frames_where_neighbours_err_alike(
        monkeypatch):
    rng = np.random.default_rng(3)
    slow = np.repeat(rng.normal(size=30), 10)
    zero = np.zeros(300)
    assert block_length(300) == 13 and block_length(8) == 2
    low, high = difference_interval(slow, zero, mean)
    monkeypatch.setattr('implicit_relocalizer.evaluation.paired_bootstrap.block_length',
                        lambda count: 1)
    alone_low, alone_high = difference_interval(slow, zero, mean)
    truth = 2.0 * 1.96 / np.sqrt(30.0)
    assert high - low == pytest.approx(truth, rel=0.35)
    assert alone_high - alone_low < 0.5 * truth


def test_statistics_with_infinite_values():
    values = np.array([[1.0, 2.0, 3.0, np.inf], [1.0, 2.0, np.inf, np.inf]])
    assert percentile_of(50.0)(values).tolist() == [2.5, np.inf]
    finite = np.random.default_rng(0).normal(size=(3, 17))
    for percent in (50.0, 90.0, 99.0):
        np.testing.assert_allclose(percentile_of(percent)(finite),
                                   np.percentile(finite, percent, axis=1))
    assert subtract(np.array([np.inf, np.inf, 1.0]), np.array([np.inf, 2.0, np.inf])).tolist() == [
        0.0, np.inf, -np.inf]


def test_frames_without_an_answer_are_infinitely_wrong():
    lost, found = errors(4, 100), errors(4, 100)
    lost[:60] = np.inf
    comparison = compare_results(scene_result(found), scene_result(lost), 'a', 'b')
    median = row_of(comparison, 'median position error')
    assert median['other'] is median['low'] is median['difference'] is None
    assert median['verdict'] == 'better'
    assert row_of(comparison, 'accepted')['this'] == 100.0
    assert row_of(comparison, 'position within 1 sigma')['difference'] == 0.0, 'of both answers'
    text = describe_comparison(comparison, 'a')
    assert '∞ cm' in text and '-∞ to' in text
    json.dumps(comparison, allow_nan=False)


def test_coverage_is_better_nearer_to_what_it_should_be():
    rng = np.random.default_rng(5)
    honest = scene_result(errors(5))
    for row in honest['frames_detail'][1:]:
        row['normalised_position_error'] = float(np.linalg.norm(rng.normal(size=3)))
    modest, boastful = copy.deepcopy(honest), copy.deepcopy(honest)
    for changed, factor in ((modest, 0.5), (boastful, 2.0)):
        for row in changed['frames_detail'][1:]:
            row['normalised_position_error'] *= factor
    for other in (modest, boastful):
        comparison = compare_results(honest, other, 'a', 'b', resamples=FEW)
        assert row_of(comparison, 'position within 1 sigma')['verdict'] == 'better'


def test_frames_of_only_one_result_are_counted():
    this, other = scene_result(errors(0)), scene_result(errors(0))
    del this['frames_detail'][5:8], other['frames_detail'][-1:]
    comparison = compare_results(this, other, 'a.json', 'b.json', resamples=FEW)
    assert [comparison[key] for key in ('frames_compared', 'frames_only_here',
                                        'frames_only_there')] == [296, 1, 3]
    text = describe_comparison(comparison, 'a.json')
    assert '1 are only in a.json' in text and '3 are only in b.json' in text


def test_runs_are_paired_by_stamp_and_silence_counts():
    stamps = range(1000, 41000, 1000)
    this = run_result(dict.fromkeys(stamps, 0.02), 'one')
    other = run_result({stamp: None if stamp < 11000 else 0.02 for stamp in stamps}, 'two',
                       without=[7, 8])
    comparison = compare_results(this, other, 'a', 'b')
    assert comparison['frames_compared'] == 40 and comparison['frames_only_there'] == 0
    assert row_of(comparison, 'answered')['difference'] == pytest.approx(25.0)
    assert row_of(comparison, 'within 5 cm / 5°')['other'] == pytest.approx(75.0)
    assert not [row for row in comparison['rows'] if 'sigma' in row['label']]


def _without(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda result: {name: value for name, value in result.items() if name != key}


@pytest.mark.parametrize(('change', 'message'), [
    (lambda result: {**result, 'scene': 'lab'}, "b.json on 'lab'"),
    (lambda result: {**result, 'split': 'hard'}, "split 'standard', b.json on 'hard'"),
    (lambda result: {**result, 'kind': 'recorded_run'}, "b.json of 'recorded_run'"),
    (_without('frames_detail'), 'b.json: does not list its frames.* --per-frame'),
    (lambda result: {**result, 'frames_detail': [{'split': 'test'}]}, "b.json: its list.*'name'"),
    (lambda result: {**result, 'frames_detail': result['frames_detail'][:4]},
     'have 3 frames in common, of 300 and 3')])
def test_what_cannot_be_compared(change, message):
    with pytest.raises(ComparisonError, match=message) as raised:
        compare_results(scene_result(errors(0)), change(scene_result(errors(0))), 'a.json',
                        'b.json')
    assert 'b.json' in str(raised.value)


def test_other_runs_have_other_stamps():
    this, other = (run_result({start + 1000 * i: 0.1 for i in range(20)}, name)
                   for start, name in ((0, 'monday'), (1, 'tuesday')))
    with pytest.raises(ComparisonError, match=r'\(monday\).*\(tuesday\) have 0 frames in common'):
        compare_results(this, other, 'a', 'b')
    check_comparable(this, other, 'a', 'b')


def test_the_command_writes_table_json_and_picture(tmp_path, capsys):
    files = [tmp_path / 'a.json', tmp_path / 'b.json']
    lost = errors(4)
    lost[:200] = np.inf
    for file, values in zip(files, (errors(4), lost), strict=True):
        file.write_text(json.dumps(scene_result(values)))
    out, picture = tmp_path / 'c.json', tmp_path / 'pictures' / 'c.png'
    assert main(['compare', *map(str, files), '--json', str(out), '--picture',
                 str(picture)]) == 0
    printed = capsys.readouterr().out
    assert 'median position error' in printed and 'better' in printed
    assert json.loads(out.read_text())['kind'] == 'comparison'
    assert picture.read_bytes().startswith(b'\x89PNG')
    files[1].write_text(json.dumps(scene_result(lost, scene='lab')))
    assert main(['compare', *map(str, files)]) == 1
    assert "b.json on 'lab'" in capsys.readouterr().err


def test_evaluate_compares_a_model_with_an_older_result(tmp_path, capsys):
    from test_calibrate_command import SkyModel, write_model, write_scene
    here: Path = write_scene(tmp_path / 'here', 220.0, 30.0)
    model = write_model(tmp_path / 'here.pt', SkyModel())
    first, second, bare = (tmp_path / f'{name}.json' for name in ('first', 'second', 'bare'))
    words = ['evaluate', str(model), str(here), '--json']
    assert main([*words, str(first), '--per-frame']) == 0
    assert main([*words, str(second), '--against', str(first)]) == 0
    assert f'this result against {first}: 32 held-out frames' in capsys.readouterr().out
    result = json.loads(second.read_text())
    assert 'frames_detail' not in result and result['comparison']['frames_compared'] == 32
    assert not any(row['is_clear'] for row in result['comparison']['rows'])
    assert main([*words, str(bare), '--against', str(second)]) == 1
    assert 'second.json: does not list its frames' in capsys.readouterr().err
    assert not bare.exists()
