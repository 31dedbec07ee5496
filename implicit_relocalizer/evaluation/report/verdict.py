# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a result means, in sentences for people who have not read the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy.stats import binom

from implicit_relocalizer.evaluation.report.contents import ReportContents
from implicit_relocalizer.evaluation.report.incidents import NO_ANSWERS, WRONG, Incident

Level = Literal['good', 'caution', 'bad', 'note']
# So far may a share of 1 or 2 sigma be off before the covariance is called wrong.
_COVERAGE_TOLERANCE = {1: 0.07, 2: 0.04}
_LEAST_COMPARED = 20
_MOST_CALIBRATION_ERROR = 0.05
_MOST_FALSE_ACCEPTS = 0.01
_MOST_WARNINGS = 12
_AVAILABILITY_GOOD, _AVAILABILITY_FAIR = 0.9, 0.5


@dataclass(frozen=True)
class Point:
    """One finding, and whether it is good news."""

    level: Level
    text: str


def headline(contents: ReportContents, incidents: Sequence[Incident]) -> Point:
    """The one sentence to remember."""
    result = contents.result
    if contents.kind == 'scene':
        summary = result['test']
        if not summary['frames_answered']:
            return Point('bad', f'None of {summary["frames"]} held-out images was answered.')
        return Point(
            _level(summary['recall'].get('25cm_5deg', 0.0)),
            f'Half of the answers to held-out images are within {pose_text(summary, "median")}; '
            f'{summary["recall"].get("25cm_5deg", 0.0):.0%} of the {summary["frames"]} images are '
            f'located within 25 cm and 5\u00b0.')
    found = [i for i in incidents if not i.is_after_images]
    parts = []
    for what, text in (('LOST', 'was lost'), (WRONG, 'was given wrong poses as if they were good'),
                       (NO_ANSWERS, 'got no answers')):
        stretches = [i for i in found if i.what == what]
        if stretches:
            parts.append(f'{text} {_times(stretches)}')
    if parts:
        only_silent = all(i.what not in ('LOST', WRONG) for i in found)
        return Point('caution' if only_silent else 'bad', f'The robot {" and ".join(parts)}.')
    return Point('good', 'The robot was not lost'
                 + (', once it had found itself.' if found else ' in this recording.'))


def findings(contents: ReportContents) -> list[Point]:
    """What else there is to say, the most important first."""
    result = contents.result
    points = (_of_run(result) if contents.kind == 'run' else _of_scene(result))
    points += _of_covariance(judged_covariance(contents))
    points += _of_confidence(result)
    for warning in list(result.get('warnings', ()))[:_MOST_WARNINGS]:
        points.append(Point('caution', f'{str(warning)[:1].upper()}{str(warning)[1:]}'))
    return points


def judged_covariance(contents: ReportContents) -> Mapping[str, Any] | None:
    """`position` and `orientation` of those who count: of a scene, accepted held-out answers.

    A filter never sees the others.
    """
    covariance = contents.result.get('covariance')
    if covariance and 'position' not in covariance:
        covariance = covariance.get('test')
    if covariance and covariance.get('accepted'):
        covariance = covariance['accepted']
    return covariance or None


def judge_coverage(coverage: Mapping[str, Any]) -> Point:
    """Whether a covariance is as large as the errors; its sampling error is allowed for."""
    count = coverage['compared']
    if count < _LEAST_COMPARED:
        return Point('note', f'too few answers ({count}) to tell')
    low = high = False
    for sigma, tolerance in _COVERAGE_TOLERANCE.items():
        expected = coverage['expected'][f'{sigma}_sigma']
        least, most = (limit / count for limit in binom.interval(0.95, count, expected))
        share = coverage['within'][f'{sigma}_sigma']
        low = low or share < min(least, expected - tolerance)
        high = high or (share > max(most, expected + tolerance) and sigma == 1)
    if low:
        return Point('bad', 'too small: errors are larger than it says')
    if high:
        return Point('caution', 'too large: errors are smaller than it says')
    outliers = count - round(coverage['within']['3_sigma'] * count)
    if outliers > binom.ppf(0.99, count, 1.0 - coverage['expected']['3_sigma']):
        return Point('caution', f'as large as most errors, but {outliers} of {count} are beyond '
                                f'3 sigma')
    return Point('good', 'honest: it is as large as the errors')


def pose_text(summary: Mapping[str, Any], key: str) -> str:
    """Such as `2.8 cm / 0.31 degrees`."""
    metres, degrees = summary.get(f'{key}_translation_m'), summary.get(f'{key}_rotation_deg')
    return '\u2013' if metres is None or degrees is None else (
        f'{length_text(metres)} / {degrees:.2f}\u00b0')


def length_text(metres: float) -> str:
    """In the unit that fits."""
    if metres < 0.01:
        return f'{1e3 * metres:.1f} mm'
    return f'{1e2 * metres:.1f} cm' if metres < 1.0 else f'{metres:.2f} m'


