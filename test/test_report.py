# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate --html`: what the page says, that texts stay texts, its size, and that it is alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from bag_run import write_run
from box_room import IMAGE_SIZE, write_box_room
from box_room import K_33 as ROOM_K_33
from report_results import EVIL, scene_report, write_lost_run, write_wall

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.readers.run_states import NodeReport
from implicit_relocalizer.evaluation.coverage import limit_of
from implicit_relocalizer.evaluation.report import page_data, run_contents, verdict
from implicit_relocalizer.evaluation.report.incidents import stretches
from implicit_relocalizer.evaluation.report.measures import measure_frames
from implicit_relocalizer.evaluation.report.page import MAX_BYTES, render_page
from implicit_relocalizer.evaluation.report.viewing import MAX_MAP_POINTS


class Reader(HTMLParser):
    """Tags with their attributes, texts, and the data block."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.data = ''
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ('script', 'style'):
            self._inside = str(dict(attributes).get('id', tag))

    def handle_endtag(self, tag):
        if tag in ('script', 'style'):
            self._inside = None

    def handle_data(self, data):
        if self._inside is None:
            self.words.append(data)
        elif self._inside == 'data':
            self.data += data

    @property
    def text(self) -> str:
        return ' '.join(self.words)


@pytest.fixture(scope='module')
def lost_run(tmp_path_factory):
    """The page of a run, with its model, as the command writes it; and its other files."""
    folder = tmp_path_factory.mktemp('lost')
    bag, page = write_lost_run(folder / 'run'), folder / 'run.html'
    assert main(['evaluate', str(bag), '--html', str(page), '--json', str(folder / 'run.json'),
                 '--model', str(write_wall(folder / 'wall.pt'))]) == 0
    return page


@pytest.fixture(scope='module')
def scene_page():
    return render_page(scene_report())


def test_the_page_says_when_the_robot_was_lost_and_why(lost_run):
    page = Reader(lost_run.read_text())
    assert ('The robot was lost once (from 0.7 to 1.1 s) and was given wrong poses as if they '
            'were good once (from 1.3 to 1.5 s).') in page.text
    assert 'for too long no image gave an answer that could be accepted' in page.text
    assert f'last refusal: confidence 0.1 is too low {EVIL}' in page.text
    assert 'the last answer before belongs to the image at 0.40 s' in page.text
    assert 'answers up to 2.00 m' in page.text
    assert '12 of 17 images were answered' in page.text
    data = json.loads(page.data)
    assert [state[2] for state in data['states']] == ['LOCALIZED', 'LOST', 'LOCALIZED']
    refusals = [data['frames']['refusals'][i] for i in data['frames']['refusal']]
    assert [i for i, text in enumerate(refusals) if text] == [5, 6, 7, 8, 9]
    assert refusals[5] == f'refused: confidence_low: confidence 0.1 is too low {EVIL}'


def test_the_worst_images_are_shown_with_the_model_s_points(lost_run):
    page = Reader(lost_run.read_text())
    data = json.loads(page.data)
    assert [picture['frame'] for picture in data['pictures']][:2] == [13, 14]
    assert {5, 9} <= {picture['frame'] for picture in data['pictures']}
    points = data['pictures'][0]['points']
    # The wall is seen where its points are.
    np.testing.assert_allclose(points['pixels'], points['projected'], atol=0.06)
    assert data['cloud']['count'] == 17 * len(points['pixels'])
    images = [attributes for tag, attributes in page.tags if tag == 'img']
    assert len(images) == len(data['pictures'])
    assert all(image['src'].startswith('data:image/jpeg;base64,') for image in images)


def test_without_a_model_the_page_says_what_it_lacks(tmp_path, capsys):
    page = tmp_path / 'run.html'
    bag = write_run(tmp_path / 'run')
    assert main(['evaluate', str(bag), '--html', str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    text = Reader(page.read_text()).text
    assert 'Without the model (--model FILE) its points are unknown' in text
    assert 'The robot was not lost in this recording.' in text
    assert 'The recording holds no diagnostics' in text


@pytest.mark.parametrize(('arguments', 'told'), [
    (['--model', 'absent.pt'], '--model is for --html FILE'),
    (['--html', 'page.html', '--model', 'absent.pt'], 'absent.pt'),
    (['--html', 'page.html', '--rectified'], '--rectified say how --model'),
    (['--html', '.'], 'is a folder; name a file')])
def test_what_cannot_be_shown_leaves_no_file(tmp_path, capsys, monkeypatch, arguments, told):
    bag = write_run(tmp_path / 'run')
    monkeypatch.chdir(tmp_path)
    assert main(['evaluate', str(bag), '--json', 'run.json', *arguments]) == 2
    assert told in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {'run'}


def test_train_stands_beside_held_out(scene_page):
    page = Reader(scene_page)
    assert 'training images' in page.text and 'held-out images' in page.text
    assert 'within 25 cm / 5\u00b0' in page.text
    data = json.loads(page.data)
    assert {group: curve['asked'] for group, curve in data['curves'].items()} == {
        'train': 30, 'test': 10}
    # Of ten held-out images one has no answer.
    assert data['curves']['test']['position'][-1][1] == pytest.approx(0.9)
    assert 'The confidence is honest: on average it differs by 0.012' in page.text
    assert '2.00% of 50 images of other places are accepted by mistake' in page.text
    assert '-\u221e to +0.5' in page.text


def test_a_model_on_a_scene_from_the_command_line(tmp_path):
    """The wall is asked for where it is: the room's camera turns, so most answers are wrong."""
    room, page = write_box_room(tmp_path / 'room', 8, held_out_every=2), tmp_path / 'room.html'
    model = write_wall(tmp_path / 'wall.pt', IMAGE_SIZE, ROOM_K_33)
    assert main(['evaluate', str(model), str(room), '--html', str(page)]) == 0
    data = json.loads(Reader(page.read_text()).data)
    assert data['frames']['group'] == ['train'] * 4 + ['test'] * 4
    assert len(data['pictures']) == 4 and data['pictures'][0]['points'] is not None
    assert data['covariance']['position']['compared'] == 4
    assert data['frames']['confidence'] == [0.9] * 8 and all(data['frames']['accepted'])
    assert data['acceptance']['at_threshold']['threshold'] <= 0.9


