# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Whether covariances say what errors there are: shares within 1, 2 and 3 sigma."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation
from scipy.special import chdtr, chdtri, ndtr

from implicit_relocalizer.evaluation.metrics import Float64Array

SIGMAS = (1, 2, 3)
# Of the normalised error; what is larger than the last one is counted by itself.
HISTOGRAM_EDGES = np.arange(0.0, 6.01, 0.25)

VALID = 'valid'
NOT_FINITE = 'not_finite'
ZERO = 'zero'
NOT_SYMMETRIC = 'not_symmetric'
NOT_POSITIVE_DEFINITE = 'not_positive_definite'
KINDS = (VALID, ZERO, NOT_SYMMETRIC, NOT_POSITIVE_DEFINITE, NOT_FINITE)

_SYMMETRY_TOLERANCE = 1e-6  # of the largest entry
_LEAST_EIGENVALUE = 1e-12  # of the largest, after scaling to unit variances


@dataclass(frozen=True, eq=False)
class Coverage:
    """How errors compare with the covariances that were stated for them.

    Attributes:
        kinds: (n,) of `KINDS`; only those of valid covariances are compared.
        normalised_n: sqrt(e^T C^-1 e) of each error e with its covariance C; NaN where C is not
            valid.
        degrees_of_freedom: Of one error.
    """

    kinds: NDArray[np.str_]
    normalised_n: Float64Array
    degrees_of_freedom: int

    @property
    def compared(self) -> Float64Array:
        """The normalised errors of the valid covariances."""
        return self.normalised_n[self.kinds == VALID]

    def within(self, sigma: float) -> float | None:
        """Share of the compared errors within the ellipsoid of so many sigma; None without any.

        Like one variable's interval of so many standard deviations, the ellipsoid holds 68.3,
        95.4 or 99.7 % of the errors where the covariance is true.
        """
        if not len(self.compared):
            return None
        return float((self.compared <= limit_of(sigma, self.degrees_of_freedom)).mean())

    def to_dict(self) -> dict[str, Any]:
        """Counts by kind, shares within and expected, histogram; JSON values."""
        compared = self.compared
        counts, edges = np.histogram(compared, HISTOGRAM_EDGES)
        expected = np.diff(chdtr(self.degrees_of_freedom, edges ** 2))
        return {
            'estimates': len(self.kinds), 'compared': len(compared),
            'kinds': count_kinds(self.kinds),
            'within': {f'{sigma}_sigma': self.within(sigma) for sigma in SIGMAS},
            'expected': {f'{sigma}_sigma': share_of(sigma) for sigma in SIGMAS},
            'median_normalised_error': float(np.median(compared)) if len(compared) else None,
            'expected_median_normalised_error': float(
                np.sqrt(chdtri(self.degrees_of_freedom, 0.5))),
            'histogram': {'edges': edges.tolist(), 'counts': counts.tolist(),
                          'beyond': int((compared > edges[-1]).sum()),
                          'expected_shares': expected.tolist()}}


def measure_coverage(errors_nk: ArrayLike, covariance_nkk: ArrayLike) -> Coverage:
    """Compare errors with the covariances stated for them.

    Args:
        errors_nk: (n, k) errors, the truth to the estimate or the reverse.
        covariance_nkk: (n, k, k), of the same quantities in the same order.

    Raises:
        ValueError: the shapes do not go together, or an error is not finite.
    """
    errors = np.asarray(errors_nk, np.float64)
    covariance = np.asarray(covariance_nkk, np.float64)
    if errors.ndim != 2 or covariance.shape != (*errors.shape, errors.shape[1]):
        raise ValueError(f'errors of shape {errors.shape} and covariances of shape '
                         f'{covariance.shape}; expected (n, k) and (n, k, k)')
    if not np.isfinite(errors).all():
        raise ValueError('an error holds NaN or infinity; leave unanswered frames out')
    kinds = classify_covariances(covariance)
    normalised = np.full(len(errors), np.nan)
    valid = kinds == VALID
    if valid.any():
        solved = np.linalg.solve(covariance[valid], errors[valid][..., None])[..., 0]
        normalised[valid] = np.sqrt((errors[valid] * solved).sum(axis=1))
    return Coverage(kinds, normalised, errors.shape[1])


def classify_covariances(covariance_nkk: ArrayLike) -> NDArray[np.str_]:
    """What kind of matrix each of n covariances is: (n,) of `KINDS`.

    Definiteness is judged after scaling to unit variances, so that metres and radians may mix.
    """
    covariance = np.asarray(covariance_nkk, np.float64)
    return np.array([_kind(matrix) for matrix in covariance], dtype='<U21')


def count_kinds(kinds: NDArray[np.str_]) -> dict[str, int]:
    """How many there are of each kind."""
    return {kind: int((kinds == kind).sum()) for kind in KINDS}


def rotation_errors(R_map_true_n33: ArrayLike, R_map_n33: ArrayLike) -> Float64Array:
    """Rotation vectors (n, 3) about the map's fixed axes that turn the truth into the estimate.

    log(R_map R_map_true^T), radians: the quantity whose covariance REP-103 poses state.
    """
    true_n33 = np.asarray(R_map_true_n33, np.float64).reshape(-1, 3, 3)
    estimate_n33 = np.asarray(R_map_n33, np.float64).reshape(-1, 3, 3)
    if not len(true_n33):
        return np.empty((0, 3))
    difference = Rotation.from_matrix(estimate_n33) * Rotation.from_matrix(true_n33).inv()
    return np.asarray(difference.as_rotvec())


def share_of(sigma: float) -> float:
    """Share of a normal variable within so many standard deviations of its mean."""
    return float(ndtr(sigma) - ndtr(-sigma))


def limit_of(sigma: float, degrees_of_freedom: int) -> float:
    """The normalised error that `share_of(sigma)` of all true ones stay within."""
    return float(np.sqrt(chdtri(degrees_of_freedom, 1.0 - share_of(sigma))))


def _kind(matrix_kk: Float64Array) -> str:
    if not np.isfinite(matrix_kk).all():
        return NOT_FINITE
    largest = np.abs(matrix_kk).max()
    if largest == 0.0:
        return ZERO
    if np.abs(matrix_kk - matrix_kk.T).max() > _SYMMETRY_TOLERANCE * largest:
        return NOT_SYMMETRIC
    variances = np.diag(matrix_kk)
    if (variances <= 0.0).any():
        return NOT_POSITIVE_DEFINITE
    scale = 1.0 / np.sqrt(variances)
    eigenvalues = np.linalg.eigvalsh(scale[:, None] * matrix_kk * scale)
    return (VALID if eigenvalues[0] > _LEAST_EIGENVALUE * eigenvalues[-1]
            else NOT_POSITIVE_DEFINITE)
