# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, its exit status, and mistakes answered without traceback."""

import json
import os
import subprocess
import sys

import pytest
import torch
from box_room import write_box_room

from implicit_relocalizer.cli import main
from implicit_relocalizer.network.model_file import ModelMetadata, save_model

SMALL = ['--set', 'input_width=64', '--set', 'mapping.iterations=3', '--set', 'head.width=16',
         '--set', 'mapping.views_per_image=1', '--set', 'mapping.points_per_view=20',
         '--set', 'validation_fraction=0.25']


@pytest.fixture
def scene(tmp_path):
    return write_box_room(tmp_path / 'room', 6, held_out_every=3)


@pytest.fixture
def failing(capsys):
    """Runs a command that must fail, and gives what it wrote to standard error."""
    def run(*arguments) -> str:
        assert main([str(argument) for argument in arguments]) == 1
        captured = capsys.readouterr()
        assert captured.out == '' and 'Traceback' not in captured.err
        return captured.err
    return run


def test_info_prints_json(tmp_path, capsys):
    model = tmp_path / 'kitchen.pt'
    metadata = ModelMetadata('kitchen', (640, 480), ((500.0, 0.0, 320.0), (0.0, 500.0, 240.0),
                                                     (0.0, 0.0, 1.0)),
                             (0.0, 0.0, 0.0), (1.0, 2.0, 3.0), 'resnet18')
    save_model(torch.jit.script(torch.nn.Identity()), model, metadata)
    assert main(['info', str(model)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed['scene'] == 'kitchen' and printed['image_size'] == [640, 480]
    assert printed['file'] == str(model) and printed['bytes'] == model.stat().st_size


def test_info_on_what_is_no_model_names_it(tmp_path, failing):
    assert 'absent.pt: no such model file' in failing('info', tmp_path / 'absent.pt')
    (tmp_path / 'text.pt').write_text('hello')
    assert 'text.pt: not a TorchScript file' in failing('info', tmp_path / 'text.pt')


def test_training_on_a_missing_folder_names_it(tmp_path, failing):
    error = failing('train', tmp_path / 'nowhere', '--output', tmp_path / 'run')
    assert error.startswith('implicit-relocalizer train: ')
    assert f'{tmp_path / "nowhere"}: no such folder' in error
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--set', 'mapping.iteration=5'], 'unknown key mapping.iteration'),
    (['--set', 'mapping.iterations'], "override 'mapping.iterations': expected section.key=value"),
    (['--set', 'mapping.iterations=['], "'[' is no YAML value"),
    (['--set', 'encoder.name=resnet81'], "encoder 'resnet81' is unknown; choose one of"),
    (['--set', 'encoder.pretrained=true'], 'gradient_descriptor has no weights'),
    (['--config', 'maping'], 'config/train/maping.yaml'),
    (['--config', 'absent.yaml'], 'absent.yaml: no such configuration file'),
    (['--split', 'hard'], "hard.txt: no such split; the folder has ['standard']"),
])
def test_mistakes_are_named(scene, tmp_path, failing, arguments, message):
    assert message in failing('train', scene, '--output', tmp_path / 'run', *arguments)


def test_debug_shows_where_an_error_comes_from(tmp_path):
    with pytest.raises(ValueError, match='no such folder'):
        main(['--debug', 'train', str(tmp_path / 'nowhere')])


def test_a_reader_who_has_heard_enough_is_no_error(monkeypatch, capfd):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, 'w') as closed:
        monkeypatch.setattr(sys, 'stdout', closed)
        assert main(['train', '--print-config']) == 141
    assert capfd.readouterr().err == ''


def test_a_program_of_its_own_ends_with_status_one_and_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'implicit_relocalizer.cli', 'train', str(tmp_path / 'nowhere')],
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f'{tmp_path / "nowhere"}: no such folder' in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('arguments', [[], ['dance'], ['train'], ['info']])
def test_wrong_usage_ends_with_status_two(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert 'usage: implicit-relocalizer' in capsys.readouterr().err
