# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate BAG`: what cannot be judged is named, with status 2 and nothing written."""

import numpy as np
import pytest
from bag_run import (
    ESTIMATES,
    IMAGES,
    REFERENCE,
    add_camera,
    add_estimates,
    add_reference,
    true_pose,
    write_run,
)
from bag_writer import BagWriter, odometry, pose_stamped

from implicit_relocalizer.cli import main


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """An ordinary run, to be read only."""
    return write_run(tmp_path_factory.mktemp('runs') / 'run')


@pytest.fixture
def failing(tmp_path, capsys):
    """Runs a command that must fail with status 2, and gives its message."""
    out = tmp_path / 'out'

    def evaluate(bag, *arguments) -> str:
        status = main(['evaluate', str(bag), '--json', str(out / 'a.json'), '--tum',
                       str(out / 'b'), *map(str, arguments)])
        captured = capsys.readouterr()
        assert status == 2 and captured.out == '' and not out.exists()
        assert captured.err.startswith('implicit-relocalizer evaluate: ')
        assert len(captured.err.splitlines()) == 1
        return captured.err
    return evaluate


def write(path, *parts):
    with BagWriter(path) as bag:
        for part in parts:
            part(bag)
    return path


def test_no_reference(tmp_path, failing):
    bag = write(tmp_path / 'run', add_camera, add_estimates,
                lambda bag: add_estimates(bag, topic='/relocalizer/pose', covariance_66=None))
    message = failing(bag)
    assert f'{bag}: holds no reference poses beside the estimates on {ESTIMATES}' in message
    assert '--reference-parent and --reference-child (frames: none recorded)' in message
    assert "no chain of transforms between the frames 'map' and 'base'" in failing(
        bag, '--reference-child', 'base')


def test_no_estimates(tmp_path, failing):
    bag = write(tmp_path / 'run', add_camera, add_reference)
    message = failing(bag)
    assert 'no topic with estimates, such as /relocalizer/pose_with_covariance or' in message
    assert '--estimate-topic' in message and f'fitting topics: {REFERENCE} (' in message


def test_no_images(tmp_path, failing):
    bag = write(tmp_path / 'run', add_estimates, add_reference)
    message = failing(bag)
    assert 'no topic with images; expected sensor_msgs/msg/Image or' in message
    assert f'the bag has: {REFERENCE} (' in message


def test_an_empty_topic_of_estimates(tmp_path, failing):
    bag = write(tmp_path / 'run', add_camera, add_reference, lambda bag: bag.topic(
        ESTIMATES, 'geometry_msgs/msg/PoseWithCovarianceStamped'))
    assert 'is empty (was its publisher running' in failing(bag, '--estimate-topic', ESTIMATES)
    assert 'no topic with estimates' in failing(bag)


def test_several_to_choose_from(tmp_path, failing):
    bag = write(tmp_path / 'run', add_camera, add_estimates,
                lambda bag: add_estimates(bag, topic='/robot2' + ESTIMATES),
                lambda bag: add_reference(bag, topic='/mocap/a'),
                lambda bag: add_reference(bag, topic='/mocap/b'))
    message = failing(bag)
    assert 'several topics with estimates' in message and f'/robot2{ESTIMATES} (' in message
    message = failing(bag, '--estimate-topic', ESTIMATES)
    assert 'several topics with reference poses; choose one with --reference-topic' in message
    assert '/mocap/a (' in message and '/mocap/b (' in message


@pytest.mark.parametrize(('arguments', 'expected'), [
    (['--estimate-topic', '/nowhere'], f'has no topic /nowhere; fitting topics: {REFERENCE} ('),
    (['--estimate-topic', '/camera/image_raw'], 'is of another type; fitting topics: '),
    (['--reference-topic', '/nowhere'], f'has no topic /nowhere; fitting topics: {REFERENCE} ('),
    (['--reference-topic', ESTIMATES], 'cannot be its own reference; name another topic with'),
    (['--image-topic', '/nowhere'], 'fitting topics: /camera/image_raw (sensor_msgs/msg/Image,'),
    (['--reference-parent', 'map'], "between the frames 'map' and 'camera_optical'"),
    (['--reference-topic', REFERENCE, '--reference-child', 'base'], 'give one of the two'),
    (['--reference-frame', 'base'], 'no chain of transforms connects the two; pass '
                                    '--pose-is-camera'),
    (['--T-body-camera', *'0000000'], '--T-body-camera'),
    (['--wrong-beyond', '0', '10'], '--wrong-beyond 0 10: expected metres and degrees above 0'),
    (['--max-gap-s', '0'], 'max_gap_s is 0, expected more than 0'),
])
def test_options_that_do_not_fit(run, failing, arguments, expected):
    assert expected in failing(run, *arguments)


