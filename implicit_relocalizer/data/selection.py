# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A part of a scene's training frames; its held-out frames always stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from implicit_relocalizer.data.frames import Frame, Scene, SceneError

RULES = 'first:SHARE, last:SHARE, sequence:NAME[,NAME...] or list:FILE (a frame name per line)'


def select_training_frames(scene: Scene, rule: str) -> Scene:
    """Keep the training frames that a rule names.

    Args:
        scene: The place.
        rule: `first:0.5` and `last:0.5` are two parts without a common frame, in the order of
            the scene; `sequence:a,b` are whole drives; `list:FILE` names frames.

    Raises:
        SceneError: no such rule, sequence, file or frame, or nothing left.
    """
    kind, separator, value = rule.partition(':')
    train = scene.split('train')
    if kind in ('first', 'last') and separator:
        kept = _end(train, kind, _share(rule, value))
    elif kind == 'sequence' and separator:
        kept = _sequences(scene, train, value.split(','))
    elif kind == 'list' and separator:
        kept = _listed(train, Path(value))
    else:
        raise SceneError(f'train frames {rule!r}: expected {RULES}')
    if not kept:
        raise SceneError(f'train frames {rule!r}: leave none of the {len(train)} training frames '
                         f'of {scene.root}')
    names = {frame.name for frame in kept}
    return replace(scene, frames=tuple(frame for frame in scene.frames
                                       if frame.split != 'train' or frame.name in names))


def _share(rule: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0.0 < share <= 1.0:
        raise SceneError(f'train frames {rule!r}: the share must be a number above 0, and at '
                         f'most 1')
    return share


def _end(train: Sequence[Frame], kind: str, share: float) -> Sequence[Frame]:
    first_share = share if kind == 'first' else 1.0 - share
    # the small number makes first:0.3 and last:0.7 meet, whose 1 - 0.7 is not quite 0.3
    meeting = math.floor(first_share * len(train) + 0.5 + 1e-6)
    return train[:meeting] if kind == 'first' else train[meeting:]


def _sequences(scene: Scene, train: Sequence[Frame], names: Sequence[str]) -> list[Frame]:
    known = sorted({frame.sequence for frame in train})
    for name in names:
        if name not in known:
            raise SceneError(f'{scene.root}: has no training frames of a sequence {name!r}; it '
                             f'has {", ".join(map(repr, known))}')
    return [frame for frame in train if frame.sequence in names]


def _listed(train: Sequence[Frame], path: Path) -> list[Frame]:
    try:
        wanted = path.read_text().split()
    except OSError as error:
        raise SceneError(f'{path}: cannot be read ({error.strerror}); it should hold a frame '
                         f'name per line') from None
    missing = sorted(set(wanted) - {frame.name for frame in train})
    if missing:
        raise SceneError(f'{path}: {missing[0]!r} is no training frame of the scene '
                         f'({len(missing)} such names)')
    return [frame for frame in train if frame.name in set(wanted)]
