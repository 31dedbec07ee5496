# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Does a filter that believes a model's covariances do better than one that is told a constant?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from implicit_relocalizer.evaluation.coverage import VALID, classify_covariances, rotation_errors
from implicit_relocalizer.evaluation.filtering import OdometryNoise, drift, run_filter
from implicit_relocalizer.evaluation.locating import LocatedFrame, is_accepted
from implicit_relocalizer.evaluation.metrics import Float64Array

# Of standard deviations, about the root mean square of the errors that there are.
FACTORS = tuple(float(factor) for factor in 2.0 ** np.arange(-2.0, 2.01, 0.5))
_FEWEST_FRAMES = 5
_MOST_POSES_AT_ONCE = 100_000


class FilterExperimentError(ValueError):
    """There is nothing to filter; the message says why."""


@dataclass(frozen=True)
class FilterOptions:
    """What the filters are given beside the poses.

    Attributes:
        odometry: How it drifts; the filters know.
        odometry_seeds: Every drive is filtered once for each.
        factors: Of the constant covariances, for position and rotation each.
    """

    odometry: OdometryNoise = field(default_factory=OdometryNoise)
    odometry_seeds: tuple[int, ...] = tuple(range(20))
    factors: tuple[float, ...] = FACTORS


@dataclass(frozen=True, eq=False)
class _Drive:
    """Accepted answers of one sequence of n frames, and what they are told to be worth."""

    T_true_n44: Float64Array
    T_answered_n44: Float64Array
    is_accepted_n: NDArray[np.bool_]
    covariance_n66: Float64Array


def compare_covariances(drives: Sequence[Sequence[LocatedFrame]], min_confidence: float,
                        options: FilterOptions | None = None) -> dict[str, Any]:
    """Filter odometry and accepted answers with their own covariances, and with constant ones.

    The constants are diagonal, one deviation of the position and one of the rotation. Those 'of
    the right size' are the root mean square of the errors of these very answers, which nobody
    knows beforehand; the grid holds `factors` of both, of which the best is chosen afterwards,
    for each error by itself. `matrix` is the one full 6x6 constant that the errors had, that too
    with hindsight.

    Errors are root mean squares over all frames from the first accepted answer on, all drives
    and all seeds of odometry.

    Args:
        drives: Answers in the order of the drive; sequences in it are filtered by themselves.
        min_confidence: Answers with less stay out, as at the node.
        options: See there.

    Returns:
        JSON values: `frames`, `accepted`; `answers`, `odometry_alone`, `own`, `right_size`,
        `matrix`, each with `position_rms_m` and `rotation_rms_deg`; `best_constant` for
        `position` and `rotation`; `grid`, rows of factors and errors; `constants_worse`, shares
        of the grid; `runs_won`, shares of the runs in which `own` is better than `best_constant`;
        `beats_every_constant`, whether in both errors.

    Raises:
        FilterExperimentError: too few answers, or without covariances.
    """
    options = options or FilterOptions()
    parts = [part for drive in drives for part in _split(drive, min_confidence)]
    errors_n6 = np.concatenate([_errors(part) for part in parts]) if parts else np.empty((0, 6))
    if len(errors_n6) < _FEWEST_FRAMES:
        raise FilterExperimentError(
            f'{len(errors_n6)} answers are accepted and have a covariance, in sequences of at '
            f'least {_FEWEST_FRAMES} frames; there is nothing to filter')
    sigma_2 = np.sqrt([(errors_n6[:, :3] ** 2).mean(), (errors_n6[:, 3:] ** 2).mean()])
    factors = [(a, b) for a in options.factors for b in options.factors]
    own, right, matrix, *constant = _filter_all(parts, options, [
        None, _diagonal(*sigma_2), errors_n6.T @ errors_n6 / len(errors_n6),
        *(_diagonal(a * sigma_2[0], b * sigma_2[1]) for a, b in factors)])
    nothing, = _filter_all([replace(part, is_accepted_n=_first_of(part.is_accepted_n))
                            for part in parts], options, [None])
    grid = [(*pair, squares) for pair, squares in zip(factors, constant, strict=True)]
    best = [min(grid, key=lambda row: row[2].mean_2[i]) for i in (0, 1)]
    worse = np.array([row[2].mean_2 > own.mean_2 for row in grid])
    return {
        'frames': sum(len(part.is_accepted_n) for part in parts), 'accepted': len(errors_n6),
        'sequences': len(parts), 'odometry': asdict(options.odometry),
        'odometry_seeds': len(options.odometry_seeds),
        'answers': _rms((errors_n6[:, :3] ** 2).sum(axis=1).mean(),
                        (errors_n6[:, 3:] ** 2).sum(axis=1).mean()),
        'odometry_alone': nothing.to_dict(), 'own': own.to_dict(),
        'right_size': {'position_sigma_m': float(sigma_2[0]),
                       'rotation_sigma_deg': float(np.degrees(sigma_2[1])), **right.to_dict()},
        'matrix': matrix.to_dict(),
        'best_constant': {name: {'position_factor': a, 'rotation_factor': b, **squares.to_dict()}
                          for name, (a, b, squares) in zip(('position', 'rotation'), best,
                                                           strict=True)},
        'grid': [{'position_factor': a, 'rotation_factor': b, **squares.to_dict()}
                 for a, b, squares in grid],
        'constants_worse': {'position': float(worse[:, 0].mean()),
                            'rotation': float(worse[:, 1].mean())},
        'runs_won': {name: float((own.runs_r2[:, i] < best[i][2].runs_r2[:, i]).mean())
                     for i, name in enumerate(('position', 'rotation'))},
        'beats_every_constant': bool(worse.all())}