def test_poses_that_do_not_say_whose_they_are(tmp_path, failing):
    bag = write(tmp_path / 'run', add_camera, add_estimates,
                lambda bag: add_reference(bag, topic='/mocap/pose'))
    message = failing(bag)
    assert 'does not say whose poses it holds' in message
    assert '--reference-frame and --camera-frame to look that up' in message


def test_a_reference_in_another_frame(tmp_path, failing):
    bag = write(tmp_path / 'run', add_camera, add_estimates, lambda bag: [
        bag.add('/odom', odometry(stamp, true_pose(stamp), 'odom', 'camera_optical'))
        for stamp in IMAGES])
    message = failing(bag)
    assert "are in 'map', the reference (poses in 'odom' from /odom" in message
    assert '--same-world' in message
    assert main(['evaluate', str(bag), '--same-world']) == 0


def test_nothing_goes_together(tmp_path, failing):
    later = [stamp + 100 * 10**9 for stamp in IMAGES]
    other_images = write(tmp_path / 'a', add_estimates, add_reference,
                         lambda bag: add_camera(bag, later))
    message = failing(other_images)
    assert f'no estimate on {ESTIMATES} has the stamp of an image on /camera/image_raw' in message
    assert 'estimates 1700000000.012 to 1700000001.612 s, images 1700000100.012 to' in message
    other_reference = write(tmp_path / 'b', add_camera, add_estimates,
                            lambda bag: add_reference(bag, later))
    message = failing(other_reference)
    assert 'has a reference pose at its stamp' in message
    assert 'images: 17 before the first pose; compare the stamps' in message


@pytest.mark.parametrize('what', ['estimates', 'reference', 'images'])
def test_nothing_usable_is_left(tmp_path, failing, what):
    def add_nan(topic):
        pose = np.eye(4)
        pose[:3, 3] = np.nan
        return lambda bag: [bag.add(topic, pose_stamped(stamp, pose)) for stamp in IMAGES]

    bag = write(tmp_path / 'run',
                (lambda bag: add_camera(bag, [0, 0])) if what == 'images' else add_camera,
                add_nan('/relocalizer/pose') if what == 'estimates' else add_estimates,
                add_nan(REFERENCE) if what == 'reference' else add_reference)
    message = failing(bag)
    assert {'estimates': '/relocalizer/pose (', 'reference': f'{REFERENCE} (',
            'images': '/camera/image_raw ('}[what] in message
    assert 'has no usable' in message and 'without stamp' in message


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_recordings_that_were_cut_off(tmp_path, failing, storage):
    bag = write_run(tmp_path / 'run', storage)
    file = next(bag.glob('run.*'))
    whole = file.read_bytes()
    for share in (0.0, 0.3, 0.9):
        file.write_bytes(whole[:int(share * len(whole))])
        assert 'damaged, or cut off while recording' in failing(bag)
        assert 'damaged, or cut off while recording' in failing(file)


def test_what_is_no_recording(tmp_path, failing, capsys):
    (tmp_path / 'empty').mkdir()
    assert 'no complete ROS 2 bag' in failing(tmp_path / 'empty')
    assert 'no such recording' in failing(tmp_path / 'absent.mcap')
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0')
    assert 'a ROS 1 bag; convert it' in failing(tmp_path / 'old.bag')


def test_files_are_written_all_or_none(run, tmp_path, capsys):
    (tmp_path / 'run_reference.txt').mkdir()
    status = main(['evaluate', str(run), '--json', str(tmp_path / 'run.json'),
                   '--tum', str(tmp_path / 'run')])
    captured = capsys.readouterr()
    assert status == 2 and captured.out == ''
    assert 'run_reference.txt: is a folder' in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ['run_reference.txt']


@pytest.mark.parametrize(('arguments', 'message'), [
    (['model.pt'], 'model.pt: a model needs a SCENE'),
    (['model.pt', 'RUN', '--reference-topic', 'x'], '--reference-topic goes with a recorded run'),
    (['RUN', '--elsewhere', 'SCENE'], '--elsewhere goes with MODEL SCENE'),
    (['RUN', '--split', 'hard'], '--split goes with MODEL SCENE'),
    (['RUN', '--pose-topic', '/odom'], '--pose-topic goes with MODEL SCENE'),
])
def test_options_of_the_other_kind_of_evaluation(run, capsys, arguments, message):
    words = [str(run) if word == 'RUN' else word for word in arguments]
    with pytest.raises(SystemExit) as ended:
        main(['evaluate', *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_model_and_a_bag_are_a_model_and_a_scene(run, capsys):
    assert main(['evaluate', 'absent.pt', str(run)]) == 1
    assert 'absent.pt: no such model file' in capsys.readouterr().err


def test_debug_shows_where_an_error_comes_from(tmp_path):
    with pytest.raises(ValueError, match='no such recording'):
        main(['--debug', 'evaluate', str(tmp_path / 'absent.mcap')])
