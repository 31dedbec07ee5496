# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate --rerun`: the file is whole, and holds every image, pose, error and word in time."""

import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from bag_run import IMAGES, add_camera, add_estimates, add_reference, error_of, write_run
from bag_writer import BagWriter, diagnostics

from implicit_relocalizer.cli import main
from implicit_relocalizer.evaluation.rerun_recording import RerunMissingError, require_rerun

pytest.importorskip('rerun', reason='needs the Rerun SDK (pip install rerun-sdk)')


def rerun(*arguments):
    done = subprocess.run([sys.executable, '-m', 'rerun', 'rrd', *map(str, arguments)],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def rows_of(file):
    """How many rows each entity has."""
    counts = Counter()
    for count, entity in re.findall(r'with (\d+) rows .* - (/\S+) -', rerun('print', '-v', file)):
        counts[entity] += int(count)
    return counts


def values_of(file, entity):
    """The last cell of every row of an entity, in the order of the file."""
    text = rerun('print', '-vvv', '--entity', entity, file)
    return [float(value) for value in re.findall(r'┆ \[([-\d.e]+)\] +│ │', text)]


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    """A run whose first two images have no answer; LOST from the fifth to the ninth."""
    folder = tmp_path_factory.mktemp('rerun')
    with BagWriter(folder / 'run', 'mcap') as bag:
        add_camera(bag)
        add_estimates(bag, IMAGES[2:])
        add_reference(bag)
        for index, state in ((0, 'SEARCHING'), (2, 'LOCALIZED'), (5, 'LOST'), (9, 'LOCALIZED')):
            bag.add('/diagnostics', diagnostics(
                IMAGES[index], '/relocalizer: localization',
                {'state': state, 'state_reason': 'because', 'last_refusal_text': 'too dark'}))
    file = folder / 'out' / 'run.rrd'
    assert main(['evaluate', str(folder / 'run'), '--rerun', str(file)]) == 0
    return file


def test_it_is_whole_and_nothing_else_is_left(recording):
    assert 'verified without error' in rerun('verify', recording)
    assert [path.name for path in recording.parent.iterdir()] == ['run.rrd']


def test_every_image_and_answer_is_in_it(recording):
    rows, count = rows_of(recording), len(IMAGES)
    assert rows['/map/estimate/camera/image'] == rows['/map/reference'] == count
    assert rows['/map/estimate'] == count  # cleared where there is no answer
    assert rows['/position/error'] == rows['/position/sigma'] == count - 2
    assert rows['/words'] == 2 + 4  # images without an answer, and states
    words = rerun('print', '-vvv', '--entity', '/words', recording)
    assert 'LOST: because' in words and 'too dark' in words


def test_errors_are_those_of_the_run(recording):
    expected = [np.linalg.norm(error_of(index)[:3]) for index in range(len(IMAGES) - 2)]
    assert values_of(recording, '/position/error') == pytest.approx(expected, abs=1e-6)
    degrees = [np.degrees(np.linalg.norm(error_of(index)[3:])) for index in range(len(IMAGES) - 2)]
    assert values_of(recording, '/orientation/error') == pytest.approx(degrees, abs=1e-4)


def test_an_old_file_stays_whole_where_the_run_cannot_be_judged(recording, tmp_path, capsys):
    file = tmp_path / 'old.rrd'
    file.write_bytes(recording.read_bytes())
    run = write_run(tmp_path / 'run')
    assert main(['evaluate', str(run), '--rerun', str(file), '--reference-topic', '/none']) == 2
    assert file.read_bytes() == recording.read_bytes()
    assert '/none' in capsys.readouterr().err


def test_without_the_sdk_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'rerun', None)
    with pytest.raises(RerunMissingError, match='pip install rerun-sdk'):
        require_rerun()
