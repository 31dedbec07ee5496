# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""How a calibration holds on answers that it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from implicit_relocalizer.evaluation.calibration_fit import Sample
from implicit_relocalizer.evaluation.coverage import measure_coverage
from implicit_relocalizer.network.calibration import Calibration

Float64Array = NDArray[np.float64]
_BINS = 10


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What a calibration says of n answers.

    Attributes:
        confidence_n: Probability that an answer is good.
        covariance_n66: Of x y z (metres) and the rotation about the world's axes (radians).
        accepted_n: Whether the confidence is that of the threshold.
    """

    confidence_n: Float64Array
    covariance_n66: Float64Array
    accepted_n: NDArray[np.bool_]


@torch.no_grad()
def judge(calibration: Calibration | torch.jit.ScriptModule, samples: Sequence[Sample],
          min_confidence: float) -> Verdicts:
    """Ask a calibration, on the CPU, about answers."""
    told = [calibration(torch.from_numpy(sample.features), torch.zeros((), dtype=torch.float64),
                        torch.from_numpy(sample.raw_covariance_66)) for sample in samples]
    confidence_n = np.array([float(confidence) for confidence, _ in told])
    return Verdicts(
        confidence_n, np.array([covariance.numpy() for _, covariance in told]).reshape(-1, 6, 6),
        confidence_n >= min_confidence)


def join(verdicts: Sequence[Verdicts]) -> Verdicts:
    """Those of several calibrations as one, in their order."""
    return Verdicts(*(np.concatenate([getattr(part, name) for part in verdicts])
                      for name in ('confidence_n', 'covariance_n66', 'accepted_n')))


def measure_verdicts(samples: Sequence[Sample], verdicts: Verdicts, bound_m: float,
                     bound_deg: float) -> dict[str, Any]:
    """Coverage, expected calibration error and acceptance, as JSON values.

    `position` and `rotation` hold the coverage of accepted views (see `coverage.Coverage`).
    `reliability` lists mean confidence, share of good answers and count by equally filled
    bins. `accepted` tells by kind of image how many answers were accepted, and how many there are.
    """
    good_n = np.array([sample.is_within(bound_m, bound_deg) for sample in samples], bool)
    accepted_n, kinds = verdicts.accepted_n, np.array([sample.kind for sample in samples])
    chosen = [i for i in range(len(samples)) if accepted_n[i] and kinds[i] == 'view']
    result: dict[str, Any] = {
        'answers': len(samples), 'good_answers': int(good_n.sum()),
        'good_accepted': _share(accepted_n[good_n]), 'bad_accepted': _share(accepted_n[~good_n]),
        'accepted': {str(kind): [int(accepted_n[kinds == kind].sum()), int((kinds == kind).sum())]
                     for kind in np.unique(kinds)},
        'expected_calibration_error': expected_calibration_error(verdicts.confidence_n, good_n),
        'reliability': reliability(verdicts.confidence_n, good_n)}
    for name, part, errors in (
            ('position', slice(0, 3), [samples[i].translation_error_3 for i in chosen]),
            ('rotation', slice(3, 6), [samples[i].rotation_error_3 for i in chosen])):
        result[name] = measure_coverage(
            np.array(errors, np.float64).reshape(-1, 3),
            verdicts.covariance_n66[chosen][:, part, part].reshape(-1, 3, 3)).to_dict()
    return result


def expected_calibration_error(confidence_n: Float64Array,
                               good_n: NDArray[np.bool_]) -> float | None:
    """Mean distance of confidence and share of good answers over `reliability`'s bins.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, with bins of equal counts
    because most answers are sure.
    """
    if not len(confidence_n):
        return None
    bins = reliability(confidence_n, good_n)
    return sum(count * abs(told - true) for told, true, count in bins) / len(confidence_n)


def reliability(confidence_n: Float64Array,
                good_n: NDArray[np.bool_]) -> list[tuple[float, float, int]]:
    """Mean confidence, share of good answers and count in bins of equal counts, ascending.

    Answers of one and the same confidence count alike, whichever bin they fall into: their order
    means nothing.
    """
    if not len(confidence_n):
        return []
    _, level_n, counts = np.unique(confidence_n, return_inverse=True, return_counts=True)
    share_n = (np.bincount(level_n, good_n) / counts)[level_n]
    parts = np.array_split(np.argsort(confidence_n, kind='stable'), min(_BINS, len(confidence_n)))
    return [(float(confidence_n[part].mean()), float(share_n[part].mean()), len(part))
            for part in parts]


def _share(which: NDArray[np.bool_]) -> float | None:
    return float(which.mean()) if len(which) else None
