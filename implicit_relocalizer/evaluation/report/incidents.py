# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""When a run went wrong, and why: lost, without answers, or wrong without knowing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.evaluation.report.contents import (
    ReportContents,
    ReportFrame,
    StateInterval,
)
from implicit_relocalizer.evaluation.report.measures import FrameMeasures

LOCALIZED = 'LOCALIZED'
NO_ANSWERS, WRONG = 'no answers', 'wrong answers'
# Fewer images in a row without an answer are no stretch: one may be blurred.
_LEAST_IMAGES = 3
# What the node's stable words mean (`localization.belief.Cause`).
CAUSES = {
    'not_active': 'the node was not active',
    'activated': 'the node had just been activated and knew nothing yet',
    'waiting_for_request': 'the node waited to be asked (mode on_request)',
    'requested': 'a relocalization was requested: the node forgot and searched again',
    'no_fix': 'for too long no image gave an answer that could be accepted',
    'no_images': 'no images arrived',
    'contradicted': 'several answers agreed on another place than the accepted one',
    'time_jump': 'the stamps went back in time',
    'request_timeout': 'no pose was found within the time of a request',
    'deactivated': 'the node was deactivated'}


@dataclass(frozen=True)
class Incident:
    """A stretch of time in which the pose was missing or wrong.

    Attributes:
        start_s: Since the first image.
        end_s: As above.
        what: LOST, SEARCHING, ... as the node said, or `NO_ANSWERS`, `WRONG`.
        why: In words.
        images: Asked in it.
        unanswered: Of these.
        is_after_images: It began when the recording had no more images: nobody could do better.
    """

    start_s: float
    end_s: float
    what: str
    why: str
    images: int
    unanswered: int
    is_after_images: bool = False

    @property
    def duration_s(self) -> float:
        """How long it took."""
        return self.end_s - self.start_s


def find_incidents(contents: ReportContents, measures: FrameMeasures) -> list[Incident]:
    """All of a run, in order; none where the frames have no times."""
    timed = [i for i, frame in enumerate(contents.frames) if frame.time_s is not None]
    times_s = np.array([contents.frames[i].time_s for i in timed], np.float64)
    if contents.kind != 'run' or not timed:
        return []
    answered = measures.is_answered[timed]
    incidents = [_of_state(interval, contents.frames, times_s, answered)
                 for interval in contents.states if interval.state != LOCALIZED]
    frames = [contents.frames[i] for i in timed]
    for first, last in stretches(~answered):
        told = sum(interval.end_s > times_s[first] and interval.start_s < times_s[last]
                   for interval in contents.states if interval.state != LOCALIZED)
        if last - first + 1 >= _LEAST_IMAGES and not told:
            incidents.append(Incident(
                times_s[first], _end_s(times_s, last), NO_ANSWERS,
                _most_common([frame.refusal for frame in frames[first:last + 1]])
                or 'the recording does not say why', last - first + 1, last - first + 1))
    wrong = measures.is_wrong(contents.wrong_beyond)[timed]
    position_m, rotation_deg = measures.position_m[timed], measures.rotation_deg[timed]
    sigma_m = measures.position_sigma_m[timed]
    for first, last in stretches(wrong):
        part = slice(first, last + 1)
        worst = first + int(np.nanargmax(measures.badness[timed][part]))
        stated = ('' if np.isnan(sigma_m[worst])
                  else f', while the stated 1 sigma in that direction was {sigma_m[worst]:.2f} m')
        incidents.append(Incident(
            times_s[first], _end_s(times_s, last), WRONG,
            f'answers up to {np.max(position_m[part]):.2f} m and '
            f'{np.max(rotation_deg[part]):.1f}\u00b0 off were sent as if they were good{stated}',
            last - first + 1, 0))
    return sorted(incidents, key=lambda incident: incident.start_s)


def stretches(is_part: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_part, [False]]).astype(np.int8)))
    return [(int(first), int(end) - 1) for first, end in zip(edges[::2], edges[1::2],
                                                             strict=True)]


def explain(interval: StateInterval) -> str:
    """Why the node was in a state, in words."""
    cause = CAUSES.get(interval.reason, interval.reason.replace('_', ' '))
    return cause + (f'; last refusal: {interval.refusal}' if interval.refusal else '')


def _of_state(interval: StateInterval, frames: Sequence[ReportFrame],
              times_s: NDArray[np.float64], answered: NDArray[np.bool_]) -> Incident:
    inside = (times_s >= interval.start_s) & (times_s < interval.end_s)
    is_after_images = interval.start_s > times_s[-1]
    why = ('the recording holds no more images from here on' if is_after_images
           else explain(interval))
    before = times_s[answered & (times_s < interval.start_s)]
    if interval.state == 'LOST' and len(before) and not is_after_images:
        why += f'; the last answer before belongs to the image at {before[-1]:.2f} s'
    return Incident(interval.start_s, interval.end_s, interval.state, why, int(inside.sum()),
                    int((inside & ~answered).sum()), is_after_images)


def _end_s(times_s: NDArray[np.float64], last: int) -> float:
    """When the next image came, if there is one."""
    return float(times_s[min(last + 1, len(times_s) - 1)])


def _most_common(texts: Sequence[str]) -> str:
    found = Counter(text for text in texts if text).most_common(1)
    return found[0][0] if found else ''
