# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""An inspected scene as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from implicit_relocalizer.data.frames import Float64Array, Scene
from implicit_relocalizer.evaluation.calibration_check import unit_is_off
from implicit_relocalizer.evaluation.inspection import SceneStatistics
from implicit_relocalizer.evaluation.pose_convention import ConventionCheck
from implicit_relocalizer.evaluation.pose_readings import GIVEN
from implicit_relocalizer.evaluation.scene_check import SceneCheck

_WIDTH = 99
_MAX_LISTED = 5
# Errors so far above what matches allow are worth a word, where they pass.
_NOTABLE_NOISE_RATIO, _NOTABLE_SHARE = 5.0, 0.003


def describe_statistics(scene: Scene, statistics: SceneStatistics) -> str:
    """Counts and measures, a line each."""
    lines = [f'{scene.name}: {statistics.train} training and {statistics.test} test frames of '
             f'{statistics.image_size[0]}x{statistics.image_size[1]} pixels']
    for name, value in _statistics_rows(scene, statistics):
        lines += textwrap.wrap(value, _WIDTH, initial_indent=f'  {name:<18}',
                               subsequent_indent=' ' * 20)
    return '\n'.join(lines)


def describe_check(scene: Scene, check: SceneCheck) -> str:
    """The pose-convention check with its table, verdict and remedy."""
    lines = ['', *_wrapped(f'Pose convention, from {len(check.search.pairs)} pairs of matched '
                           f'images' + _failed_pairs(check))]
    convention = check.convention
    lines += _table(convention)
    lines += ['', *_wrapped(f'{_headline(check)}: {convention.reason}.')]
    if convention.verdict == 'other_fits':
        lines += ['  To convert each 4x4 matrix T of these poses:',
                  f'      {convention.best.formula}', f'      {convention.best.numpy_line}']
    for finding in _findings(scene, check):
        lines += _wrapped(finding)
    return '\n'.join(lines)


def format_length(metres: float) -> str:
    """A length as a person would say it."""
    if metres < 0.995:
        return f'{100 * metres:.2g} cm' if metres < 0.0995 else f'{100 * metres:.0f} cm'
    return f'{metres:.2f} m' if metres < 10 else f'{metres:.1f} m'


def _statistics_rows(scene: Scene, statistics: SceneStatistics) -> Iterator[tuple[str, str]]:
    sequences = statistics.sequences
    if len(sequences) > 1:
        yield 'sequences', f'{len(sequences)}: ' + _listed(
            [f'{name or "unnamed"} ({count})' for name, count in sequences.items()])
    K_33 = statistics.K_33
    fov = statistics.field_of_view_deg
    yield 'camera', (f'fx {K_33[0, 0]:.1f}, fy {K_33[1, 1]:.1f}, cx {K_33[0, 2]:.1f}, '
                     f'cy {K_33[1, 2]:.1f}; field of view {fov[0]:.0f}° x {fov[1]:.0f}°'
                     + (f'; focal lengths of the frames differ by {statistics.K_spread:.1%}'
                        if statistics.K_spread > 1e-3 else ''))
    lenses = sum(frame.lens is not None for frame in scene.frames)
    if lenses:
        yield 'lens', f'{_count(lenses, "frame")} undistorted to this pinhole camera when read'
    yield 'extent', ' x '.join(f'{side:.2f}' for side in statistics.extent_m) + ' m (x, y, z)'
    yield 'path', (f'{format_length(statistics.path_length_m)}; usual step '
                   f'{format_length(statistics.step_m)} and {statistics.step_deg:.1f}°')
    nearest = statistics.nearest
    if nearest is None:
        yield 'nearest training', 'one of the splits is empty'
    else:
        def at(percent: float) -> str:
            return (f'{format_length(float(np.percentile(nearest.distances_m, percent)))} / '
                    f'{np.percentile(nearest.angles_deg, percent):.1f}°')
        yield 'nearest training', (f'view of the test frames: median {at(50)}, 90 % within '
                                   f'{at(90)}, farthest {at(100)}')
        if nearest.identical:
            yield 'leaking', (f'{_count(nearest.identical, "test frame")} with exactly the pose '
                              f'of a training frame: such errors look too good')
    if statistics.jumps:
        yield 'jumps', f'{len(statistics.jumps)}: ' + _listed(
            [f'{scene.frames[jump.first].name} to {scene.frames[jump.second].name} '
             f'({format_length(jump.distance_m)}, {jump.angle_deg:.0f}°)'
             for jump in statistics.jumps])
    if statistics.frozen:
        yield 'repeated poses', (f'{_count(statistics.frozen, "frame")} with exactly the pose of '
                                 f'the one before')
    if statistics.time is not None:
        yield 'time', _time(scene, statistics)
    if statistics.skipped:
        yield 'skipped', _count(sum(statistics.skipped.values()), 'frame')
        for reason, count in statistics.skipped.items():
            yield '', f'{count} x {reason}' + (' (and alike)' if count > 1 else '')


