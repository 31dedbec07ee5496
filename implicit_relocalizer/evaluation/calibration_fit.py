# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Fit a calibration to answers whose errors are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from implicit_relocalizer.evaluation.coverage import (
    SIGMAS,
    limit_of,
    measure_coverage,
    share_of,
)
from implicit_relocalizer.network.calibration import MOST_Z, Calibration

Float64Array = NDArray[np.float64]

# Strength of the pull of all weights towards zero, in samples: features beyond a few hundred
# samples say more than it does.
_RIDGE = 3.0
_FEWEST_SAMPLES = 20
# Of good answers to unspoilt views, that a threshold may cost at most.
_LOST_ORDINARY_SHARE = 0.05
# By how much the share of errors within 1, 2 and 3 sigma may be off for it to be as bad.
_COVERAGE_TOLERANCES = (0.07, 0.04, 0.02)


class CalibrationError(RuntimeError):
    """A model cannot be calibrated; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One answer, and how wrong it is.

    Attributes:
        features: Of `network.calibration`.
        raw_covariance_66: Of the model, uncalibrated.
        translation_error_3: Estimate less truth, metres; None where there is no truth because
            the image is of another place or shows nothing.
        rotation_error_3: Rotation vector about the map's axes from truth to estimate, radians.
        kind: What the image was: 'view', or how it was spoilt.
    """

    features: Float64Array
    raw_covariance_66: Float64Array
    translation_error_3: Float64Array | None
    rotation_error_3: Float64Array | None
    kind: str = 'view'

    def is_within(self, bound_m: float, bound_deg: float) -> bool:
        """Whether the answer is good; that of an image without truth is not."""
        if self.translation_error_3 is None or self.rotation_error_3 is None:
            return False
        return bool(np.linalg.norm(self.translation_error_3) <= bound_m
                    and np.degrees(np.linalg.norm(self.rotation_error_3)) <= bound_deg)


@dataclass(frozen=True, eq=False)
class FittedCalibration:
    """What the buffers of `network.calibration.Calibration` are set to, and the threshold."""

    mean_f: Float64Array
    scale_f: Float64Array
    confidence_weights_g: Float64Array
    log_scale_2: Float64Array
    min_confidence: float

    def store_in(self, calibration: Calibration | torch.jit.ScriptModule) -> None:
        """Set the buffers, those of a loaded model file as well."""
        with torch.no_grad():
            for name in ('mean_f', 'scale_f', 'confidence_weights_g', 'log_scale_2'):
                getattr(calibration, name).copy_(torch.from_numpy(getattr(self, name)))
            calibration.is_fitted.fill_(True)


def fit_calibration(samples: Sequence[Sample], bound_m: float, bound_deg: float,
                    false_accept_rate: float) -> FittedCalibration:
    """Fit probability, threshold and covariance.

    The log odds of being within the bounds are linear in the features (logistic regression, all
    samples). The covariance has one scale for position and one for rotation: those that bring the
    shares of the errors of good answers to unspoilt views within 1, 2 and 3 sigma as near as
    they can to 68.3, 95.4 and 99.7 %. No likelihood is asked: errors have heavier tails than a
    Gaussian, which it would pay for with too wide a middle.

    Args:
        samples: Of views with known poses, and of images that cannot be answered rightly.
        bound_m, bound_deg: What a good answer is.
        false_accept_rate: How large a share of bad answers may pass the threshold.

    Raises:
        CalibrationError: too few good or too few bad answers.
    """
    good = np.array([sample.is_within(bound_m, bound_deg) for sample in samples], bool)
    if good.sum() < _FEWEST_SAMPLES or (~good).sum() < _FEWEST_SAMPLES:
        raise CalibrationError(
            f'{int(good.sum())} answers are within {bound_m:g} m / {bound_deg:g} deg and '
            f'{int((~good).sum())} are not; at least {_FEWEST_SAMPLES} of both are needed: give '
            f'more frames that were not learned, a wider --bound, or images of other places')
    features = np.array([sample.features for sample in samples])
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-3)
    z = np.clip((features - mean) / scale, -MOST_Z, MOST_Z)  # as the model does
    confidence = _fit_logistic(z, good)
    probability = expit(confidence[0] + z @ confidence[1:])
    is_ordinary = good & np.array([sample.kind == 'view' for sample in samples], bool)
    if not is_ordinary.any():
        is_ordinary = good
    views = [sample for sample, chosen in zip(samples, is_ordinary, strict=True) if chosen]
    log_scale_2 = np.array([_fit_scale(views, slice(0, 3), 'translation_error_3'),
                            _fit_scale(views, slice(3, 6), 'rotation_error_3')])
    return FittedCalibration(mean, scale, confidence, log_scale_2, choose_threshold(
        probability[is_ordinary], probability[~good], false_accept_rate))


def choose_threshold(ordinary: Float64Array, bad: Float64Array,
                     false_accept_rate: float) -> float:
    """A threshold of confidence between the bad answers and the good ones to ordinary views.

    The least that may be is the probability, at least one half, that so few bad answers pass;
    the most is what 95 % of the ordinary views exceed. In the middle (of log odds) neither has to
    be just like those seen: places that nobody asked about look like this one in their own ways.
    Where the good ones leave no such room, the bad ones decide.

    Args:
        ordinary: Confidence of good answers to unspoilt views.
        bad: Of bad answers.
        false_accept_rate: How large a share of the bad ones may pass.
    """
    may_pass = int(np.floor(false_accept_rate * len(bad)))
    edge = max(0.5, float(np.sort(bad)[-(may_pass + 1)]))
    exceeded = float(np.quantile(ordinary, _LOST_ORDINARY_SHARE))
    if exceeded <= edge:
        return min(edge + 1e-6, 1.0)
    return float(expit(0.5 * (_log_odds(edge) + _log_odds(exceeded))))


def _fit_logistic(z: Float64Array, good: NDArray[np.bool_]) -> Float64Array:
    """Bias and weights."""
    sign = np.where(good, 1.0, -1.0)

    def loss(parameters: Float64Array) -> tuple[float, Float64Array]:
        margin = sign * (parameters[0] + z @ parameters[1:])
        slope = -sign * expit(-margin)
        gradient = np.concatenate([[slope.sum()], z.T @ slope + _RIDGE * parameters[1:]])
        value = np.logaddexp(0.0, -margin).sum() + 0.5 * _RIDGE * np.square(parameters[1:]).sum()
        return float(value), gradient

    return np.asarray(minimize(loss, np.zeros(z.shape[1] + 1), jac=True, method='L-BFGS-B').x)


def _fit_scale(views: Sequence[Sample], part: slice, errors: str) -> float:
    """Log of what to multiply standard deviations with for the best shares within k sigma."""
    normalised = measure_coverage(
        np.array([getattr(sample, errors) for sample in views]),
        np.array([sample.raw_covariance_66[part, part] for sample in views])).compared
    middle = np.log(max(float(np.median(normalised)), 1e-6))
    offsets = middle + np.linspace(-3.0, 3.0, 601)
    cost = np.zeros_like(offsets)
    for sigma, tolerance in zip(SIGMAS, _COVERAGE_TOLERANCES, strict=True):
        limits = limit_of(sigma, 3) * np.exp(offsets)
        shares = (normalised[:, None] <= limits).mean(axis=0)
        cost += ((shares - share_of(sigma)) / tolerance)**2
    # The middle of those that are equally good.
    return float(offsets[cost <= cost.min() + 1e-9].mean())


def _log_odds(probability: float) -> float:
    return float(logit(np.clip(probability, 1e-9, 1.0 - 1e-9)))
