# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What the camera of a measurement is to do, and what it saw: as files between the processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Who answers images: the relocalizer, a node that answers with the stamp alone, and the same model
# in the camera's own process without ROS.
NODE, EMPTY_NODE, PROCESS = 'node', 'empty_node', 'process'
NAMESPACES = {NODE: '/measured', EMPTY_NODE: '/empty'}
NODE_NAME = 'relocalizer'
FLAT_OUT, SATURATED = 'flat_out', 'saturated'

_PLAN_FILE, _IMAGES_FILE, _SLICES_FILE = 'plan.json', 'images.npy', 'slices.json'


class BenchmarkError(RuntimeError):
    """It cannot be measured; the message says what is missing, with the end of a log."""


@dataclass(frozen=True)
class Plan:
    """What the camera does.

    Attributes:
        loads: Names of the loads in their order: a number is images per second; `flat_out` sends
            the next image when the last one is answered; `saturated` (after `flat_out`) sends
            twice as many as were answered then.
        targets: Who gets images, in turns: keys of `NAMESPACES`, or `PROCESS`.
        rounds: Turns of each load.
        slice_s: Length of a turn.
        K_33: Intrinsics of the images, row by row.
        model: Model file, for `PROCESS`.
        device, threads: Likewise, as the node's parameters.
        process_ids: Of the nodes.
        transport: 'raw' or 'compressed'.
        encoding: Of raw images.
        patience_s: How long to wait for nodes, and for a first answer.
        tf_rate_hz: How often odometry is sent on /tf beside the images; 0: never.
    """

    loads: tuple[str, ...]
    targets: tuple[str, ...]
    rounds: int
    slice_s: float
    K_33: tuple[float, ...]
    model: str = ''
    device: str = 'cpu'
    threads: int = 1
    process_ids: dict[str, int] = field(default_factory=dict)
    transport: str = 'raw'
    encoding: str = 'rgb8'
    patience_s: float = 60.0
    tf_rate_hz: float = 0.0


@dataclass(frozen=True)
class Slice:
    """One turn of one target under one load.

    Attributes:
        load, target: Which.
        duration_s: From the first image to the last one's period, without waiting for answers.
        sent_ns: When images were published, by the machine's monotonic clock.
        received_ns: When their poses came; None where none did.
        cpu_s: What the target's process used meanwhile, all threads together.
        counts: What the node itself counted: received, superseded, answered, refused.
        inference_ms: What the node said that the model took, about once a second.
        last_refusal: Why the node refused an image last.
    """

    load: str
    target: str
    duration_s: float
    sent_ns: list[int]
    received_ns: list[int | None]
    cpu_s: float
    counts: dict[str, int] = field(default_factory=dict)
    inference_ms: list[float] = field(default_factory=list)
    last_refusal: str = ''


def write_plan(folder: Path, plan: Plan, images: Sequence[NDArray[np.uint8]]) -> None:
    """Leave a plan and its images for the camera."""
    (folder / _PLAN_FILE).write_text(json.dumps(asdict(plan)))
    np.save(folder / _IMAGES_FILE, np.stack(list(images)))


def read_plan(folder: Path) -> tuple[Plan, NDArray[np.uint8]]:
    """The plan, and its images: (n, H, W, 3) RGB."""
    values = json.loads((folder / _PLAN_FILE).read_text())
    lists = {name: tuple(values[name]) for name in ('loads', 'targets', 'K_33')}
    return Plan(**{**values, **lists}), np.load(folder / _IMAGES_FILE)


def write_slices(folder: Path, slices: Sequence[Slice]) -> None:
    """Leave what was seen."""
    (folder / _SLICES_FILE).write_text(json.dumps([asdict(one) for one in slices]))


def read_slices(folder: Path) -> list[Slice]:
    """What the camera saw."""
    return [Slice(**values) for values in json.loads((folder / _SLICES_FILE).read_text())]
