# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Where the time of a training goes: phases, steps beside the bare network, errors over time."""

import logging
import time

import pytest
import torch
from box_room import write_box_room
from training_runs import BRIEF, write_settings

from implicit_relocalizer.cli import main
from implicit_relocalizer.evaluation.records import read_json
from implicit_relocalizer.evaluation.tables import make_tables
from implicit_relocalizer.training import compilation
from implicit_relocalizer.training.phases import Phases
from implicit_relocalizer.training.training_speed import make_curve, seconds_to_errors

CPU = torch.device('cpu')


def test_phases_are_summed_by_name_in_their_order(capsys):
    phases = Phases(CPU, show_progress=True)
    with pytest.raises(KeyError), phases.step('first'):
        time.sleep(0.02)
        raise KeyError
    with phases.step_by_step('second', 5) as advance:
        advance(2)
        advance(5)
    with phases.step('first'):
        time.sleep(0.02)
    assert list(phases.seconds) == ['first', 'second']
    assert phases.seconds['first'] >= 0.04 > phases.seconds['second'] >= 0
    assert 'second: 100%' in capsys.readouterr().err


def test_the_curve_begins_with_the_training_and_ends_with_the_model():
    result = {
        'phase_seconds': {'reading images': 2.0, 'preparing mapping': 3.0, 'mapping': 20.0,
                          'alignment': 10.0, 'measuring': 4.0},
        'validation_history': {'mapping': [[10, 8.0, 0.6, 3.0], [20, 16.0, 0.3, 2.0]],
                               'alignment': [[5, 5.0, 0.4, 1.0]]},
        'validation': {'median_translation_m': 0.1, 'median_rotation_deg': 0.5},
        'training_seconds': 36.0}
    curve = make_curve(result)
    assert [row['seconds'] for row in curve] == [13.0, 21.0, 30.0, 36.0]
    assert seconds_to_errors(curve, (1.0, 0.5, 0.2, 0.05)) == {'1': 13.0, '0.5': 21.0, '0.2': 36.0}


def test_without_a_compiler_training_goes_on_and_says_so(monkeypatch, caplog):
    def refuse(function):
        raise RuntimeError('InvalidCxxCompiler: no working C++ compiler found\nin any place')
    monkeypatch.setattr(torch, 'compile', refuse)
    compilation._try_compiling.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert compilation.compiled(abs, True, CPU) is abs
    finally:
        compilation._try_compiling.cache_clear()
    assert 'no working C++ compiler found' in caplog.text and 'in any place' not in caplog.text
    assert 'training goes on without' in caplog.text


def test_what_nobody_wants_compiled_is_not_tried(monkeypatch):
    monkeypatch.setattr(compilation, '_try_compiling', None)
    assert compilation.compiled(abs, False, CPU) is abs


def test_steps_phases_and_errors_of_a_training_are_told(tmp_path, capsys):
    room = write_box_room(tmp_path / 'room', 12, held_out_every=4)
    result_file = tmp_path / 'training' / 'room.json'
    settings = (*BRIEF, 'validation_fraction=0.25', 'input_width=64', 'mapping.iterations=4')
    assert main(['training-benchmark', str(room), '--config', str(write_settings(tmp_path)),
                 *(f'--set={value}' for value in settings), '--rounds', '2', '--turn', '0.02',
                 '--no-compile', '--budget', '30', '--json', str(result_file)]) == 0
    values = read_json(result_file)['configurations']['settings']
    rows = {row['variant']: row for row in values['steps']['mapping']}
    assert set(rows) == {'float32', 'bfloat16'}
    for row in rows.values():
        assert row['batch'] == 64 and row['item'] == 'points'
        assert 0 < row['share_of_data'] < 1 and row['data_per_s'] > row['loop_per_s'] > 0
        assert row['loop_per_s'] == pytest.approx(row['bare_per_s'], rel=0.9)
    phases = values['phase_seconds']
    assert list(phases) == ['reading images', 'building', 'preparing mapping', 'mapping',
                            'measuring', 'exporting']
    assert 0 < sum(phases.values()) <= values['wall_seconds'] + 0.01
    assert values['curve'][-1]['seconds'] == values['training_seconds']
    assert values['test']['frames'] == 3
    table = capsys.readouterr().out
    assert '| settings, mapping | float32 | 64 points |' in table
    assert '| preparing mapping | ' in table and '| held-out images | ' in table
    assert table.strip() in make_tables(tmp_path, {})