def _time(scene: Scene, statistics: SceneStatistics) -> str:
    time = statistics.time
    assert time is not None
    parts = [f'{time.duration_s:.1f} s at {time.rate_hz:.3g} Hz']
    if time.stamped < len(scene.frames):
        parts.append(f'{_count(len(scene.frames) - time.stamped, "frame")} without stamp')
    if time.gaps:
        parts.append(f'{_count(time.gaps, "gap")}, the longest {time.longest_gap_s:.3g} s')
    if time.backwards:
        parts.append(f'{_count(time.backwards, "step")} back in time')
    if time.repeated:
        parts.append(_count(time.repeated, 'repeated stamp'))
    return '; '.join(parts)


def _failed_pairs(check: SceneCheck) -> str:
    failures = check.search.failures
    if not failures:
        return ''
    return (f' ({_count(sum(failures.values()), "more try", "more tries")} failed: '
            + '; '.join(f'{count} x {reason}' for reason, count in failures.most_common()) + ')')


def _table(convention: ConventionCheck) -> list[str]:
    if not convention.rows:
        return []
    lines = [f'  {"":<50}{"epipolar error":>16}{"points in front":>18}']
    rows = [row for row in convention.rows
            if row.reading.is_common or row.reading in convention.fitting]
    rest = [row for row in convention.rows if row not in rows]
    for row in rows:
        given = ' (as given)' if row.reading is GIVEN else ''
        fits = '  <- fits' if row.reading in convention.fitting else ''
        lines.append(f'  {row.reading.title + given:<50}{row.evidence.median_px:>13.2f} px'
                     f'{_percent(row.evidence.median_in_front):>18}{fits}')
    best = min(rest, key=lambda row: row.evidence.median_px)
    lines.append(f'  {f"lowest of {len(rest)} rarer ones":<50}{best.evidence.median_px:>13.2f} px'
                 f'{_percent(best.evidence.median_in_front):>18}')
    lines.append(f'  {"what the matches allow at best":<50}{convention.noise_px:>13.2f} px')
    return lines


def _headline(check: SceneCheck) -> str:
    return {'fits': 'FITS', 'other_fits': 'ANOTHER CONVENTION FITS', 'none_fits': 'NOTHING FITS',
            'undecided': 'UNDECIDED'}[check.convention.verdict]


def _findings(scene: Scene, check: SceneCheck) -> Iterator[str]:
    convention = check.convention
    if convention.pairs_without_parallax:
        yield (f'{convention.pairs_without_parallax} of the pairs show rotations only; they say '
               f'nothing about translations.')
    if check.camera is not None:
        yield (f'INTRINSICS: {check.camera.title} ({check.camera.median_px:.2f} px instead of '
               f'{check.camera.given_px:.2f} px). To convert: {check.camera.numpy_line}')
    elif check.focal is not None:
        yield (f'Focal length: the images like {check.focal.factor:.3f} times the given one best.'
               if check.focal.is_sharp else
               'Focal length: these images do not tell it (too little parallax or rotation).')
    if check.time_shift is not None:
        yield (f'TIME: {check.time_shift.title} ({check.time_shift.median_px:.2f} px instead of '
               f'{check.time_shift.given_px:.2f} px).')
    if check.camera is None and check.time_shift is None and convention.verdict == 'fits':
        given_px = convention.evidence_of(GIVEN).median_px
        if (given_px > _NOTABLE_NOISE_RATIO * convention.noise_px
                and given_px > _NOTABLE_SHARE * max(scene.image_size)):
            yield (f'Note: {given_px:.1f} px is much more than the {convention.noise_px:.2f} px '
                   f'that the matches allow: poses, intrinsics or time stamps are inexact, or '
                   f'the lens distorts.')
    yield from _unit(check)
    if check.bad_poses:
        listed = _listed([f'{bad.name} ({bad.error_px:.0f} px)' for bad in check.bad_poses])
        yield (f'BAD POSES: {_count(len(check.bad_poses), "frame")} of those looked at, whose '
               f'neighbours\' images say otherwise: {listed}. Repair or remove.')


def _unit(check: SceneCheck) -> Iterator[str]:
    ratio = check.unit_ratio
    if unit_is_off(ratio):
        assert ratio is not None
        yield (f'UNIT: depth images measure {ratio:.3g} times the depth that the poses imply: '
               f'translations are not in metres (multiply them by {ratio:.3g}), or the depth '
               f'images are not in millimetres.')
    elif ratio is not None:
        yield f'Unit: depth images agree with metres (ratio {ratio:.3f}).'
    elif check.convention.fitting:
        size = ' x '.join(f'{side:.2g}' for side in _extent(check.T_world_camera_n44))
        yield (f'Unit: images alone cannot tell it. Did the camera move in a box of {size} '
               f'metres?')


def _extent(T_world_camera_n44: Float64Array) -> Float64Array:
    positions_n3 = T_world_camera_n44[:, :3, 3]
    return np.asarray(positions_n3.max(axis=0) - positions_n3.min(axis=0))


def _percent(share: float) -> str:
    return f'{100 * share:.0f} %' if np.isfinite(share) else '-'


def _count(number: int, noun: str, plural: str = '') -> str:
    return f'{number} {noun if number == 1 else plural or noun + "s"}'


def _listed(items: Sequence[str]) -> str:
    more = len(items) - _MAX_LISTED
    return ', '.join(items[:_MAX_LISTED]) + (f' and {more} more' if more > 0 else '')


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent='  ', break_long_words=False)
