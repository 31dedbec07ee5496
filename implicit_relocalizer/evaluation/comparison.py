# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Two results on the same frames: what is better, what worse, and what may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from implicit_relocalizer.evaluation.coverage import SIGMAS, limit_of, share_of
from implicit_relocalizer.evaluation.metrics import ALL_LIMITS, Float64Array
from implicit_relocalizer.evaluation.paired_bootstrap import (
    CONFIDENCE,
    RESAMPLES,
    Statistic,
    difference_interval,
    mean,
    percentile_of,
    subtract,
)

RUN_KIND = 'recorded_run'
SCENE_KINDS = ('evaluation', 'sift_map')
# Fewer frames do not make an interval.
_FEWEST_FRAMES = 8
_DEGREES_OF_FREEDOM = 3


class ComparisonError(ValueError):
    """Two results cannot be compared; the message names both and the remedy."""


@dataclass(frozen=True)
class ComparedRow:
    """One figure of both results.

    Attributes:
        label: What it is.
        unit: Of all numbers of the row: cm, deg or %.
        better: 'lower', 'higher', or 'nearer' to `ideal`.
        this, other: Infinite where too many frames have no answer.
        difference: this - other.
        low, high: 95 % interval of the difference.
        is_clear: Whether zero is outside of it.
        ideal: Of rows that should come near to a value.
    """

    label: str
    unit: str
    better: str
    this: float
    other: float
    difference: float
    low: float
    high: float
    is_clear: bool
    ideal: float | None = None

    @property
    def verdict(self) -> str:
        """'better', 'worse', or '' where it may be chance."""
        if not self.is_clear:
            return ''
        if self.ideal is not None:
            closer = abs(self.this - self.ideal) < abs(self.other - self.ideal)
        else:
            closer = (self.difference < 0.0) == (self.better == 'lower')
        return 'better' if closer else 'worse'

    def to_dict(self) -> dict[str, Any]:
        """JSON values. Infinite ones become None: `this` and `other` are then above all bounds,
        as is `high`; `low` is below them. So is a difference, on the side of `verdict`.
        """
        values = {**asdict(self), 'verdict': self.verdict}
        return {key: None if isinstance(value, float) and not np.isfinite(value) else value
                for key, value in values.items()}


@dataclass(frozen=True, eq=False)
class _Frames:
    """The same n frames of one result, in order; infinite and zero where there is no answer."""

    translation_m: Float64Array
    rotation_deg: Float64Array
    available: Float64Array
    normalised_position: Float64Array
    normalised_orientation: Float64Array


def check_comparable(this: Mapping[str, Any], other: Mapping[str, Any], this_name: str,
                     other_name: str) -> None:
    """Check that two results are of the same frames, as far as can be told without the frames.

    Raises:
        ComparisonError: another kind, scene or split.
    """
    if not _are_same_form(this.get('kind'), other.get('kind')):
        raise ComparisonError(
            f'{this_name} is a result of kind {this.get("kind")!r}, {other_name} of '
            f'{other.get("kind")!r}; two results of `evaluate MODEL SCENE` can be compared, or '
            f'two of `evaluate BAG`')
    if this['kind'] == RUN_KIND:
        return
    for key in ('scene', 'split'):
        if this.get(key) != other.get(key):
            raise ComparisonError(
                f'{this_name} was measured on {key} {this.get(key)!r}, {other_name} on '
                f'{other.get(key)!r}; only results on the same frames can be compared')


def check_lists_frames(result: Mapping[str, Any], name: str) -> None:
    """Check that a result can be paired with another one.

    Raises:
        ComparisonError: it does not list its frames.
    """
    if not isinstance(result.get('frames_detail'), list):
        raise ComparisonError(f'{name}: does not list its frames, so they cannot be paired; make '
                              f'it again with --per-frame')


def compare_results(this: Mapping[str, Any], other: Mapping[str, Any], this_name: str,
                    other_name: str, seed: int = 0,
                    resamples: int = RESAMPLES) -> dict[str, Any]:
    """Compare the frames that both results have, as JSON values.

    Of `evaluate MODEL SCENE` these are the held-out frames, by name; of `evaluate BAG` the images
    with a reference, by stamp, whatever the bags are called: two models can answer the same
    images. An image without an answer is infinitely wrong: medians and percentiles are those of
    the frames *asked*, unlike the results' own, which are of the answers. Coverage is compared
    over the frames where both have a covariance that can be used. Intervals are those of
    `paired_bootstrap`; of twenty rows that differ by chance alone, one is clear.

    Args:
        this, other: Results with `frames_detail`.
        this_name, other_name: For messages, such as their files.
        seed: Of the resampling.
        resamples: How many.

    Raises:
        ComparisonError: they are not of the same frames, or do not list them.
    """
    check_comparable(this, other, this_name, other_name)
    rows_this, rows_other = _list_frames(this, this_name), _list_frames(other, other_name)
    common = [key for key in rows_this if key in rows_other]
    if len(common) < _FEWEST_FRAMES:
        raise ComparisonError(
            f'{this_name} ({_place(this)}) and {other_name} ({_place(other)}) have {len(common)} '
            f'frames in common, of {len(rows_this)} and {len(rows_other)}; only results on the '
            f'same frames can be compared, at least {_FEWEST_FRAMES} of them')
    is_run = this['kind'] == RUN_KIND
    frames = [_gather([rows[key] for key in common], is_run) for rows in (rows_this, rows_other)]
    return {'against': other_name, 'frames_compared': len(common),
            'frames_only_here': len(rows_this) - len(common),
            'frames_only_there': len(rows_other) - len(common),
            'frames': 'images with a reference' if is_run else 'held-out frames',
            'interval': CONFIDENCE, 'resamples': resamples, 'seed': seed,
            'rows': [row.to_dict() for row in _compare(
                frames[0], frames[1], is_run, seed, resamples)]}