def test_texts_from_outside_stay_texts(scene_page, lost_run):
    for page in (scene_page, lost_run.read_text()):
        reader = Reader(page)
        assert EVIL in reader.text
        assert 'b' not in {tag for tag, _ in reader.tags}
        assert page.count('</script>') == 2 and EVIL in json.dumps(
            json.loads(reader.data), ensure_ascii=False).replace('\\"', '"')
        assert page.isascii()
    assert any(EVIL in (attributes.get('alt') or '') for _, attributes in Reader(scene_page).tags)


def test_nothing_is_loaded_from_outside(scene_page, lost_run):
    for page in (scene_page, lost_run.read_text()):
        for tag, attributes in Reader(page).tags:
            for name in ('src', 'href', 'action', 'data', 'srcset', 'poster'):
                value = attributes.get(name) or '#'
                assert value.startswith(('#', 'data:image/jpeg;base64,')), (tag, value[:80])
        assert not re.search(r'https?:|//[a-z]|@import|url\((?!#)|\bfetch\(|\bimport\b|'
                             r'XMLHttpRequest|WebSocket', re.sub(
                                 r'(?<=base64,)[\w+/=]+|"(points|colours)":"[^"]*"', '', page))
        assert "default-src 'none'" in page


def test_the_page_is_small_however_long_the_run():
    contents = scene_report(frames=4000, name='n' * 300, points=MAX_MAP_POINTS)
    page = render_page(contents)
    assert len(page) < MAX_BYTES
    data = json.loads(Reader(page).data)
    assert data['frame_count'] == 4000 and len(data['frames']['name']) <= page_data.MAX_FRAMES
    # The worst of every stretch stays.
    worst = measure_frames(contents.frames).worst(np.arange(4000), 1)[0]
    assert worst in data['frames']['index'] and 9 in data['frames']['index']
    assert data['frames']['group'].count('test') == 1000, 'frames that count go before others'
    counts = data['counts']
    assert sum(counts['classes']) == 999 and (counts['silent'], counts['refused']) == (1, 1)
    long_run = replace(contents, frames=tuple(
        replace(frame, group='test') for frame in contents.frames))
    shown = page_data.choose_frames(long_run, measure_frames(long_run.frames), 300)
    assert 150 < len(shown) <= 300 and {worst, 9} <= set(shown)
    with pytest.raises(ValueError, match=r'bytes, more than 5000000; give it fewer pictures'):
        render_page(scene_report(picture_bytes=1_300_000))


