# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a recorded run was worth: answers beside the reference, and what is measured of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from implicit_relocalizer.data.readers.pose_track import NoPoseError
from implicit_relocalizer.data.recorded_run import RecordedEstimate, RecordedRun
from implicit_relocalizer.evaluation.coverage import (
    Coverage,
    classify_covariances,
    count_kinds,
    measure_coverage,
    rotation_errors,
)
from implicit_relocalizer.evaluation.metrics import (
    ALL_LIMITS,
    Float64Array,
    PoseErrors,
    RecallLimit,
    pose_errors,
    summarize,
)
from implicit_relocalizer.evaluation.run_frames import list_estimates
from implicit_relocalizer.evaluation.versions import find_versions

WRONG_BEYOND = RecallLimit(0.5, 10.0)
# No camera is so good; the poses compared are one and the same.
_SAME_POSE = RecallLimit(1e-6, 1e-4)


class RecordedRunError(ValueError):
    """Nothing in a run can be compared; the message names the bag, the topics and the remedy."""


@dataclass(frozen=True, eq=False)
class RunComparison:
    """The answers of a run beside the reference; m images, k answered, n of these judged.

    Attributes:
        run: The recording.
        reference_of: T_map_camera of the reference by the stamps (nanoseconds) of those images
            that have one.
        images_without_reference: How many others there are, by reason.
        answers: The k estimates with the stamp of an image, by stamp.
        judged: The n of them at whose stamps there is a reference.
        estimates_of_no_image: How many estimates have the stamp of none.
        latencies_ms: (k,) from the time of recording of the image to that of its pose.
        errors: Of the n judged.
        position_errors_m: (n, 3), reference to estimate, in the map.
        rotation_errors_rad: (n, 3) about the map's axes, reference to estimate.
        position_coverage: Of the covariances of the n judged; None where the topic has none.
        rotation_coverage: As above.
    """

    run: RecordedRun
    reference_of: dict[int, Float64Array]
    images_without_reference: Counter[str]
    answers: tuple[RecordedEstimate, ...]
    judged: tuple[RecordedEstimate, ...]
    estimates_of_no_image: int
    latencies_ms: Float64Array
    errors: PoseErrors
    position_errors_m: Float64Array
    rotation_errors_rad: Float64Array
    position_coverage: Coverage | None
    rotation_coverage: Coverage | None

    @property
    def images_judged(self) -> int:
        """Images with a reference, answered or not."""
        return len(self.reference_of)


def compare_run(run: RecordedRun) -> RunComparison:
    """Join answers to images by stamp, and to the reference at that stamp.

    Raises:
        RecordedRunError: no estimate has the stamp of an image, or none has a reference.
    """
    image_times_ns = {image.stamp_ns: image.bag_time_ns for image in run.images}
    answers = tuple(e for e in run.estimates if e.stamp_ns in image_times_ns)
    if not answers:
        raise RecordedRunError(
            f'{run.path}: no estimate on {run.estimate_topic} has the stamp of an image on '
            f'{run.image_topic}: estimates {_span([e.stamp_ns for e in run.estimates])}, images '
            f'{_span([image.stamp_ns for image in run.images])}; name the images that the node '
            f'saw with --image-topic')
    reference_of: dict[int, Float64Array] = {}
    missing: Counter[str] = Counter()
    for image in run.images:
        try:
            reference_of[image.stamp_ns] = run.reference.at(image.stamp_ns)
        except NoPoseError as error:
            missing[str(error)] += 1
    judged = tuple(e for e in answers if e.stamp_ns in reference_of)
    if not judged:
        reasons = '; '.join(f'{count} {reason}' for reason, count in missing.most_common(5))
        raise RecordedRunError(
            f'{run.path}: no estimate on {run.estimate_topic} has a reference pose at its stamp '
            f'({run.reference.description}), images: {reasons}; compare the stamps of images and '
            f'reference (one clock?), --max-gap-s allows longer gaps')
    true_n44 = np.array([reference_of[e.stamp_ns] for e in judged])
    estimate_n44 = np.array([e.T_map_camera for e in judged])
    position_errors_m = estimate_n44[:, :3, 3] - true_n44[:, :3, 3]
    rotation_errors_rad = rotation_errors(true_n44[:, :3, :3], estimate_n44[:, :3, :3])
    covariance = _covariances(judged)
    return RunComparison(
        run, reference_of, missing, answers, judged,
        estimates_of_no_image=len(run.estimates) - len(answers),
        latencies_ms=np.array([(e.bag_time_ns - image_times_ns[e.stamp_ns]) / 1e6
                               for e in answers]),
        errors=pose_errors(true_n44, estimate_n44),
        position_errors_m=position_errors_m, rotation_errors_rad=rotation_errors_rad,
        position_coverage=None if covariance is None else measure_coverage(
            position_errors_m, covariance[:, :3, :3]),
        rotation_coverage=None if covariance is None else measure_coverage(
            rotation_errors_rad, covariance[:, 3:, 3:]))


