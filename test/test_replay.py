# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`replay`: what is in the recording that it writes, and what it makes of bad input."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rosbags', reason='needs rosbags, from the extra train')

from bag_writer import (
    BagWriter,
    camera_info,
    compressed_image,
    diagnostics,
    jpeg,
    pose_stamped,
    raw_image,
    transform,
)
from colour_model import write_model
from replay_drive import (
    COUNT,
    K_33,
    MS,
    SIZE,
    START_NS,
    STEP_NS,
    write_drive,
    write_parameters,
)

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.readers.bag_poses import pose_sample
from implicit_relocalizer.data.readers.bag_storage import open_bag
from implicit_relocalizer.data.readers.bag_tf import stamp_to_ns

UNUSABLE = 2
# Every answer stands by itself, and none waits.
ALONE = ('--param', 'consensus_fixes:=1', '--param', 'tf_mode:=none', '--param', 'odometry:=none')


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('replay')
    write_drive(folder / 'drive')
    write_parameters(folder / 'parameters.yaml')
    write_model(folder / 'model.pt')
    replay(folder, folder / 'drive', folder / 'replayed')
    return folder


def replay(folder: Path, bag: Path, out: Path, *arguments: str) -> int:
    return main(['replay', str(folder / 'model.pt'), str(bag), '--out', str(out),
                 '--params-file', str(folder / 'parameters.yaml'), *map(str, arguments)])


def answers_of(path: Path) -> dict[int, np.ndarray]:
    """The poses by stamp; none has two."""
    found: dict[int, np.ndarray] = {}
    with open_bag(path) as bag:
        topic = next(t for t in bag.topics if t.name == '/relocalizer/pose')
        for _, message in bag.messages([topic]):
            sample = pose_sample(message)
            assert sample.stamp_ns not in found
            found[sample.stamp_ns] = sample.to_matrix()
    return found


def counts_of(path: Path) -> dict[str, int]:
    with open_bag(path) as bag:
        return {topic.name: topic.count for topic in bag.topics}


def assert_nothing_written(out: Path) -> None:
    assert not out.exists()
    assert not list(out.parent.glob('.*partial*'))


# --- what is written ---

def test_the_recording_holds_source_and_answers(folder):
    source, written = counts_of(folder / 'drive'), counts_of(folder / 'replayed')
    for name in ('/image', '/camera_info', '/tf_static', '/reference/pose'):
        assert written[name] == source[name], name
    assert written['/tf'] > source['/tf']  # map_to_odom besides
    assert written['/relocalizer/pose'] == written['/relocalizer/pose_with_covariance'] > 15
    assert written['/diagnostics'] > 10
    assert not list(folder.glob('.*partial*'))


def test_answers_are_recorded_when_their_images_were_and_messages_are_in_order(folder):
    image_times, times, covariances = {}, [], []
    with open_bag(folder / 'replayed') as bag:
        for topic, time_ns, message in bag.timed_messages(bag.topics):
            times.append(time_ns)
            if topic.name == '/image':
                image_times.setdefault(stamp_to_ns(message.header.stamp), time_ns)
            elif topic.name == '/relocalizer/pose_with_covariance':
                stamp_ns = stamp_to_ns(message.header.stamp)
                covariances.append(message.pose.covariance.reshape(6, 6))
                # They waited for odometry, which comes every 20 ms, 20 ms late, and the first one
                # for its calibration.
                assert 0 <= time_ns - image_times[stamp_ns] <= 100 * MS
                assert message.header.frame_id == 'map'
    assert times == sorted(times)
    np.testing.assert_allclose(np.diag(covariances[0]), [60, 61, 31.5, 23.5, 1, 1])


def test_a_replay_is_evaluated_like_a_run(folder):
    assert main(['evaluate', str(folder / 'replayed'), '--json', str(folder / 'run.json')]) == 0
    result = json.loads((folder / 'run.json').read_text())
    assert result['images_answered'] == len(answers_of(folder / 'replayed'))
    assert [change['state'] for change in result['states']][:3] == [
        'SEARCHING', 'LOCALIZED', 'LOST']
    # The model sees colours in whole numbers, as the reference tells them.
    assert result['errors']['median_translation_m'] < 1e-6


def test_a_replay_of_a_replay_is_the_same_and_holds_no_answers_twice(folder):
    assert replay(folder, folder / 'replayed', folder / 'again') == 0
    first, second = answers_of(folder / 'replayed'), answers_of(folder / 'again')
    assert first.keys() == second.keys()
    assert all((first[stamp_ns] == second[stamp_ns]).all() for stamp_ns in first)
    assert counts_of(folder / 'again') == counts_of(folder / 'replayed')


