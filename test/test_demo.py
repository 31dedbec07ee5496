# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it: place, training, node and drive over DDS, verdict."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from box_room import write_box_room
from PIL import Image

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_msgs', reason='needs tf2_msgs (or pip_overlay)')
pytest.importorskip('vtkmodules', reason='needs VTK, from the extra demo')

from rosbags.highlevel import AnyReader

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.demo import main as demo_main
from implicit_relocalizer.evaluation.metrics import RECALL_LIMITS
from implicit_relocalizer.network.model_file import read_metadata

SUMMARY = {
    'scene', 'quick', 'frames_sent', 'frames_answered', 'median_translation_m',
    'median_rotation_deg', 'p90_translation_m', 'recall', 'train_median_translation_m',
    'train_median_rotation_deg', 'latency_ms', 'training_seconds', 'model_bytes', 'versions',
    'checks', 'passed'}


# Images a second: a machine that others keep busy, too, answers each before the next.
RATE_HZ = 5.0


def run_demo(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'implicit_relocalizer.demo', *arguments,
                           '--rate', str(RATE_HZ)],
                          capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture(scope='module')
def demo(tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path]:
    """A quick demo that ran, and its output folder."""
    output = tmp_path_factory.mktemp('demo')
    return run_demo('--quick', '--output', str(output)), output


@pytest.fixture
def result(demo) -> dict:
    done, output = demo
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((output / 'result.json').read_text())


def test_it_passes_and_says_what_it_measured(demo, result):
    assert set(result) >= SUMMARY
    assert result['passed'] and result['quick'] and result['scene'] == 'place'
    assert result['frames_sent'] == 15
    assert result['frames_answered'] >= 14
    assert set(result['recall']) == {limit.key for limit in RECALL_LIMITS} == {
        '5cm_5deg', '10cm_5deg', '25cm_2deg', '25cm_5deg', '50cm_5deg'}
    assert 0.0 < result['median_translation_m'] <= result['p90_translation_m']
    # Learned, not guessed: the room is 5 m wide and has all directions.
    assert result['train_median_translation_m'] < 0.05
    assert result['train_median_rotation_deg'] < 1.0
    assert 0.0 < result['latency_ms']['median'] <= result['latency_ms']['p95']
    assert result['training_seconds'] > 1.0
    assert all(result['versions'][name] for name in ('python', 'torch', 'rclpy', 'numpy'))
    for check in result['checks']:
        assert check['text'] in demo[0].stdout


def test_it_leaves_the_model_and_the_picture(demo, result):
    output = demo[1]
    assert (output / 'model.pt').stat().st_size == result['model_bytes']
    assert read_metadata(output / 'model.pt').image_size == (160, 120)
    with Image.open(output / 'demo.png') as picture:
        assert min(picture.size) > 500
        assert len(picture.convert('RGB').getcolors(picture.width * picture.height)) > 1000
    assert 'state SEARCHING -> LOCALIZED: fixes_agree' in (output / 'node.log').read_text()


def test_the_bag_holds_the_drive_and_an_answer_to_each_stamp(demo, result):
    output = demo[1]
    stamps: dict[str, list[int]] = {}
    with AnyReader([output / 'bag']) as reader:
        for connection, _, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            headers = ([item.header for item in message.transforms]
                       if connection.topic == '/tf' else [message.header])
            stamps.setdefault(connection.topic, []).extend(
                1_000_000_000 * header.stamp.sec + header.stamp.nanosec for header in headers)
    held_out = read_folder_scene(output / 'place').split('test')
    sent = stamps['/image']
    assert len(sent) == len(set(sent)) == len(held_out) == result['frames_sent']
    assert stamps['/camera_info'] == stamps['/reference/pose'] == sent
    answered = stamps['/relocalizer/pose']
    assert len(answered) == len(set(answered)) == result['frames_answered']
    assert set(answered) <= set(sent)
    assert sorted(stamps['/tf']) == sorted(answered)
    period_ms = (max(sent) - min(sent)) / 1e6 / (len(sent) - 1)
    assert period_ms == pytest.approx(1000.0 / RATE_HZ, rel=0.2)


def test_its_bag_evaluates_to_the_same_figures(demo, result, tmp_path):
    file = tmp_path / 'bag.json'
    assert main(['evaluate', str(demo[1] / 'bag'), '--estimate-topic', '/relocalizer/pose',
                 '--json', str(file)]) == 0
    again = json.loads(file.read_text())
    assert (again['images_asked'], again['images_answered']) == (
        result['frames_sent'], result['frames_answered'])
    for name in ('median_translation_m', 'median_rotation_deg', 'p90_translation_m'):
        assert again['errors'][name] == pytest.approx(result[name], rel=1e-6)
    assert again['errors']['recall'].items() >= result['recall'].items()
    assert again['latency_ms'] == pytest.approx(result['latency_ms'])


def test_its_bag_has_covariances_and_states(demo, result, tmp_path):
    file = tmp_path / 'bag.json'
    assert main(['evaluate', str(demo[1] / 'bag'), '--json', str(file)]) == 0
    recorded = json.loads(file.read_text())
    assert recorded['images_answered'] == result['frames_answered']
    assert recorded['covariance']['kinds']['valid'] == result['frames_answered']
    assert 'LOCALIZED' in {change['state'] for change in recorded['states']}


@pytest.fixture
def sigterm() -> Iterator[None]:
    """The demo's `main` decides what that signal does: as before, afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_model_of_another_place_fails_and_the_figure_is_named(
        demo, result, sigterm, tmp_path, capsys):
    other = write_box_room(tmp_path / 'other', 30, held_out_every=3)
    output = tmp_path / 'output'
    # In this process, which has imported torch; node and camera have processes of their own.
    status = demo_main([str(other), '--model', str(demo[1] / 'model.pt'),
                        '--output', str(output), '--rate', str(RATE_HZ)])
    told = capsys.readouterr()
    assert status == 1, told.out + told.err
    assert 'demo: FAILED  share of the images sent found within 25 cm / 5°' in told.err
    missed = json.loads((output / 'result.json').read_text())
    assert not missed['passed'] and not missed['quick']
    assert missed['training_seconds'] is None
    assert [check['name'] for check in missed['checks']
            if check['required'] and not check['passed']] == ['recall_25cm_5deg']
    assert (output / 'demo.png').is_file()
