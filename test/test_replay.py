# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`replay`: what is in the recording that it writes, and what it makes of bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

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
from replay_drive import (
    COUNT,
    K_33,
    MS,
    SIZE,
    START_NS,
    STEP_NS,
    write_drive,
)
from replay_runs import (
    ALONE,
    answers_of,
    counts_of,
    make_folder,
    replay,
)

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.readers.bag_storage import open_bag
from implicit_relocalizer.data.readers.bag_tf import stamp_to_ns
from implicit_relocalizer.localization.model_runner import ModelRunner
from implicit_relocalizer.localization.parameter_file import parameters_of, read_parameter_file
from implicit_relocalizer.replay.replaying import ReplayOptions, replay_bag


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A recording and a model, to be read only."""
    return make_folder(tmp_path_factory)


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


def test_answers_on_several_cores_are_the_same_in_the_same_order(folder, tmp_path):
    for workers in (1, 3):
        assert replay(folder, folder / 'drive', tmp_path / str(workers), *ALONE, '--workers',
                      workers) == 0
    alone, together = (content_of(tmp_path / str(workers)) for workers in (1, 3))
    assert len(alone) > COUNT and together == alone
    assert len(answers_of(tmp_path / '3')) > COUNT / 2


def test_no_image_is_asked_about_twice(folder, tmp_path):
    runner = ModelRunner(folder / 'model.pt', torch.device('cpu'))
    settings = parameters_of({**read_parameter_file(folder / 'parameters.yaml'),
                              'model': str(folder / 'model.pt')}, 'a test')
    calls = [len(replay_bag(folder / 'drive', tmp_path / str(workers), runner, settings,
                            ReplayOptions(workers=workers)).inference_s) for workers in (1, 4)]
    # Those ahead know no CameraInfo before the first, and may answer what is refused before.
    assert COUNT / 2 < calls[0] <= calls[1] <= COUNT + 2


def content_of(path: Path) -> list[tuple]:
    """Every message of a recording as it is: topic, time and bytes."""
    with open_bag(path) as bag:
        return [(topic.name, time_ns, bytes(cdr))
                for topic, time_ns, cdr in bag.serialized_messages(bag.topics)]
