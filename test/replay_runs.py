# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Replays of small recordings, and what they wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from colour_model import write_model
from replay_drive import (
    write_drive,
    write_parameters,
)

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.readers.bag_poses import pose_sample
from implicit_relocalizer.data.readers.bag_storage import open_bag

UNUSABLE = 2
# Every answer stands by itself, and none waits.
ALONE = ('--param', 'consensus_fixes:=1', '--param', 'tf_mode:=none', '--param', 'odometry:=none')


def make_folder(tmp_path_factory) -> Path:
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
