# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""doc/robot-startup.md against the programs: commands, arguments, parameters, reasons."""

import re
import shlex
from pathlib import Path

import yaml
from test_launch import NAV2_STARTUP, RELOCALIZE, declared_arguments

from implicit_relocalizer.cli import COMMANDS, main
from implicit_relocalizer.localization.belief import Cause, State
from implicit_relocalizer.localization.recorded_topics import record_command

PAGE = (Path(__file__).resolve().parents[1] / 'doc' / 'robot-startup.md').read_text()
# Indented blocks, with lines that end in a backslash joined.
BLOCKS = [re.sub(r'\\\n\s*', '', block) for block in re.findall(r'(?:^    .*\n)+', PAGE, re.M)]
LINES = [line.strip() for block in BLOCKS for line in block.splitlines()]
STATE_VECTOR = 15  # of robot_localization: pose, its velocity, linear acceleration


def commands(program: str) -> list[list[str]]:
    found = [shlex.split(line) for line in LINES if line.startswith(f'{program} ')]
    assert found, program
    return found


def parameters(node: str) -> list[dict]:
    blocks = [yaml.safe_load(block) for block in BLOCKS if 'ros__parameters' in block]
    found = [block[node]['ros__parameters'] for block in blocks if node in block]
    assert found, node
    return found


def table(first_column: str) -> list[str]:
    """The code in the first column of the table with that head."""
    rows = PAGE.split(f'| {first_column} |')[1].split('\n\n')[0].splitlines()[2:]
    return [row.split('`')[1] for row in rows]


def test_every_command_of_ours_parses(monkeypatch, capsys):
    ran = []
    for command in COMMANDS:
        def remember(options):
            ran.append(options)
            return 0
        monkeypatch.setattr(command, 'run', remember)
    for command in commands('implicit-relocalizer'):
        assert main(command[1:]) == 0, (command, capsys.readouterr().err)
    assert [options.command for options in ran] == [
        'inspect', 'train', 'evaluate', 'calibrate', 'doctor', 'evaluate', 'evaluate']


def test_every_launch_argument_exists_and_every_one_is_told_of():
    relocalize, nav2 = (set(declared_arguments(file)) for file in (RELOCALIZE, NAV2_STARTUP))
    known = {RELOCALIZE.name: relocalize, NAV2_STARTUP.name: nav2 | relocalize}
    for command in commands('ros2 launch'):
        for argument in command[4:]:
            name = argument.split(':=')[0]
            assert name in known[command[3]], argument
    named = set(re.findall(r'`(\w+)(?::=[^`]*)?(?:`|\s)', PAGE))
    assert relocalize <= named
    assert 'nav2' in named


def test_topics_are_recorded_by_option_as_the_launch_file_does():
    for command in commands('ros2 bag'):
        options = [part for part in command if part.startswith('-')]
        assert set(options) <= set(record_command('folder', [], use_sim_time=False))
        assert options[-1] == '--topics'


def test_the_parameters_exist_and_their_values_are_allowed():
    from implicit_relocalizer.localization.parameter_table import PARAMETERS
    from implicit_relocalizer.localization.parameters import find_refusal
    types = {entry.name: type(entry.default) for entry in PARAMETERS}
    for block in parameters('relocalizer'):
        assert find_refusal(block.items()) == ''
        assert {name: type(value) for name, value in block.items()} == {
            name: types[name] for name in block}


def test_the_modes_are_all_there():
    from implicit_relocalizer.localization.parameters import CHOICES
    assert sorted(table('`mode`')) == sorted(CHOICES['mode'])
    assert sorted(table('`tf_mode`')) == sorted(CHOICES['tf_mode'])
    for tf_mode in CHOICES['tf_mode']:
        assert any(line.startswith(f'{tf_mode} ') and 'map' in line for line in LINES)


def test_the_reasons_are_those_that_the_node_prints():
    causes = {cause.value for cause in Cause}
    assert set(table('it says')) <= causes
    told = {cause.value for cause in (Cause.NO_FIX, Cause.NO_IMAGES, Cause.CONTRADICTED,
                                      Cause.TIMEOUT, Cause.WAITING)}
    assert told <= set(table('it says'))  # those that lead to LOST
    line = re.search(r'`state (\w+) -> (\w+): (\w+)`', PAGE)
    assert line
    assert {line[1], line[2]} <= {state.value for state in State}
    assert line[3] in causes


def test_filters_get_poses_of_their_own_body_and_vectors_of_their_length():
    for block in parameters('ekf_global'):
        for name, value in block.items():
            if isinstance(value, list):
                assert len(value) == STATE_VECTOR, name
                wanted = bool if name.endswith('_config') else float
                assert {type(element) for element in value} == {wanted}, name
        assert block['world_frame'] == block['map_frame'] != block['odom_frame']
        fuses_camera = 'pose0' in block
        assert ('optical' in block['base_link_frame']) is fuses_camera
        assert block['two_d_mode'] is not fuses_camera
    announced = [block for block in parameters('relocalizer') if block.get('announce_initialpose')]
    assert announced and all(block['initialpose_repeat_s'] == 0.0 for block in announced)
