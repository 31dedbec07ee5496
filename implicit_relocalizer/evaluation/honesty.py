# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a model's answers are as good as they say: covariance, confidence, acceptance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.data.frames import Split
from implicit_relocalizer.evaluation.calibration_measures import (
    expected_calibration_error,
    reliability,
)
from implicit_relocalizer.evaluation.coverage import (
    classify_covariances,
    count_kinds,
    measure_coverage,
    rotation_errors,
)
from implicit_relocalizer.evaluation.elsewhere import ElsewhereAnswer
from implicit_relocalizer.evaluation.locating import LocatedFrame, errors_of, is_accepted
from implicit_relocalizer.evaluation.metrics import Float64Array, RecallLimit

# What a good answer is where no calibration says it.
DEFAULT_BOUND = RecallLimit(0.25, 5.0)
THRESHOLDS = np.linspace(0.0, 1.0, 101).round(2)


def measure_honesty(located: Mapping[Split, Sequence[LocatedFrame]],
                    elsewhere: Sequence[ElsewhereAnswer], calibration: Mapping[str, Any],
                    threshold: float) -> dict[str, Any]:
    """How the answers' own numbers compare with the errors, as JSON values.

    `covariance`: by split (see `describe_coverage`), and in it `accepted`, the same of those
    answers alone that the stored threshold accepts. None where the model states none.

    `confidence`: of the held-out frames, `confidence_with_elsewhere`: together with the images of
    other places, where no answer is good. `bound_m`, `bound_deg` and `threshold` of the
    calibration; `answers`, `good_answers`; `expected_calibration_error`; `reliability`, a list of
    [mean confidence, share of good answers, count]. None where the model has no calibration, or
    no other place was asked about.

    `acceptance`: what each of `thresholds` would accept: `good_accepted` and `wrong_accepted`,
    shares of the held-out answers within the bound and beyond it, `elsewhere_accepted` of
    `elsewhere_frames` images of other places; None where there are none such. `at_threshold` has
    the same by the threshold that the node takes, with counts ([accepted, of all]).

    `left_out`: what is None of these, and why.

    Args:
        located: Answers by split.
        elsewhere: Answers to images of other places; may be empty.
        calibration: Of the model's metadata; may be empty.
        threshold: The confidence that the node wants of an answer of this model.
    """
    held_out = located['test']
    result: dict[str, Any] = {'covariance': None, 'confidence': None,
                              'confidence_with_elsewhere': None, 'acceptance': None}
    left_out: dict[str, str] = {}
    if any(answer.covariance_66 is not None for answers in located.values()
           for answer in answers):
        result['covariance'] = {split: {
            **describe_coverage(answers),
            'accepted': describe_coverage(
                [answer for answer in answers if is_accepted(answer, threshold)])}
            for split, answers in located.items()}
    else:
        left_out['covariance'] = 'the model states none'
    if not any(answer.confidence is not None for answer in held_out):
        left_out['confidence'] = left_out['acceptance'] = (
            'the model states no confidence' if held_out else 'no frame is held out')
        return {**result, 'left_out': left_out}
    bound = RecallLimit(calibration.get('bound_m', DEFAULT_BOUND.translation_m),
                        calibration.get('bound_deg', DEFAULT_BOUND.rotation_deg))
    result['acceptance'] = describe_acceptance(held_out, elsewhere, bound, threshold)
    if not calibration:
        left_out['confidence'] = ('the model has no calibration, its confidence is a raw score: '
                                  'see `implicit-relocalizer calibrate`')
        return {**result, 'left_out': left_out}
    confidence_n, good_n = _confidences(held_out, bound)
    result['confidence'] = _describe_confidence(confidence_n, good_n, bound, threshold)
    if elsewhere:
        others = np.array([answer.confidence for answer in elsewhere if answer.is_answered])
        result['confidence_with_elsewhere'] = _describe_confidence(
            np.concatenate([confidence_n, others]),
            np.concatenate([good_n, np.zeros(len(others), bool)]), bound, threshold)
    return {**result, 'left_out': left_out}