@dataclass(frozen=True, eq=False)
class _Squares:
    """Mean squared errors of position (m^2) and rotation (rad^2): of all frames, of each run."""

    mean_2: Float64Array
    runs_r2: Float64Array

    def to_dict(self) -> dict[str, float]:
        return _rms(*self.mean_2.tolist())


def _filter_all(parts: Sequence[_Drive], options: FilterOptions,
                constants: Sequence[Float64Array | None]) -> list[_Squares]:
    """Filter all parts with each of the constants; None: with the answers' own covariances."""
    runs = [_filter_part(part, options, constants) for part in parts]
    weights = np.repeat([np.count_nonzero(_begun(part.is_accepted_n)) for part in parts],
                        len(options.odometry_seeds))
    return [_Squares(np.average(runs_r2, axis=0, weights=weights), runs_r2)
            for runs_r2 in np.concatenate(runs, axis=1)]


def _filter_part(part: _Drive, options: FilterOptions,
                 constants: Sequence[Float64Array | None]) -> Float64Array:
    """Mean squared errors of position and rotation (k, b, 2) for k constants and b odometries."""
    motion_bn44, variances_n6 = drift(part.T_true_n44, options.odometry, options.odometry_seeds)
    count_b, count_n = motion_bn44.shape[:2]
    at_once = max(1, _MOST_POSES_AT_ONCE // (count_b * count_n))
    squares = []
    for start in range(0, len(constants), at_once):
        chosen = constants[start:start + at_once]
        covariance_kn66 = np.stack([
            part.covariance_n66 if constant is None else
            np.broadcast_to(constant, part.covariance_n66.shape) for constant in chosen])
        filtered = run_filter(
            np.tile(motion_bn44, (len(chosen), 1, 1, 1)), variances_n6, part.T_answered_n44,
            part.is_accepted_n, np.repeat(covariance_kn66, count_b, axis=0))
        squares.append(_squared_errors(filtered, part).reshape(len(chosen), count_b, 2))
    return np.concatenate(squares)


def _squared_errors(filtered_bn44: Float64Array, part: _Drive) -> Float64Array:
    """Means (b, 2) over the frames from the first answer on."""
    begun_n = _begun(part.is_accepted_n)
    estimate_bm44, true_m44 = filtered_bn44[:, begun_n], part.T_true_n44[begun_n]
    turned = estimate_bm44[..., :3, :3] @ true_m44[:, :3, :3].swapaxes(1, 2)
    rotation_bm = Rotation.from_matrix(turned.reshape(-1, 3, 3)).magnitude().reshape(
        turned.shape[:2])
    position_bm2 = ((estimate_bm44[..., :3, 3] - true_m44[:, :3, 3]) ** 2).sum(axis=2)
    return np.stack([position_bm2, rotation_bm ** 2], axis=2).mean(axis=1)


def _split(drive: Sequence[LocatedFrame], min_confidence: float) -> Iterator[_Drive]:
    for _, group in groupby(drive, key=lambda answer: answer.frame.sequence):
        answers = list(group)
        covariance_n66 = np.array([np.zeros((6, 6)) if answer.covariance_66 is None
                                   else answer.covariance_66 for answer in answers])
        accepted_n = (np.array([is_accepted(answer, min_confidence) for answer in answers])
                      & (classify_covariances(covariance_n66) == VALID))
        if len(answers) >= _FEWEST_FRAMES and accepted_n.any():
            yield _Drive(
                np.array([answer.frame.T_world_camera for answer in answers]),
                np.array([np.eye(4) if answer.T_world_camera is None else answer.T_world_camera
                          for answer in answers]), accepted_n, covariance_n66)


def _errors(part: _Drive) -> Float64Array:
    """Of the accepted answers (n, 6), metres and radians."""
    true_n44, answered_n44 = (T_n44[part.is_accepted_n]
                              for T_n44 in (part.T_true_n44, part.T_answered_n44))
    return np.concatenate([answered_n44[:, :3, 3] - true_n44[:, :3, 3],
                           rotation_errors(true_n44[:, :3, :3], answered_n44[:, :3, :3])], axis=1)


def _begun(which_n: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True from the first one on."""
    return np.asarray(np.logical_or.accumulate(which_n))


def _first_of(which_n: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(np.arange(len(which_n)) == np.argmax(which_n))


def _diagonal(position_sigma_m: float, rotation_sigma_rad: float) -> Float64Array:
    return np.diag([position_sigma_m ** 2] * 3 + [rotation_sigma_rad ** 2] * 3)


def _rms(position_m2: float, rotation_rad2: float) -> dict[str, float]:
    return {'position_rms_m': float(np.sqrt(position_m2)),
            'rotation_rms_deg': float(np.degrees(np.sqrt(rotation_rad2)))}
