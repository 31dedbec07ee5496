# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The contents of a report about a recorded run of the node."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from implicit_relocalizer.data.readers.run_states import NodeReport
from implicit_relocalizer.data.recorded_run import RecordedRun
from implicit_relocalizer.evaluation.metrics import RecallLimit
from implicit_relocalizer.evaluation.recorded_run import RunComparison
from implicit_relocalizer.evaluation.report.contents import (
    ReportContents,
    ReportFrame,
    StateInterval,
)
from implicit_relocalizer.evaluation.report.measures import FrameMeasures, measure_frames
from implicit_relocalizer.evaluation.report.run_pictures import RecordedMedia, read_media

WORST_FRAMES, UNANSWERED_FRAMES = 10, 4
UNEXPLAINED = 'no answer, and no diagnostics around it say why'


def run_contents(comparison: RunComparison, result: Mapping[str, Any], wrong_beyond: RecallLimit,
                 model: Path | None = None, camera_options: Mapping[str, Any] | None = None,
                 ) -> ReportContents:
    """Gather what a page shows; reads images and diagnostics of the recording again.

    Args:
        comparison: The run beside its reference.
        result: As its file holds it.
        wrong_beyond: An answer farther off is a false accept.
        model: The model that ran, for its points; None shows none.
        camera_options: Of `BagOptions`: where the calibration comes from.
    """
    run = comparison.run
    start_ns = run.images[0].stamp_ns
    estimate_of = {e.stamp_ns: e for e in comparison.answers}
    frames = []
    for image in run.images:
        answer = estimate_of.get(image.stamp_ns)
        frames.append(ReportFrame(
            f'{image.stamp_ns // 10**9}.{image.stamp_ns % 10**9:09d}', 'run',
            (image.stamp_ns - start_ns) / 1e9, comparison.reference_of.get(image.stamp_ns),
            None if answer is None else answer.T_map_camera,
            None if answer is None else answer.covariance_66))
    pictured = _choose_pictures(measure_frames(frames))
    media = read_media(run, pictured, model, dict(camera_options or {}))
    frames = [frame if frame.T_estimate is not None else _with_refusal(
        frame, image.stamp_ns, media.reports, start_ns)
        for frame, image in zip(frames, run.images, strict=True)]
    return ReportContents(
        run.name, 'run', result, tuple(frames), wrong_beyond, _intervals(run, media),
        media.pictures, media.cloud, media.notes)


def _choose_pictures(measures: FrameMeasures) -> list[int]:
    """The worst answers, and some images without one."""
    worst = measures.worst(np.arange(len(measures.is_answered)), WORST_FRAMES)
    unanswered = np.flatnonzero(~measures.is_answered)
    some = unanswered[np.unique(np.linspace(
        0, len(unanswered) - 1, min(UNANSWERED_FRAMES, len(unanswered))).astype(int))]
    return [*worst, *map(int, some)]


def _with_refusal(frame: ReportFrame, stamp_ns: int, reports: Sequence[NodeReport],
                  start_ns: int) -> ReportFrame:
    return ReportFrame(frame.name, frame.group, frame.time_s, frame.T_true, None,
                       refusal=explain_silence(stamp_ns, reports, start_ns))


def explain_silence(stamp_ns: int, reports: Sequence[NodeReport], start_ns: int) -> str:
    """Why an image got no answer, as far as the reports before and after it tell."""
    after = bisect.bisect_left([report.stamp_ns for report in reports], stamp_ns)
    if after >= len(reports):
        return UNEXPLAINED
    later = reports[after]
    earlier = reports[after - 1] if after else NodeReport(start_ns, {})
    refused, superseded = (max(0, later.count(key) - earlier.count(key))
                           for key in ('images_refused', 'images_superseded'))
    word, text = later.values.get('last_refusal', ''), later.values.get('last_refusal_text', '')
    state = (f'the node was {later.values.get("state", "?")} '
             f'({later.values.get("state_reason", "")})')
    last = (f'{word}: {text}' if word else text) or 'the diagnostics do not say why'
    if refused and superseded:
        return (f'{refused} images refused, the last one because {last}; {superseded} superseded '
                f'by newer ones around this time')
    if refused:
        return f'refused: {last}'
    if superseded:
        return 'superseded by a newer image before its turn: the model is slower than the camera'
    if 'images_refused' not in later.values:
        return f'{state}; last refusal: {last}'
    return f'neither refused nor superseded, as far as the diagnostics tell: {state}'


def _intervals(run: RecordedRun, media: RecordedMedia) -> tuple[StateInterval, ...]:
    """The states with their times and the last refusal told in each."""
    start_ns = run.images[0].stamp_ns
    end_ns = max([run.images[-1].stamp_ns, *(report.stamp_ns for report in media.reports),
                  *(change.since_ns for change in run.states)])
    edges = [*(change.since_ns for change in run.states), end_ns]
    intervals = []
    for change, since_ns, until_ns in zip(run.states, edges[:-1], edges[1:], strict=True):
        texts = [report.values.get('last_refusal_text', '') for report in media.reports
                 if since_ns <= report.stamp_ns < max(until_ns, since_ns + 1)]
        refusal = next((text for text in reversed(texts) if text), change.refusal)
        intervals.append(StateInterval(
            (since_ns - start_ns) / 1e9, (max(until_ns, since_ns) - start_ns) / 1e9,
            change.state, change.reason, refusal))
    return tuple(intervals)