def _of_run(result: Mapping[str, Any]) -> list[Point]:
    errors, wrong = result['errors'], result['false_accepts']
    first = result['time_to_first_fix_s']['by_bag_time']
    availability = result['availability']
    points = [
        Point('good' if availability >= _AVAILABILITY_GOOD else
              'caution' if availability >= _AVAILABILITY_FAIR else 'bad',
              f'{result["images_answered"]} of {result["images_asked"]} images were answered '
              f'({availability:.1%}); the first pose came {first:.2f} s after the first image.'),
        Point('note', f'Errors of the answers: {pose_text(errors, "median")} in the median, 90% '
                      f'within {pose_text(errors, "p90")}, 99% within '
                      f'{pose_text(errors, "p99")}.')]
    text = f'farther off than {wrong["beyond_m"]:g} m or {wrong["beyond_deg"]:g}\u00b0'
    points.append(Point('bad', f'{wrong["count"]} answers ({wrong["share"]:.1%}) were {text}: '
                               f'false accepts.') if wrong['count'] else
                  Point('good', f'No answer was {text}: no false accepts.'))
    return points


def _of_scene(result: Mapping[str, Any]) -> list[Point]:
    train, test = result['train'], result['test']
    points = [Point(_level(test['frames_answered'] / max(test['frames'], 1)),
                    f'{test["frames_answered"]} of {test["frames"]} held-out images got an '
                    f'answer. Errors of the answers: {pose_text(test, "median")} in the median, '
                    f'90% within {pose_text(test, "p90")}.')]
    if train['frames_answered'] and test['frames_answered']:
        factor = test['median_translation_m'] / max(train['median_translation_m'], 1e-9)
        points.append(Point(
            'note', f'On training images the median is {pose_text(train, "median")}: held-out '
                    f'positions are {factor:.1f} times as far off.'))
    return points


def _of_covariance(covariance: Mapping[str, Any] | None) -> list[Point]:
    if covariance is None:
        return [Point('caution', 'No covariance was given, so nobody downstream can tell good '
                                 'answers from bad ones by it.')]
    points = []
    unusable = sum(count for kind, count in covariance['kinds'].items() if kind != 'valid')
    if unusable:
        points.append(Point('bad', f'{unusable} covariances cannot be used (zero, not symmetric, '
                                   f'not positive definite or not finite).'))
    for name in ('position', 'orientation'):
        coverage = covariance[name]
        judged = judge_coverage(coverage)
        share = coverage['within']['1_sigma']
        expected = [coverage['expected'][f'{sigma}_sigma'] for sigma in (1, 2)]
        told = ('' if share is None else
                f' ({share:.0%} of the errors are within 1 sigma, '
                f'{coverage["within"]["2_sigma"]:.0%} within 2; it would be {expected[0]:.0%} '
                f'and {expected[1]:.0%} if it were true)')
        points.append(Point(judged.level, f'The covariance of the {name} is {judged.text}{told}.'
                            if judged.level != 'note' else
                            f'The covariance of the {name}: {judged.text}.'))
    return points


def _of_confidence(result: Mapping[str, Any]) -> list[Point]:
    points = []
    confidence, acceptance = result.get('confidence'), result.get('acceptance')
    error = (confidence or {}).get('expected_calibration_error')
    if error is not None:
        is_honest = error <= _MOST_CALIBRATION_ERROR
        points.append(Point(
            'good' if is_honest else 'caution',
            f'The confidence is {"honest" if is_honest else "not quite honest"}: on average it '
            f'differs by {error:.3f} from the share of good answers.'))
    at = (acceptance or {}).get('at_threshold')
    if at and at.get('good_accepted') is not None:
        points.append(Point('note', f'{at["good_accepted"]:.0%} of the good answers are accepted '
                                    f'at the threshold {at["threshold"]:.3f}.'))
    accepted, wrong = ((at or {}).get('counts') or {}).get('wrong', (0, 0))
    if acceptance and wrong:
        points.append(Point('bad' if accepted else 'good',
                            f'{accepted} of the {wrong} answers that are farther off than '
                            f'{acceptance["bound_m"]:g} m or {acceptance["bound_deg"]:g}\u00b0 '
                            f'are accepted.'))
    if at and at.get('elsewhere_accepted') is not None:
        share = at['elsewhere_accepted']
        points.append(Point('good' if share <= _MOST_FALSE_ACCEPTS else 'bad',
                            f'{share:.2%} of {at["counts"]["elsewhere"][1]} images of other '
                            f'places are accepted by mistake.'))
    return points


def _level(share: float) -> Level:
    return 'good' if share >= 0.9 else 'caution' if share >= 0.6 else 'bad'


def _times(incidents: Sequence[Incident]) -> str:
    count = len(incidents)
    spans = ', '.join(f'{i.start_s:.1f} to {i.end_s:.1f} s' for i in incidents[:3])
    if count == 1:
        return f'once (from {spans})'
    total_s = sum(i.duration_s for i in incidents)
    return (f'{count} times (from {spans}{f" and {count - 3} more" if count > 3 else ""}; '
            f'{total_s:.1f} s in all)')
