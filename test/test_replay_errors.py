# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What `replay` refuses, with which words, and that nothing is left behind then."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rosbags', reason='needs rosbags, from the extra train')

from bag_writer import (
    BagWriter,
    camera_info,
    raw_image,
)
from replay_drive import (
    K_33,
    SIZE,
    START_NS,
    STEP_NS,
    write_drive,
)
from replay_runs import (
    UNUSABLE,
    answers_of,
    assert_nothing_written,
    counts_of,
    make_folder,
    replay,
)

from implicit_relocalizer.cli import main


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A recording and a model, to be read only."""
    return make_folder(tmp_path_factory)


def refusal_of(capsys, arguments: list) -> str:
    """The one sentence of a replay that ended with the status for that."""
    assert main(list(map(str, arguments))) == UNUSABLE
    output = capsys.readouterr()
    assert output.out == ''
    lines = [line for line in output.err.splitlines() if not line.startswith('WARNING')]
    assert len(lines) == 1 and lines[0].startswith('implicit-relocalizer replay: ')
    return lines[0]


@pytest.mark.parametrize(('arguments', 'text'), [
    (['--param', 'min_confidense:=0.5'], "no parameter 'min_confidense'; it has .*min_confidence"),
    (['--param', 'min_confidence:=1'], "'min_confidence' is 1, expected a double, write 1.0"),
    (['--param', 'consensus_fixes:=0'], "'consensus_fixes' is 0, allowed are 1 to 100"),
    (['--param', 'consensus_fixes:=2.0'], "'consensus_fixes' is 2.0, expected a integer"),
    (['--param', 'mode:=sometimes'], "'mode' is 'sometimes'; allowed are startup"),
    (['--param', 'map_frame:='], "'map_frame' is None, expected a string"),
    (['--param', 'mode=startup'], "'mode=startup': expected NAME:=VALUE"),
    (['--params-file', 'missing.yaml'], 'missing.yaml'),
    (['--image-topic', '/nowhere'], 'has no topic /nowhere'),
    (['--camera-info-topic', '/image'], 'of another type')])
def test_wrong_options_are_refused(folder, tmp_path, capsys, arguments, text):
    assert re.search(text, refusal_of(capsys, [
        'replay', folder / 'model.pt', folder / 'drive', '--out', tmp_path / 'out', *arguments]))
    assert_nothing_written(tmp_path / 'out')


@pytest.mark.parametrize(('content', 'text'), [
    ('a: [', 'not a YAML file'), ('amcl:\n  ros__parameters:\n    x: 1\n', 'no parameters for'),
    ('[1, 2]', 'no parameters for'), ('/**:\n  ros__parameters: 7\n', 'holds 7'),
    ('/**:\n  ros__parameters:\n    nonsense: 7\n', "no parameter 'nonsense'")])
def test_wrong_parameter_files_are_refused(folder, tmp_path, capsys, content, text):
    (tmp_path / 'parameters.yaml').write_text(content)
    assert text in refusal_of(capsys, [
        'replay', folder / 'model.pt', folder / 'drive', '--out', tmp_path / 'out',
        '--params-file', tmp_path / 'parameters.yaml'])
    assert_nothing_written(tmp_path / 'out')


def test_the_parameter_file_that_comes_along_is_accepted(folder, tmp_path, repository):
    assert main(['replay', str(folder / 'model.pt'), str(folder / 'drive'), '--out',
                 str(tmp_path / 'out'), '--params-file',
                 str(repository / 'config' / 'relocalizer.yaml')]) == 0


def without_images(path: Path) -> None:
    with BagWriter(path) as bag:
        bag.add('/camera_info', camera_info(START_NS, K_33, SIZE))


def without_calibration(path: Path) -> None:
    with BagWriter(path) as bag:
        bag.add('/image', raw_image(START_NS, np.zeros((48, 64, 3), np.uint8)))


def with_two_cameras(path: Path) -> None:
    with BagWriter(path) as bag:
        for name in ('/left/image', '/right/image'):
            bag.add(name, raw_image(START_NS, np.zeros((48, 64, 3), np.uint8)))


def cut_off(path: Path) -> None:
    write_drive(path)
    file = path / f'{path.name}.mcap'
    file.write_bytes(file.read_bytes()[:-2000])


def damaged_inside(path: Path) -> None:
    """Its index is whole, so that it opens, but the pages with the messages are not."""
    write_drive(path, 'sqlite3')
    file = path / f'{path.name}.db3'
    data = bytearray(file.read_bytes())
    data[len(data) // 2:len(data) // 2 + 200_000] = bytes(200_000)
    file.write_bytes(data)


@pytest.mark.parametrize(('make', 'text'), [
    (lambda path: None, 'no such recording'), (Path.mkdir, 'no complete ROS 2 bag'),
    (without_images, 'no topic with images'), (without_calibration, 'no topic with calibrations'),
    (with_two_cameras, 'choose one with --image-topic'), (cut_off, 'cut off'),
    (damaged_inside, 'damaged')])
def test_recordings_that_cannot_be_replayed_leave_nothing(folder, tmp_path, capsys, make, text):
    make(tmp_path / 'bag')
    assert text in refusal_of(capsys, ['replay', folder / 'model.pt', tmp_path / 'bag', '--out',
                                       tmp_path / 'out'])
    assert_nothing_written(tmp_path / 'out')


def test_damaged_messages_are_counted_and_left_out(folder, tmp_path, capsys):
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(6):
            stamp_ns = START_NS + index * STEP_NS
            pixels = np.full((SIZE[1], SIZE[0], 3), (20, 40, 60), np.uint8)
            bag.add('/camera_info', camera_info(stamp_ns, K_33, SIZE), delay_ns=0)
            bag.add('/image', raw_image(stamp_ns, pixels, frame_id='lens'),
                    cut_bytes=9 * (index == 3))
    assert replay(folder, tmp_path / 'bag', tmp_path / 'out', '--param', 'tf_mode:=none') == 0
    assert re.search(r'^damaged +1 messages on /image$', capsys.readouterr().out, re.MULTILINE)
    assert START_NS + 3 * STEP_NS not in answers_of(tmp_path / 'out')


def test_a_model_that_is_none_is_refused_before_anything_is_written(folder, tmp_path, capsys):
    (tmp_path / 'model.pt').write_bytes(b'no model')
    assert 'model.pt' in refusal_of(capsys, ['replay', tmp_path / 'model.pt', folder / 'drive',
                                             '--out', tmp_path / 'out'])
    assert_nothing_written(tmp_path / 'out')


def test_nothing_is_overwritten_but_a_bag_by_force(folder, tmp_path, capsys):
    command = ['replay', folder / 'model.pt', folder / 'drive', '--params-file',
               folder / 'parameters.yaml', '--out', tmp_path / 'out']
    shutil.copytree(folder / 'replayed', tmp_path / 'out')
    assert 'exists already' in refusal_of(capsys, command)
    (tmp_path / 'out' / 'notes.txt').write_text('mine')
    assert 'more than a bag' in refusal_of(capsys, [*command, '--force'])
    assert (tmp_path / 'out' / 'notes.txt').exists()
    (tmp_path / 'out' / 'notes.txt').unlink()
    assert main([*map(str, command), '--force', '--no-images']) == 0
    assert '/image' not in counts_of(tmp_path / 'out')
    assert (tmp_path / 'out' / 'out.mcap').is_file()


def test_the_source_is_never_the_output(folder, tmp_path, capsys):
    shutil.copytree(folder / 'drive', tmp_path / 'drive')
    for out in (tmp_path / 'drive', tmp_path):
        assert 'the recording that is read' in refusal_of(capsys, [
            'replay', folder / 'model.pt', tmp_path / 'drive', '--force', '--out', out])
    assert counts_of(tmp_path / 'drive') == counts_of(folder / 'drive')
