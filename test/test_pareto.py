# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Models of one place by error, time and size: which none beats, the table and the picture."""

import math
import shutil

import numpy as np
import pytest
from box_room import write_box_room
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from training_runs import BRIEF, train

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.evaluation.label_placement import Label, place_labels
from implicit_relocalizer.evaluation.pareto import label_by_difference, unbeaten
from implicit_relocalizer.evaluation.provenance import digest_names
from implicit_relocalizer.evaluation.records import read_json, write_json
from implicit_relocalizer.evaluation.tables import make_tables


@pytest.mark.parametrize(('costs', 'errors', 'expected'), [
    ([1, 2, 3], [3, 2, 1], [True, True, True]),
    ([1, 2, 3], [1, 2, 1], [True, False, False]),
    ([2, 2, 1], [1, 2, 1], [False, False, True]),
    ([1, 1], [1, 1], [True, True]),  # neither beats its equal
    ([1, 2], [math.inf, 5], [False, True]),
])
def test_what_no_other_is_as_good_in_both_and_better_in_one(costs, errors, expected):
    assert unbeaten(costs, errors) == expected


def test_labels_say_in_what_models_differ():
    def row(width, points=300, landmarks=56000, encoder='gradient_descriptor'):
        return {'input_size': [width, 3 * width // 4], 'points': points, 'landmarks': landmarks,
                'encoder': encoder}
    rows = [row(360), row(240), row(160, 100, 7008), row(240, None, None, 'resnet18')]
    label_by_difference(rows)
    assert [row['label'] for row in rows] == [
        '360 px', '240 px', '160 px, 100 points, 7k', 'resnet18, 240 px']


def test_names_cover_no_point_no_line_and_no_other_name():
    generator = np.random.default_rng(0)
    figure = Figure(figsize=(10, 7), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    points = generator.uniform(0.1, 0.9, (16, 2))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    figure.canvas.draw()
    line = [(0.1, 0.9), (0.9, 0.1)]
    place_labels(axes, [Label(f'model {index}', x, y, 5.0, 'black')
                        for index, (x, y) in enumerate(points)], line)
    figure.canvas.draw()
    boxes = [Text.get_window_extent(text).get_points().ravel() for text in axes.texts]
    assert len(boxes) == 16
    along = axes.transData.transform(np.linspace(*line, 200))
    centres = axes.transData.transform(points)
    for index, (left, bottom, right, top) in enumerate(boxes):
        for x, y in (*centres, *along):
            assert not (left < x < right and bottom < y < top)
        for other in boxes[index + 1:]:
            assert left > other[2] or other[0] > right or bottom > other[3] or other[1] > top


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """A scene with two splits, and runs of it: two of the standard one, one of the other."""
    folder = tmp_path_factory.mktemp('pareto')
    scene_dir = write_box_room(folder / 'room', 12, held_out_every=4)
    (scene_dir / 'splits' / 'other.txt').write_text('0003\n0007\n')
    (folder / 'runs').mkdir()
    for name, split in (('small__room__0', 'standard'), ('other__room__0', 'other')):
        scene = read_folder_scene(scene_dir, split)
        train(scene, folder / 'runs' / name, *BRIEF, 'mapping.iterations=3',
              'input_width=64', 'validation_fraction=0.25', circumstances={
                  'train_frames_sha256': digest_names(scene.split('train'))})
    shutil.copytree(folder / 'runs' / 'small__room__0', folder / 'runs' / 'same__room__0')
    return folder


def test_the_models_of_a_scene_and_its_split_are_measured_and_drawn(runs, capsys):
    json, picture = runs / 'size' / 'pareto__room.json', runs / 'pareto.png'
    assert main(['pareto', str(runs / 'runs'), str(runs / 'room'), '--rounds', '3', '--threads',
                 '1', '--json', str(json), '--picture', str(picture)]) == 0
    result = read_json(json)
    rows = {row['name']: row for row in result['models']}
    assert set(rows) == {'small', 'same'} and result['chosen_by'] == 'validation'
    assert rows['small']['input_size'] == [64, 48] and rows['small']['label'] == '64 px'
    for row in rows.values():
        assert row['latency']['1']['median_ms'] > 0 and row['model']['bytes'] > 1000
        assert row['test']['frames'] == 3 and row['validation']['frames'] == 2
    assert min(row['latency']['1']['over_fastest'] for row in rows.values()) == 1.0
    assert any(row['unbeaten_in_time'] for row in rows.values())
    table = capsys.readouterr().out
    assert '| small | gradient_descriptor | 64x48 | - | - |' in table
    page = make_tables(runs, {})
    assert table.strip() in page and 'ms, 1 thread' in page
    with Image.open(picture) as image:
        assert image.width > 1000 and len(image.convert('RGB').getcolors(1 << 24)) > 50


@pytest.mark.parametrize(('models', 'message'), [
    (['runs/other__room__0/model.pt'], 'did not learn the training frames of room'),
    (['room'], 'no model of room there'),
    (['runs/small__room__0/model.pt', 'runs/small__room__0/model.pt'], "called 'small__room__0'"),
])
def test_models_that_cannot_be_compared_are_named(runs, models, message, capsys):
    assert main(['pareto', *(str(runs / model) for model in models), str(runs / 'room')]) == 1
    assert message in capsys.readouterr().err


def test_a_damaged_pareto_is_named(tmp_path):
    write_json(tmp_path / 'size' / 'pareto.json', {'kind': 'pareto', 'scene': 'room'})
    with pytest.raises(ValueError, match=r'pareto\.json: has no split'):
        make_tables(tmp_path, {})
