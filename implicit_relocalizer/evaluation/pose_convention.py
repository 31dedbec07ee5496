# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Do poses mean what we take them for? Matched images answer; the poses cannot.

Two images of the same things fix the relative pose of their cameras up to the length of its
translation. Every convention turns the given matrices into other relative poses; only the right
one puts the matches on their epipolar lines and before both cameras. What images never tell: the
unit of translations, and which way the world is up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from implicit_relocalizer.data.frames import Float64Array, Frame
from implicit_relocalizer.evaluation.epipolar import MatchedPair, rotation_error_px
from implicit_relocalizer.evaluation.evidence import Evidence, gather_evidence, unbeaten
from implicit_relocalizer.evaluation.pose_readings import GIVEN, READINGS, PoseReading

Verdict = Literal['fits', 'other_fits', 'none_fits', 'undecided']

MIN_PAIRS = 5
# Worse than this share of the image's longest side, nothing has been explained: 4 px of 540.
LARGEST_ERROR_SHARE = 0.0075
# Points that a rotation alone takes this near to their matches show no translation.
_NO_PARALLAX_SHARE = 1.5e-3


@dataclass(frozen=True)
class ReadingEvidence:
    """One way of reading the poses and what the pairs say about it."""

    reading: PoseReading
    evidence: Evidence


@dataclass(frozen=True)
class ConventionCheck:
    """The answer.

    Attributes:
        verdict: 'fits': as given, and the common other conventions do not. 'other_fits': other
            conventions do. 'none_fits': none explains the images. 'undecided': too little
            evidence, or the motion does not tell the given convention from others.
        reason: The verdict in a sentence or two.
        fitting: Conventions that the evidence does not tell apart, the best first; empty where
            nothing fits or nothing was measured.
        rows: Every convention with its evidence, in the order of `READINGS`.
        limit_px: Largest median error that counts as an explanation.
        noise_px: Median error that the matches allow at best.
        pairs_without_parallax: Pairs that show rotations only and say nothing of translations.
    """

    verdict: Verdict
    reason: str
    fitting: tuple[PoseReading, ...]
    rows: tuple[ReadingEvidence, ...]
    limit_px: float
    noise_px: float
    pairs_without_parallax: int

    @property
    def best(self) -> PoseReading:
        """The convention to go on with: the given one unless another one fits."""
        return self.fitting[0] if self.verdict == 'other_fits' else GIVEN

    def evidence_of(self, reading: PoseReading) -> Evidence:
        """What the pairs say about one convention."""
        return next(row.evidence for row in self.rows if row.reading is reading)

    def to_dict(self) -> dict[str, Any]:
        """The check as JSON values; NaN becomes None."""
        return {
            'verdict': self.verdict, 'reason': self.reason,
            'fitting': [reading.key for reading in self.fitting],
            'conversion': None if self.best is GIVEN else
            {'formula': self.best.formula, 'numpy': self.best.numpy_line},
            'pairs': len(self.rows[0].evidence.errors_px_p) if self.rows else 0,
            'pairs_without_parallax': self.pairs_without_parallax,
            'limit_px': _finite(self.limit_px), 'noise_px': _finite(self.noise_px),
            'conventions': {row.reading.key: {
                'title': row.reading.title,
                'median_error_px': _finite(row.evidence.median_px),
                'median_share_in_front': _finite(row.evidence.median_in_front),
                'pair_errors_px': [_finite(e) for e in row.evidence.errors_px_p]}
                for row in self.rows}}


def check_convention(frames: Sequence[Frame], pairs: Sequence[MatchedPair],
                     image_size: tuple[int, int],
                     K_of: Callable[[int], Float64Array] | None = None) -> ConventionCheck:
    """Hold the given poses, read in every convention, against matched images.

    Args:
        frames: All of a scene; `T_world_camera` as given.
        pairs: Matches between them.
        image_size: Width and height in pixels.
        K_of: Intrinsics of the frame at an index; the frames' own by default.
    """
    limit_px = LARGEST_ERROR_SHARE * max(image_size)
    noise_px = float(np.median([pair.free_error_px for pair in pairs])) if pairs else np.nan
    if len(pairs) < MIN_PAIRS:
        reason = (f'pairs of images with enough matches and motion: {len(pairs)}; at least '
                  f'{MIN_PAIRS} are needed to tell')
        return ConventionCheck('undecided', reason, (), (), limit_px, noise_px, 0)
    K = K_of or (lambda index: frames[index].K_33)
    given_n44 = np.stack([frame.T_world_camera for frame in frames])
    poses = [reading.convert(given_n44) for reading in READINGS]
    without_parallax_p = np.array([_without_parallax(pair, K, poses, image_size)
                                   for pair in pairs])
    rows = tuple(ReadingEvidence(reading, gather_evidence(pairs, K, T_n44, without_parallax_p))
                 for reading, T_n44 in zip(READINGS, poses, strict=True))
    fitting = [READINGS[i] for i in unbeaten([row.evidence for row in rows])]
    # Where several are not told apart, the given one and then the common ones come first.
    fitting.sort(key=lambda reading: (reading is not GIVEN, not reading.is_common))
    verdict, reason = _judge(fitting, rows, limit_px)
    return ConventionCheck(verdict, reason, tuple(fitting if verdict != 'none_fits' else ()),
                           rows, limit_px, noise_px, int(without_parallax_p.sum()))


def _judge(fitting: Sequence[PoseReading], rows: Sequence[ReadingEvidence],
           limit_px: float) -> tuple[Verdict, str]:
    errors_px = {row.reading.key: row.evidence.median_px for row in rows}
    best = fitting[0]
    given_px, best_px = errors_px[GIVEN.key], errors_px[best.key]
    count = len(rows[0].evidence.errors_px_p)
    if best_px > limit_px:
        lowest = min(rows, key=lambda row: row.evidence.median_px).reading
        return 'none_fits', (
            f'no convention explains the images: the lowest error is '
            f'{errors_px[lowest.key]:.1f} px ({lowest.title}) where {limit_px:.1f} px would '
            f'pass. Poses and images may not belong together (another order, other time stamps, '
            f'another recording), or K.txt is of another camera')
    others = [reading for reading in fitting if reading is not best]
    common = [reading for reading in others if reading.is_common]
    alike = ' and '.join(reading.title for reading in common or others)
    if best is not GIVEN:
        return 'other_fits', (
            f'the poses are not camera-to-world with OpenCV axes ({given_px:.1f} px over {count} '
            f'pairs): they are {best.title} ({best_px:.2f} px)'
            + (f', or {alike}, which this motion does not tell apart' if others else ''))
    if common:
        return 'undecided', (
            f'the given convention fits ({given_px:.2f} px over {count} pairs), but this motion '
            f'does not tell it from {alike}: turn the camera about more than one axis')
    return 'fits', (
        f'camera-to-world with OpenCV axes explains {count} pairs of images '
        f'({given_px:.2f} px)' + (f'; {alike} would as well' if others else ''))


def _without_parallax(pair: MatchedPair, K_of: Callable[[int], Float64Array],
                      poses: Sequence[Float64Array], image_size: tuple[int, int]) -> bool:
    """Whether one of the readings' rotations alone explains the pair.

    Then its translation is lost in the noise, and lines through noise are no evidence.
    """
    limit_px = _NO_PARALLAX_SHARE * max(image_size)
    return any(rotation_error_px(pair, K_of(pair.first), K_of(pair.second),
                                 np.linalg.inv(T_n44[pair.second]) @ T_n44[pair.first]) < limit_px
               for T_n44 in poses)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