def measure_run(comparison: RunComparison, wrong_beyond: RecallLimit = WRONG_BEYOND,
                per_frame: bool = False) -> dict[str, Any]:
    """Everything measured of a run, as JSON values.

    Recall and its `frames` are over the images that have a reference, answered or not;
    medians, percentiles, false accepts and coverage over their answers; availability, latency
    and the time to the first fix over all images, whether or not there is a reference.

    Args:
        comparison: Of `compare_run`.
        wrong_beyond: An estimate farther off in position or orientation is a false accept.
        per_frame: List every estimate, and the stamps of the images without one and of those
            without a reference.
    """
    run = comparison.run
    false_accepts = int((~comparison.errors.within(wrong_beyond)).sum())
    result: dict[str, Any] = {
        'kind': 'recorded_run', 'bag': run.name,
        'topics': {'images': run.image_topic, 'estimates': run.estimate_topic,
                   'diagnostics': run.diagnostics_topic},
        'reference': run.reference.description,
        'map_frame': run.map_frame, 'camera_frame': run.camera_frame,
        'images_asked': len(run.images), 'images_answered': len(comparison.answers),
        'availability': len(comparison.answers) / len(run.images),
        'time_to_first_fix_s': _time_to_first_fix(comparison),
        'latency_ms': {'median': float(np.median(comparison.latencies_ms)),
                       'p95': float(np.percentile(comparison.latencies_ms, 95))},
        'errors': {'frames': comparison.images_judged,
                   **summarize(comparison.errors, comparison.images_judged,
                               ALL_LIMITS).to_dict()},
        'false_accepts': {'beyond_m': wrong_beyond.translation_m,
                          'beyond_deg': wrong_beyond.rotation_deg, 'count': false_accepts,
                          'share': false_accepts / len(comparison.judged)},
        'covariance': _describe_covariance(comparison),
        'left_out': {
            'estimates_of_no_image': comparison.estimates_of_no_image,
            'estimates_without_reference': len(comparison.answers) - len(comparison.judged),
            'images_without_reference': dict(comparison.images_without_reference),
            **{name: asdict(counts) for name, counts in run.counts.items()}},
        'states': [asdict(change) for change in run.states],
        'warnings': find_run_doubts(comparison),
        'versions': find_versions()}
    if per_frame:
        result['frames_detail'] = list_estimates(
            run, comparison.answers, comparison.latencies_ms, comparison.reference_of)
        answered = {e.stamp_ns for e in comparison.answers}
        result['unanswered_stamps_ns'] = [image.stamp_ns for image in run.images
                                          if image.stamp_ns not in answered]
        result['stamps_without_reference_ns'] = [
            image.stamp_ns for image in run.images
            if image.stamp_ns not in comparison.reference_of]
    return result


def find_run_doubts(comparison: RunComparison) -> list[str]:
    """What a reader of the figures should know, in sentences."""
    doubts = []
    for name, counts in comparison.run.counts.items():
        for count, text in ((counts.disordered, 'came after a later stamp and were sorted'),
                            (counts.duplicates, 'have the stamp of an earlier one: left out'),
                            (counts.unusable, 'are without stamp, with NaN or no unit '
                                              'quaternion: left out'),
                            (counts.damaged, 'are damaged: left out')):
            if count:
                doubts.append(f'{name}: {count} {text}')
    if comparison.estimates_of_no_image:
        doubts.append(f'{comparison.estimates_of_no_image} estimates have the stamp of no '
                      f'recorded image: left out')
    missing = sum(comparison.images_without_reference.values())
    if missing:
        reasons = '; '.join(f'{count} {reason}' for reason, count
                            in comparison.images_without_reference.most_common(3))
        doubts.append(f'{missing} images have no reference and are not judged: {reasons}')
    if comparison.errors.within(_SAME_POSE).all():
        doubts.append('the reference is the same as the estimates: is it the node that sends it?')
    return doubts


def _covariances(estimates: Sequence[RecordedEstimate]) -> Float64Array | None:
    found = [e.covariance_66 for e in estimates if e.covariance_66 is not None]
    return np.array(found) if len(found) == len(estimates) else None


def _time_to_first_fix(comparison: RunComparison) -> dict[str, float]:
    images, answers = comparison.run.images, comparison.answers
    return {
        'by_stamp': (min(e.stamp_ns for e in answers)
                     - min(image.stamp_ns for image in images)) / 1e9,
        'by_bag_time': (min(e.bag_time_ns for e in answers)
                        - min(image.bag_time_ns for image in images)) / 1e9}


def _describe_covariance(comparison: RunComparison) -> dict[str, Any] | None:
    covariance = _covariances(comparison.judged)
    position, rotation = comparison.position_coverage, comparison.rotation_coverage
    if covariance is None or position is None or rotation is None:
        return None
    return {'kinds': count_kinds(classify_covariances(covariance)),
            'position': position.to_dict(), 'orientation': rotation.to_dict()}


def _span(stamps_ns: Sequence[int]) -> str:
    return f'{min(stamps_ns) / 1e9:.3f} to {max(stamps_ns) / 1e9:.3f} s'
