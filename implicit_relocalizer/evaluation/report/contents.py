# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a report shows, whoever measured it: frames with their answers, pictures, a map, states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.evaluation.metrics import Float64Array, RecallLimit

Group = Literal['train', 'test', 'run']
GROUP_NAMES: Mapping[str, str] = {'train': 'training', 'test': 'held-out', 'run': 'recorded'}


@dataclass(frozen=True, eq=False)
class ReportFrame:
    """One image that was asked about.

    Attributes:
        name: Of the image; any text.
        group: Training or held-out frame of a scene, or image of a recorded run.
        time_s: Since the first image; None where nobody knows.
        T_true: 4x4 camera-to-map, metres, optical axes; None where there is no reference.
        T_estimate: The answer; None where there is none.
        covariance_66: Of the answer: position (metres), then rotation about the map's fixed axes
            (radians).
        confidence: Of the answer.
        is_accepted: Whether its confidence reaches the threshold; None where nobody says.
        refusal: Why there is no answer, or why it would be refused; any text.
    """

    name: str
    group: Group
    time_s: float | None
    T_true: Float64Array | None
    T_estimate: Float64Array | None
    covariance_66: Float64Array | None = None
    confidence: float | None = None
    is_accepted: bool | None = None
    refusal: str = ''


@dataclass(frozen=True, eq=False)
class PointsInView:
    """n points by which a model located one image.

    Attributes:
        pixels_n2: Where they are seen, in the picture's image.
        projected_n2: Where the estimated pose sees their world points; NaN behind the camera.
        residual_px_n: Their distance at the network's input size.
        weights_n: 0 to 1, how much the pose listened to each.
        points_map_n3: In metres.
        colours_n3: uint8 RGB of the image there.
    """

    pixels_n2: Float64Array
    projected_n2: Float64Array
    residual_px_n: Float64Array
    weights_n: Float64Array
    points_map_n3: Float64Array
    colours_n3: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class FramePicture:
    """A small JPEG of an image (`size`: width and height before), and points where known."""

    jpeg: bytes
    size: tuple[int, int]
    points: PointsInView | None = None


@dataclass(frozen=True, eq=False)
class MapCloud:
    """The learned place: n points in metres and their uint8 RGB colours."""

    points_map_n3: Float64Array
    colours_n3: NDArray[np.uint8]


@dataclass(frozen=True)
class StateInterval:
    """The node's state from a time to a time, seconds since the first image.

    Attributes:
        start_s: When it was first told.
        end_s: When another was, or when the recording ended.
        state: SEARCHING, LOCALIZED, LOST, ...
        reason: Why it was entered, a stable word.
        refusal: The last refusal that was told during it, or before it; any text.
    """

    start_s: float
    end_s: float
    state: str
    reason: str
    refusal: str


@dataclass(frozen=True, eq=False)
class ReportContents:
    """Everything on a page.

    Attributes:
        title: Name of the scene or of the recording; any text.
        kind: Which of the two it is.
        result: JSON values of the measurement, as its result file holds them. `confidence`,
            `acceptance` and `comparison` are shown where they are there.
        frames: In the order of time.
        wrong_beyond: An answer farther off is a false accept.
        states: In order; empty where nobody told them.
        pictures: By index of the frame.
        cloud: The learned place.
        notes: Why a part of the page is missing, in a sentence, by the name of the part.
    """

    title: str
    kind: Literal['scene', 'run']
    result: Mapping[str, Any]
    frames: tuple[ReportFrame, ...]
    wrong_beyond: RecallLimit = field(default_factory=lambda: RecallLimit(0.5, 10.0))
    states: tuple[StateInterval, ...] = ()
    pictures: Mapping[int, FramePicture] = field(default_factory=dict)
    cloud: MapCloud | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def judged_group(self) -> Group:
        """The frames that count."""
        return 'run' if self.kind == 'run' else 'test'
