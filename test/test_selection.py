# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of the training frames."""

from pathlib import Path

import numpy as np
import pytest

from implicit_relocalizer.data.frames import Frame, Scene, SceneError
from implicit_relocalizer.data.selection import select_training_frames


def frame(index: int) -> Frame:
    return Frame(f'{index:03d}', Path(f'{index:03d}.png'), np.eye(3), np.eye(4),
                 'test' if index % 4 == 3 else 'train', 'morning' if index < 7 else 'evening')


SCENE = Scene('place', Path('place'), tuple(frame(index) for index in range(15)), (160, 120))
TRAIN = [frame.name for frame in SCENE.split('train')]


def names(rule: str) -> list[str]:
    part = select_training_frames(SCENE, rule)
    assert part.split('test') == SCENE.split('test')
    return [frame.name for frame in part.split('train')]


@pytest.mark.parametrize('share', [0.1, 0.125, 0.3, 0.375, 0.5, 0.7, 0.75])
def test_first_and_last_make_up_the_whole(share):
    first, last = names(f'first:{share}'), names(f'last:{1 - share}')
    assert first + last == TRAIN
    assert abs(len(first) - share * len(TRAIN)) <= 0.5
    assert names('first:1') == names('last:1') == TRAIN


def test_whole_sequences():
    assert names('sequence:morning') == ['000', '001', '002', '004', '005', '006']
    assert names('sequence:evening,morning') == TRAIN


def test_a_list_names_frames(tmp_path):
    path = tmp_path / 'names.txt'
    path.write_text('008\n001\n')
    assert names(f'list:{path}') == ['001', '008']
    path.write_text('008\n003\n')
    with pytest.raises(SceneError, match=r"names\.txt: '003' is no training frame"):
        names(f'list:{path}')


@pytest.mark.parametrize(('rule', 'message'), [
    ('half', r"'half': expected first:SHARE, last:SHARE"),
    ('first', r"'first': expected first:SHARE"),
    ('first:1.5', 'share must be a number above 0'),
    ('last:x', 'share must be a number above 0'),
    ('first:0.01', 'leave none of the 12 training frames of place'),
    ('sequence:noon', "no training frames of a sequence 'noon'; it has 'evening', 'morning'"),
    ('list:nowhere.txt', r'nowhere\.txt: cannot be read')])
def test_what_cannot_be_selected_is_named(rule, message):
    with pytest.raises(SceneError, match=message):
        names(rule)
