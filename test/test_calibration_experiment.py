# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A calibration from every frame of a scene: each is held out once, of a model that lacks it."""

import json

import pytest
from box_room import write_box_room
from training_runs import BRIEF, write_settings

from implicit_relocalizer.cli import main
from implicit_relocalizer.cli.calibration_experiment import hold_out
from implicit_relocalizer.data.scenes import read_scene
from implicit_relocalizer.network.model_file import load_model


@pytest.fixture(scope='module')
def room(tmp_path_factory):
    folder = tmp_path_factory.mktemp('calibration') / 'room'
    write_box_room(folder, 16, 4)
    return folder


def command(room, *more):
    return ['calibration-experiment', str(room), '--folds', '2', '--config',
            str(write_settings(room.parent)), '--output', str(room.parent / 'runs'), '--out',
            str(room.parent / 'calibrated.pt'), '--json', str(room.parent / 'result.json'),
            '--device', 'cpu', *(f'--set={v}' for v in (*BRIEF, 'mapping.iterations=3')), *more]


def test_every_frame_is_judged_by_a_model_that_did_not_learn_it(room, capsys):
    # After three steps answers are anywhere: within a kilometre is what can be good of them.
    assert main(command(room, '--bound', '1000', '180')) == 0
    result = json.loads((room.parent / 'result.json').read_text())
    assert result['folds'] == 2 and result['calibration']['frames'] == 16
    assert result['checked']['accepted']['view'][1] == 16
    learned = [json.loads((room.parent / 'runs' / f'room__{index}_of_2' / 'result.json')
                          .read_text()) for index in (0, 1)]
    assert [(run['train']['frames'], run['test']['frames']) for run in learned] == [(8, 8)] * 2
    module, metadata = load_model(room.parent / 'calibrated.pt')
    assert bool(module.calibration.is_fitted) and metadata.calibration['bound_m'] == 1000.0
    assert 'left out' in capsys.readouterr().out


def test_folds_hold_out_every_frame_once(room):
    scene = read_scene(room)
    held_out = [[frame.name for frame in hold_out(scene, index, 3).split('test')]
                for index in range(3)]
    assert sorted(name for names in held_out for name in names) == sorted(
        frame.name for frame in scene.frames)
    assert max(map(len, held_out)) - min(map(len, held_out)) <= 1


def test_more_folds_than_frames_are_told(room, capsys):
    assert main([*command(room), '--folds', '9']) == 1
    assert '--folds 9' in capsys.readouterr().err