def test_the_band_holds_an_error_as_its_ellipsoid_does():
    contents = scene_report(frames=400)
    measures = measure_frames(contents.frames)
    known = np.isfinite(measures.position_m)
    for sigma in (1, 2, 3):
        limit = limit_of(sigma, 3)
        is_within = measures.normalised_position[known] <= limit
        band_m = measures.position_sigma_m[known] * limit / limit_of(1, 3)
        assert (is_within == (measures.position_m[known] <= band_m)).all()
    # The covariance has one sigma in all directions.
    np.testing.assert_allclose(measures.position_sigma_m[known], 0.02 * limit_of(1, 3))


@pytest.mark.parametrize(('within', 'level'), [
    ((0.68, 0.95, 0.995), 'good'), ((0.50, 0.90, 0.98), 'bad'), ((0.95, 1.0, 1.0), 'caution'),
    ((0.68, 0.95, 0.96), 'caution')])
def test_a_covariance_is_judged_by_its_coverage(within, level):
    part = {'compared': 500,
            'within': dict(zip(('1_sigma', '2_sigma', '3_sigma'), within, strict=True)),
            'expected': {'1_sigma': 0.683, '2_sigma': 0.954, '3_sigma': 0.9973}}
    assert verdict.judge_coverage(part).level == level
    assert verdict.judge_coverage({**part, 'compared': 10}).text == 'too few answers (10) to tell'


def test_silence_is_explained_by_the_reports_around_it():
    def told(stamp, refused, superseded, text=''):
        return NodeReport(stamp, {
            'state': 'LOCALIZED', 'state_reason': 'fixes_agree', 'last_refusal_text': text,
            'images_refused': str(refused), 'images_superseded': str(superseded)})

    reports = [told(10, 0, 0), told(20, 0, 2), told(30, 1, 2, 'dark'), told(40, 2, 3, 'bright'),
               told(50, 2, 3, 'bright')]
    explained = [run_contents.explain_silence(stamp, reports, 0) for stamp in (15, 25, 35, 45, 55)]
    assert explained[0].startswith('superseded by a newer image')
    assert explained[1] == 'refused: dark'
    assert explained[2].startswith('1 images refused, the last one because bright; 1 superseded')
    assert explained[3].startswith('neither refused nor superseded')
    assert explained[4] == run_contents.UNEXPLAINED


def test_stretches_and_odd_contents():
    assert stretches(np.array([1, 1, 0, 1, 0, 0, 1], bool)) == [(0, 1), (3, 3), (6, 6)]
    assert stretches(np.zeros(0, bool)) == []
    contents = scene_report()
    nobody = tuple(replace(frame, T_estimate=None, covariance_66=None, confidence=None,
                           is_accepted=None) for frame in contents.frames)
    unanswered = {'frames': 10, 'frames_answered': 0, 'recall': {}, **{
        f'{name}_{part}': None for name in ('median', 'p90', 'p99')
        for part in ('translation_m', 'rotation_deg')}}
    page = render_page(replace(
        contents, frames=nobody, cloud=None, notes={'cloud': 'No points.'}, result={
            'train': unanswered, 'test': unanswered, 'left_out': {'confidence': 'there is none'}}))
    text = Reader(page).text
    assert 'None of 10 held-out images was answered.' in text and 'No points.' in text
    assert 'The confidence cannot be shown: there is none.' in text