def _compare(this: _Frames, other: _Frames, is_run: bool, seed: int,
             resamples: int) -> list[ComparedRow]:
    def row(label: str, unit: str, better: str, scale: float, values: tuple[Float64Array, ...],
            statistic: Statistic, ideal: float | None = None) -> ComparedRow:
        mine, theirs = (scale * statistic(part[None])[0] for part in values)
        low, high = (scale * bound for bound in difference_interval(
            values[0], values[1], statistic, seed, resamples))
        return ComparedRow(label, unit, better, float(mine), float(theirs),
                           float(subtract(mine, theirs)), low, high, low > 0.0 or high < 0.0,
                           ideal)

    rows = []
    for name, percent in (('median', 50.0), ('90 %', 90.0), ('99 %', 99.0)):
        statistic = percentile_of(percent)
        rows += [row(f'{name} position error', 'cm', 'lower', 100.0,
                     (this.translation_m, other.translation_m), statistic),
                 row(f'{name} orientation error', 'deg', 'lower', 1.0,
                     (this.rotation_deg, other.rotation_deg), statistic)]
    for limit in ALL_LIMITS:
        found = tuple(((part.translation_m <= limit.translation_m)
                       & (part.rotation_deg <= limit.rotation_deg)).astype(float)
                      for part in (this, other))
        rows.append(row(f'within {limit.label}', '%', 'higher', 100.0, found, mean))
    if np.isfinite(this.available).all() and np.isfinite(other.available).all():
        rows.append(row('answered' if is_run else 'accepted', '%', 'higher', 100.0,
                        (this.available, other.available), mean))
    for name, values in (
            ('position', (this.normalised_position, other.normalised_position)),
            ('orientation', (this.normalised_orientation, other.normalised_orientation))):
        both = np.isfinite(values[0]) & np.isfinite(values[1])
        if both.sum() < _FEWEST_FRAMES:
            continue
        for sigma in SIGMAS:
            limit_sigma = limit_of(sigma, _DEGREES_OF_FREEDOM)
            inside = tuple((part[both] <= limit_sigma).astype(float) for part in values)
            rows.append(row(f'{name} within {sigma} sigma', '%', 'nearer', 100.0, inside, mean,
                            100.0 * share_of(sigma)))
    return rows


def _are_same_form(this_kind: Any, other_kind: Any) -> bool:
    return (this_kind == other_kind == RUN_KIND
            or (this_kind in SCENE_KINDS and other_kind in SCENE_KINDS))


def _place(result: Mapping[str, Any]) -> str:
    return str(result.get('bag') or f'{result.get("scene")}, split {result.get("split")}')


def _list_frames(result: Mapping[str, Any], name: str) -> dict[Any, Mapping[str, Any]]:
    """The rows of a result by frame, in order; empty rows stand for images without an answer.

    Raises:
        ComparisonError: the result does not list them, or a row lacks a key.
    """
    check_lists_frames(result, name)
    rows = result['frames_detail']
    try:
        if result['kind'] != RUN_KIND:
            return {row['name']: row for row in rows if row['split'] == 'test'}
        judged: dict[Any, Mapping[str, Any]] = {
            row['stamp_ns']: row for row in rows if row['translation_m'] is not None}
        unjudged = set(result.get('stamps_without_reference_ns', []))
        judged.update((stamp_ns, {'translation_m': None}) for stamp_ns
                      in result['unanswered_stamps_ns'] if stamp_ns not in unjudged)
        return dict(sorted(judged.items()))
    except (KeyError, TypeError) as error:
        raise ComparisonError(f'{name}: its list of frames has no {error}; make it again with '
                              f'this version') from None


def _gather(rows: Sequence[Mapping[str, Any]], is_run: bool) -> _Frames:
    def column(key: str, otherwise: float) -> Float64Array:
        values = [row.get(key) for row in rows]
        return np.array([otherwise if value is None else value for value in values], np.float64)

    translation_m = column('translation_m', np.inf)
    # Of runs every answer was accepted; of scenes each says it, or none.
    available = (np.isfinite(translation_m).astype(float) if is_run
                 else column('accepted', np.nan))
    return _Frames(translation_m, column('rotation_deg', np.inf), available,
                   column('normalised_position_error', np.nan),
                   column('normalised_orientation_error', np.nan))