def describe_coverage(answers: Sequence[LocatedFrame]) -> dict[str, Any]:
    """`kinds` of covariances by count, coverage of `position` and `orientation`.

    Errors of orientation are rotation vectors about the world's axes; both halves are
    `Coverage.to_dict`. Frames without an answer or without a covariance are left out.
    """
    answered = [answer for answer in answers
                if answer.T_world_camera is not None and answer.covariance_66 is not None]
    true_n44, estimate_n44 = (np.array(poses, np.float64).reshape(-1, 4, 4) for poses in (
        [answer.frame.T_world_camera for answer in answered],
        [answer.T_world_camera for answer in answered]))
    covariance_n66 = np.array([answer.covariance_66 for answer in answered],
                              np.float64).reshape(-1, 6, 6)
    return {
        'kinds': count_kinds(classify_covariances(covariance_n66)),
        'position': measure_coverage(estimate_n44[:, :3, 3] - true_n44[:, :3, 3],
                                     covariance_n66[:, :3, :3]).to_dict(),
        'orientation': measure_coverage(
            rotation_errors(true_n44[:, :3, :3], estimate_n44[:, :3, :3]),
            covariance_n66[:, 3:, 3:]).to_dict()}


def describe_acceptance(held_out: Sequence[LocatedFrame], elsewhere: Sequence[ElsewhereAnswer],
                        bound: RecallLimit, threshold: float) -> dict[str, Any]:
    """`acceptance` of `measure_honesty`."""
    confidence_n, good_n = _confidences(held_out, bound)
    others_n = np.array([answer.confidence if answer.is_answered else -1.0
                         for answer in elsewhere])  # without an answer nothing is accepted
    groups = {'good': confidence_n[good_n], 'wrong': confidence_n[~good_n],
              'elsewhere': others_n}
    counts = {name: [int((values >= threshold).sum()), len(values)]
              for name, values in groups.items()}
    return {
        'bound_m': bound.translation_m, 'bound_deg': bound.rotation_deg,
        'thresholds': THRESHOLDS.tolist(),
        **{f'{name}_accepted': [float((values >= limit).mean()) for limit in THRESHOLDS]
           if len(values) else None for name, values in groups.items()},
        'good_frames': len(groups['good']), 'wrong_frames': len(groups['wrong']),
        'unanswered_frames': len(held_out) - len(confidence_n),
        'elsewhere_frames': len(elsewhere),
        'elsewhere_scenes': _count_scenes(elsewhere, threshold),
        'at_threshold': {
            'threshold': threshold,
            **{f'{name}_accepted': accepted / count if count else None
               for name, (accepted, count) in counts.items()},
            'counts': counts}}


def find_calibration_doubts(calibration: Mapping[str, Any], scene: str,
                            elsewhere: Sequence[str]) -> list[str]:
    """Sentences about what the calibration has seen of what it is measured on, by names."""
    known = sorted(set(calibration.get('elsewhere', [])) & set(elsewhere))
    return [
        *([f'the calibration was fitted to held-out frames of {scene}: what `calibrate` found on '
           f'frames that it had not seen is the fairer measure of covariance and confidence']
          if calibration.get('scene') == scene else []),
        *([f'the calibration has seen images of {", ".join(known)}: other places would be a '
           f'harder test of what is refused'] if known else [])]


def _confidences(answers: Sequence[LocatedFrame],
                 bound: RecallLimit) -> tuple[Float64Array, NDArray[np.bool_]]:
    """Confidences (n) of the answers that are poses, and whether they are within the bound."""
    answered = [answer for answer in answers
                if answer.T_world_camera is not None and answer.confidence is not None
                and np.isfinite(answer.confidence)]
    return (np.array([answer.confidence for answer in answered], np.float64),
            errors_of(answered).within(bound))


def _describe_confidence(confidence_n: Float64Array, good_n: NDArray[np.bool_],
                         bound: RecallLimit, threshold: float) -> dict[str, Any]:
    return {'bound_m': bound.translation_m, 'bound_deg': bound.rotation_deg,
            'threshold': threshold, 'answers': len(confidence_n),
            'good_answers': int(good_n.sum()),
            'expected_calibration_error': expected_calibration_error(confidence_n, good_n),
            'reliability': [list(row) for row in reliability(confidence_n, good_n)]}


def _count_scenes(elsewhere: Sequence[ElsewhereAnswer], threshold: float) -> dict[str, list[int]]:
    """By scene how many images were accepted, and how many there are."""
    counts: dict[str, list[int]] = {}
    for answer in elsewhere:
        count = counts.setdefault(answer.scene, [0, 0])
        count[0] += answer.is_answered and answer.confidence >= threshold
        count[1] += 1
    return counts
