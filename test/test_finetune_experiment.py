# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The fine-tuning experiment: one command leaves results that tables can read, once."""

import json

import pytest
import yaml
from box_room import write_box_room
from training_runs import BRIEF, write_settings

from implicit_relocalizer.cli import main
from implicit_relocalizer.cli.finetune_experiment import summarise
from implicit_relocalizer.evaluation.records import read_record

FINETUNING = ('iterations=2', 'max_seconds=0', 'views_per_image=1', 'points_per_view=40',
              'batch_images=2', 'points_per_image=20', 'kept_cells=20', 'rounds=1')


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp('experiment')
    write_box_room(folder / 'room', 16, 4)
    plan = {'title': 'Plan', 'config': 'mapping', 'scenes': {'small': {'path': 'room'}},
            'rows': {'row': {'label': 'a row'}}}
    (folder / 'plan.yaml').write_text(yaml.safe_dump(plan))
    command = ['finetune-experiment', '--plan', str(folder / 'plan.yaml'), '--seed', '3',
               '--config', str(write_settings(folder)), '--data', str(folder), '--output',
               str(folder / 'runs'), '--benchmarks', str(folder / 'benchmarks'), '--device', 'cpu',
               *(f'--set={value}' for value in (*BRIEF, 'mapping.iterations=3')),
               *(f'--set-finetune={value}' for value in FINETUNING)]
    assert main(command) == 0
    return folder, command


def test_it_leaves_a_result_before_and_one_after(experiment):
    folder, _ = experiment
    records = {when: read_record(folder / 'benchmarks' / 'finetuning' / f'{when}__small__3.json')
               for when in ('before', 'after')}
    for when, record in records.items():
        assert (record['row'], record['seed'], record['scene']) == (when, 3, 'room')
        assert (record['train_first']['frames'], record['train_rest']['frames']) == (6, 6)
        assert record['train']['frames'] == 12 and record['test']['frames'] == 4
        assert (record['known_frames'], record['finetuning']['iterations']) == (6, 2)
    assert records['before']['model'] != records['after']['model']


def test_what_is_there_is_not_run_again(experiment, capsys):
    folder, command = experiment
    file = folder / 'benchmarks' / 'finetuning' / 'after__small__3.json'
    record = json.loads(file.read_text())
    record['test']['median_translation_m'] = 1.2345
    file.write_text(json.dumps(record))
    capsys.readouterr()
    assert main(command) == 0
    assert 'small, + the rest with positions alone: held-out median 123.45 cm (123.45 to 123.45)' \
        in capsys.readouterr().out


def test_an_unknown_scene_is_named(experiment, capsys):
    assert main([*experiment[1], '--scene', 'moon']) == 1
    assert "scene 'moon' is not in plan plan; it has small" in capsys.readouterr().err


def test_seeds_are_summarised_by_mean_and_range():
    def record(translation_m: float, rotation_deg: float) -> dict:
        return {'test': {'median_translation_m': translation_m,
                         'median_rotation_deg': rotation_deg}}
    assert summarise('place', {'before': [record(0.02, 0.5), record(0.04, 1.5)]}) == (
        'place, first part with poses: held-out median 3.00 cm (2.00 to 4.00), '
        '1.00° (0.50 to 1.50)')
