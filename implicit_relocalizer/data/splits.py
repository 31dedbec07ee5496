# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames are held out: a list by name, the benchmark's own, or every eighth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from implicit_relocalizer.data.frames import SceneError, Split
from implicit_relocalizer.data.image_files import without_image_suffix

STANDARD = 'standard'
HELD_OUT_EVERY = 8


def assign_splits(root: Path, split: str, names: Iterable[str],
                  official: Mapping[str, Split]) -> dict[str, Split]:
    """Say for every frame whether it trains or is held out.

    `splits/SPLIT.txt` names the held-out frames where it exists. Otherwise 'standard' is what
    the benchmark says (`official`), and where it says nothing every eighth frame by sorted name.

    Args:
        root: The scene's folder, or the file it is read from.
        split: Name of the split.
        names: Of all frames, good and bad, so that a bad one does not shift the others.
        official: The benchmark's own assignment; frames it leaves out are left out here.

    Raises:
        SceneError: no such split, names without frame, or all frames on one side.
    """
    folder = root if root.is_dir() else root.parent
    path = folder / 'splits' / f'{split}.txt'
    everything = sorted(names)
    if path.is_file():
        test_names = read_names(path)
        unknown = sorted(test_names - set(everything))
        if unknown:
            raise SceneError(f'{path}: names {unknown[:3]} that have no image in this scene '
                             f'(its frames are named like {everything[0]!r})')
        chosen: dict[str, Split] = {name: 'test' if name in test_names else 'train'
                                    for name in everything}
        source = str(path)
    elif split != STANDARD:
        known = sorted(p.stem for p in path.parent.glob('*.txt'))
        raise SceneError(f'{path}: no such split; the folder has {known or "none"}. '
                         f'List the names of the held-out frames there, one a line')
    elif official:
        chosen, source = dict(official), f'{root}: the split that comes with it'
    else:
        chosen = {name: 'train' if index % HELD_OUT_EVERY else 'test'
                  for index, name in enumerate(everything)}
        source = f'{root}: every {HELD_OUT_EVERY}th frame'
    held_out = sum(value == 'test' for value in chosen.values())
    if held_out in (0, len(chosen)):
        raise SceneError(f'{source}: holds out {held_out} of {len(chosen)} frames; '
                         f'both training and test need some')
    return chosen


def read_split_lists(root: Path, names: Iterable[str]) -> dict[str, Split]:
    """The assignment by `train.txt` and `test.txt` beside the data; empty without them.

    One list suffices: the other split is all other frames. Names may carry image suffixes.

    Raises:
        SceneError: a list that names no frame, or a frame on both.
    """
    lists: dict[Split, set[str]] = {}
    known = set(names)
    splits: tuple[Split, Split] = ('train', 'test')
    for split in splits:
        path = root / f'{split}.txt'
        if path.is_file():
            listed = read_names(path)
            lists[split] = listed & known
            if not lists[split]:
                raise SceneError(f'{path}: none of its {len(listed)} names is a frame of this '
                                 f'scene; frames are named like {min(known, default="")!r}')
    if not lists:
        return {}
    train = lists.get('train', known - lists.get('test', set()))
    test = lists.get('test', known - train)
    if train & test:
        raise SceneError(f'{root}: train.txt and test.txt both name {sorted(train & test)[:3]}')
    return {**dict.fromkeys(train, 'train'), **dict.fromkeys(test, 'test')}


def read_names(path: Path) -> set[str]:
    """Names of frames, one a line, image suffixes allowed.

    Raises:
        SceneError: no text file.
    """
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise SceneError(f'{path}: no text file ({error})') from None
    return {without_image_suffix(line) for line in lines if line.strip()}
