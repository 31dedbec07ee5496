# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""doc/performance.md shows what the files say, and a terminal what was measured over DDS."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from implicit_relocalizer.cli import main
from implicit_relocalizer.cli.benchmark import BOUNDS
from implicit_relocalizer.evaluation.records import RecordError
from implicit_relocalizer.evaluation.speed.guard import read_bounds
from implicit_relocalizer.evaluation.speed.measuring import RATIOS, summarize_samples
from implicit_relocalizer.evaluation.speed.over_dds import add_dds
from implicit_relocalizer.evaluation.speed.page import fill_page
from implicit_relocalizer.evaluation.speed.rounds import Samples
from implicit_relocalizer.evaluation.speed.text import RATIO_LABELS, describe_benchmark
from implicit_relocalizer.resources import share_path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'doc' / 'performance.md'


def latency(median: float) -> dict:
    return {'latency_ms': {'median': median, 'p5': median - 1.0, 'p95': median + 5.0},
            'waited': 0, 'sent': 20, 'answered': 19}


@pytest.fixture
def result() -> dict:
    """As the command writes it, of a GPU."""
    names = ('forward', 'hypotheses', 'refinement', 'total', 'baseline')
    samples = {name: Samples(np.full(5, 10.0 * (i + 1)), np.full(5, 9.0 * (i + 1)))
               for i, name in enumerate(names)}
    measured = {**summarize_samples(samples), 'peak_rss_bytes': 700_000_000,
                'peak_cuda_bytes': 45_000_000, 'input_size': [360, 240]}
    hardware = {'processor': 'Some CPU', 'cores': 2, 'threads': 2, 'gpu': 'Some GPU',
                'load_average': 0.1}
    return {'kind': 'benchmark', 'rounds': 5, 'threads': {'torch': 2, 'opencv': 2},
            'model': {'name': 'office.pt', 'scene': 'office', 'encoder': 'gradient_descriptor',
                      'bytes': 4_600_000, 'sha256': 64 * 'a'},
            'images': {'source': 'textured noise', 'scene': None, 'split': None, 'count': 8,
                       'size': [540, 360]},
            'hardware': {'cuda': hardware}, 'versions': {'torch': '2.12'},
            'devices': {'cuda': measured}}


def test_the_page_is_what_its_files_say():
    text = PAGE.read_text()
    assert fill_page(text, ROOT / 'benchmarks') == text, (
        'doc/performance.md is stale: run `implicit-relocalizer tables --page '
        'doc/performance.md`')
    assert all(f'`{name}`' in text for name in RATIOS)
    assert set(RATIO_LABELS) == set(RATIOS)


def test_the_bounds_on_the_page_are_those_of_the_file():
    rows = {line.split('`')[1]: line.rsplit('|', 2)[1] for line in PAGE.read_text().splitlines()
            if line.startswith('| `') and line.split('`')[1] in RATIOS}
    bounds = read_bounds(share_path(BOUNDS))
    for name, cell in rows.items():
        limits = {bound.limit for bound in bounds if bound.ratio == name}
        told = {float(number) for number in re.findall(r'[\d.]*\d', cell)}
        assert told == limits, name


def test_tables_are_filled_in_and_checked(tmp_path, result, capsys):
    (tmp_path / 'speed.json').write_text(json.dumps(result))
    page = tmp_path / 'page.md'
    page.write_text('Before.\n\n<!-- benchmark speed.json -->\nold\n<!-- end of benchmark -->\n')
    command = ['tables', '--page', str(page), '--benchmarks', str(tmp_path)]
    assert main([*command, '--check']) == 1
    assert f'run `implicit-relocalizer tables --page {page}`' in capsys.readouterr().err
    assert main(command) == 0 and main([*command, '--check']) == 0
    text = page.read_text()
    assert text.startswith('Before.\n') and 'old' not in text
    assert '| image in memory to pose | 40.00 | 40.00 | 40.00 | 0.00 | 36.00 |' in text
    assert '| overhead_over_forward: all but the network / network | 3.000 |' in text
    assert '45 MB on the GPU at most' in text and 'GPU Some GPU' in text


def test_a_page_names_files_that_there_are(tmp_path, result):
    begin, end = '<!-- benchmark speed.json -->\n', '<!-- end of benchmark -->'
    with pytest.raises(RecordError, match='no such file; make it with'):
        fill_page(begin + end, tmp_path)
    (tmp_path / 'speed.json').write_text(json.dumps({'kind': 'evaluation'}))
    with pytest.raises(RecordError, match="its kind is 'evaluation'"):
        fill_page(begin + end, tmp_path)
    (tmp_path / 'speed.json').write_text(json.dumps(result))
    with pytest.raises(RecordError, match='2 tables begin on the page and 1 of them'):
        fill_page(begin + begin + end, tmp_path)


def test_over_dds_the_ratio_is_that_of_the_load_that_stands_for_all(result):
    measured = result['devices']['cuda']
    assert 'over DDS: not measured (not asked for)' in describe_benchmark(result)
    loads = {'10': {'node': latency(55.0), 'empty_node': latency(3.0),
                    'process': latency(40.0), 'dds_over_process': 1.3,
                    'dds_over_process_spread': {'p5': 1.2, 'p95': 1.45}},
             'flat_out': {'node': latency(50.0), 'empty_node': latency(2.0)}}
    add_dds(measured, {'loads': loads}, '10')
    assert (measured['dds_ms'], measured['empty_node_ms']) == (55.0, 3.0)
    assert measured['ratios']['dds_over_process'] == 1.3 and measured['dds_load'] == '10'
    add_dds(measured, {'loads': loads}, 'flat_out')  # where the model alone was not called
    assert measured['ratios']['dds_over_process'] == pytest.approx((50.0 - 2.0) / 40.0)
    lines = describe_benchmark(result).splitlines()
    assert next(line for line in lines if line.startswith('10 Hz')).split() == [
        '10', 'Hz', '55.00', '54.00', '60.00', '3.00', '40.00', '1.30', '0', '19', 'of', '20']
    add_dds(measured, {'loads': loads}, '10')
    ratio = next(line for line in describe_benchmark(result).splitlines()
                 if line.startswith('dds_over_process'))
    assert ratio.split()[-5:] == ['1.300', '1.200', '1.450', '-', '-']