def test_what_others_said_stays(folder, tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(6):
            stamp_ns = START_NS + index * STEP_NS
            pixels = np.full((SIZE[1], SIZE[0], 3), (20 + index, 40, 60), np.uint8)
            bag.add('/image', raw_image(stamp_ns, pixels, frame_id='lens'))
            bag.add('/camera_info', camera_info(stamp_ns, K_33, SIZE), delay_ns=0)
            bag.add('/tf', transform(stamp_ns, 'map', 'lens', np.eye(4)))
            bag.add('/tf', transform(stamp_ns, 'map', 'cart', np.eye(4)))
            bag.add('/robot1/relocalizer/pose', pose_stamped(stamp_ns, np.eye(4)))
            bag.add('/diagnostics', diagnostics(stamp_ns, 'motors: heat', {'state': 'warm'}))
            bag.add('/diagnostics', diagnostics(
                stamp_ns, '/robot1/relocalizer: localization', {'state': 'LOST'}))
    assert main(['replay', str(folder / 'model.pt'), str(tmp_path / 'bag'), '--out',
                 str(tmp_path / 'out'), '--param', 'consensus_fixes:=1', '--param',
                 'max_position_std_m:=0.0']) == 0
    children, names = [], []
    with open_bag(tmp_path / 'out') as bag:
        for topic, message in bag.messages(bag.topics):
            if topic.name == '/tf':
                children += [(item.child_frame_id, item.transform.translation.x)
                             for item in message.transforms]
            elif topic.name == '/diagnostics':
                names += [status.name for status in message.status]
    assert sorted(children) == [('cart', 0.0)] * 6 + [('lens', 20.0 + i) for i in range(6)]
    assert names.count('motors: heat') == 6
    assert '/robot1/relocalizer: localization' not in names
    assert '/robot1/relocalizer/pose' not in counts_of(tmp_path / 'out')


@pytest.mark.parametrize(('storage', 'arguments', 'suffix'), [
    ('sqlite3', [], '.db3'), ('sqlite3', ['--storage', 'mcap'], '.mcap'),
    ('mcap', ['--storage', 'sqlite3', '--no-images'], '.db3')])
def test_storage_is_that_of_the_source_or_the_one_named(folder, tmp_path, storage, arguments,
                                                        suffix):
    write_drive(tmp_path / 'bag', storage)
    assert replay(folder, tmp_path / 'bag', tmp_path / 'out', *arguments) == 0
    assert (tmp_path / 'out' / f'out{suffix}').is_file()
    assert ('/image' in counts_of(tmp_path / 'out')) == ('--no-images' not in arguments)
    assert answers_of(tmp_path / 'out').keys() == answers_of(folder / 'replayed').keys()


def test_compressed_images_are_replayed_as_the_node_sees_them(folder, tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(5):
            stamp_ns = START_NS + index * STEP_NS
            pixels = np.full((SIZE[1], SIZE[0], 3), (20 + index, 40, 60), np.uint8)
            bag.add('/camera/image/compressed', compressed_image(
                stamp_ns, jpeg(pixels, 100), 'rgb8; jpeg compressed bgr8', 'lens'))
            bag.add('/camera/camera_info', camera_info(stamp_ns, K_33, SIZE), delay_ns=0)
    assert replay(folder, tmp_path / 'bag', tmp_path / 'out', '--image-topic', '/camera/image',
                  '--param', 'tf_mode:=none', '--param', 'agree_translation_m:=9.0') == 0
    answers = answers_of(tmp_path / 'out')
    assert sorted(answers) == [START_NS + index * STEP_NS for index in (2, 3, 4)]
    np.testing.assert_allclose(answers[START_NS + 2 * STEP_NS][:3, 3], [22, 40, 60], atol=2)


# --- time ---

def test_a_busy_model_drops_images_as_the_live_node_does(folder, tmp_path, capsys):
    assert replay(folder, folder / 'drive', tmp_path / 'out', '--inference-ms', '450',
                  *ALONE) == 0
    text = capsys.readouterr().out
    superseded = int(re.search(r'^superseded +(\d+)', text, re.MULTILINE).group(1))
    # While one is answered two or three come, of which the newest is answered next.
    assert COUNT / 3 < superseded < 2 * COUNT / 3
    with open_bag(tmp_path / 'out') as bag:
        topics = [t for t in bag.topics if t.name in ('/image', '/relocalizer/pose')]
        images, delays = {}, []
        for topic, time_ns, message in bag.timed_messages(topics):
            stamp_ns = stamp_to_ns(message.header.stamp)
            if topic.name == '/image':
                images.setdefault(stamp_ns, time_ns)
            else:
                delays.append(time_ns - images[stamp_ns])
    assert min(delays) >= 450 * MS and max(delays) < 1000 * MS


def test_a_measured_model_takes_its_time(folder, tmp_path):
    assert replay(folder, folder / 'drive', tmp_path / 'out', '--inference-ms', 'measured') == 0
    assert answers_of(tmp_path / 'out')


def test_a_limit_of_images_per_second_holds(folder, tmp_path):
    assert replay(folder, folder / 'drive', tmp_path / 'out', '--param', 'max_rate_hz:=2.0',
                  *ALONE) == 0
    with open_bag(tmp_path / 'out') as bag:
        topic = next(t for t in bag.topics if t.name == '/relocalizer/pose')
        times_ns = [time_ns for _, time_ns, _ in bag.timed_messages([topic])]
    # The first one waited for its calibration.
    assert len(times_ns) > 10 and np.diff(times_ns[1:]).min() >= 500 * MS


def test_in_startup_nobody_looks_any_more_once_the_place_is_known(folder, tmp_path, capsys):
    assert replay(folder, folder / 'drive', tmp_path / 'out', '--param', 'mode:=startup') == 0
    text = capsys.readouterr().out
    assert re.search(r'^answered +1$', text, re.MULTILINE)
    assert re.search(rf'^not looked at +{COUNT - 3} ', text, re.MULTILINE)


# --- what cannot be done ---

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
