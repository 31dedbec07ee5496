# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a calibration makes of an answer, how it is fitted, and how it holds on other answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from implicit_relocalizer.evaluation.calibration_fit import (
    CalibrationError,
    FittedCalibration,
    Sample,
    choose_threshold,
    fit_calibration,
)
from implicit_relocalizer.evaluation.calibration_measures import (
    expected_calibration_error,
    join,
    judge,
    measure_verdicts,
    reliability,
)
from implicit_relocalizer.network.calibration import (
    FEATURES,
    MOST_Z,
    UNCALIBRATED_SCALE,
    Calibration,
    answer_features,
    start_anew,
)

BOUND_M, BOUND_DEG = 0.25, 5.0
F = len(FEATURES)


def fitted(confidence=0.0, position=1.0, rotation=1.0, feature=0, slope=0.0) -> Calibration:
    """A calibration: log odds, their slope over one feature, and the scales."""
    weights = np.r_[confidence, np.zeros(F)]
    weights[1 + feature] = slope
    calibration = Calibration()
    FittedCalibration(np.zeros(F), np.ones(F), weights, np.log([position, rotation]),
                      min_confidence=0.5).store_in(calibration)
    return calibration


def measure(fit: FittedCalibration, samples: list[Sample]) -> dict:
    calibration = Calibration()
    fit.store_in(calibration)
    return measure_verdicts(samples, judge(calibration, samples, fit.min_confidence), BOUND_M,
                            BOUND_DEG)


def answer(**changes) -> dict:
    """Twenty points seen without error, two metres ahead of a camera in the origin."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(20, 3, generator=generator) * 2.0 + torch.tensor([-1.0, -1.0, 2.0])
    values = {
        'R_world_camera_33': torch.eye(3), 't_world_camera_3': torch.zeros(3),
        'points_world_n3': points, 'points_camera_n3': points, 'weights_n': torch.ones(20),
        'pixels_n2': 100.0 * torch.rand(20, 2, generator=generator),
        'squared_errors_n': torch.full((20,), 1.0), 'inlier_px': 5.0, 'input_width': 100.0,
        'position_covariance_33': 1e-4 * torch.eye(3, dtype=torch.float64),
        'agreement': torch.tensor(0.5),
        'outside_m': torch.zeros((), dtype=torch.float64)}
    return {**values, **changes}


def features_of(**changes) -> dict[str, float]:
    return dict(zip(FEATURES, answer_features(**answer(**changes)).tolist(), strict=True))


def test_before_it_is_fitted_the_raw_confidence_stays_and_the_covariance_is_widened():
    calibration = torch.jit.script(Calibration())
    raw = torch.diag(torch.arange(1.0, 7.0, dtype=torch.float64))
    confidence, covariance = calibration(torch.ones(F, dtype=torch.float64), torch.tensor(0.37),
                                         raw)
    assert float(confidence) == pytest.approx(0.37)
    torch.testing.assert_close(covariance, UNCALIBRATED_SCALE**2 * raw)
    assert float(calibration.outside_m(torch.tensor([5.0, 0.0, 0.0]).double())) == 0.0


def test_a_fitted_one_gives_a_probability_and_scales_with_correlations_kept():
    calibration = torch.jit.script(
        fitted(confidence=2.0, position=3.0, rotation=0.5, feature=2, slope=0.5))
    A = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double()
    raw = A @ A.T
    features = torch.zeros(F, dtype=torch.float64)
    features[2] = 1.0
    confidence, covariance = calibration(features, torch.tensor(0.1), raw)
    assert float(confidence) == pytest.approx(expit(2.5))
    scale = np.r_[np.full(3, 3.0), np.full(3, 0.5)]
    np.testing.assert_allclose(covariance, raw * np.outer(scale, scale))
    # What lies beyond all that was seen counts as its edge.
    features[2] = 100.0
    edge = calibration(features, torch.tensor(0.1), raw)[0]
    assert float(edge) == pytest.approx(expit(2.0 + 0.5 * MOST_Z))


def test_starting_anew_forgets_what_was_fitted():
    calibration = fitted(position=7.0)
    start_anew(calibration, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    raw = torch.eye(6, dtype=torch.float64)
    confidence, covariance = calibration(torch.ones(F, dtype=torch.float64), torch.tensor(0.37),
                                         raw)
    assert float(confidence) == pytest.approx(0.37)
    torch.testing.assert_close(covariance, UNCALIBRATED_SCALE**2 * raw)


def test_outside_is_the_distance_from_the_box():
    calibration = Calibration()
    start_anew(calibration, (0.0, 0.0, 0.0), (1.0, 2.0, 3.0))
    for position, expected in (((0.5, 1.0, 3.0), 0.0), ((-3.0, 1.0, 7.0), 5.0)):
        assert float(calibration.outside_m(torch.tensor(position).double())) == expected


def test_features_say_what_they_are_named_after():
    good = features_of()
    assert good['share'] == pytest.approx(np.log(0.999 / 0.001))
    assert good['count'] == pytest.approx(np.log(21.0))
    assert good['deviation'] == pytest.approx(np.log(0.01))
    assert good['residual'] == pytest.approx(np.log(0.2))
    assert good['depth'] == pytest.approx(np.log(1e-4))
    assert good['agreement'] == good['outside'] == 0.0
    assert features_of(agreement=torch.tensor(0.9))['agreement'] == pytest.approx(np.log(9.0))
    errors = torch.full((20,), 1.0)
    errors[:15] = 50.0
    few = features_of(squared_errors_n=errors.square())
    assert few['share'] == pytest.approx(np.log(1.0 / 3.0))
    assert few['count'] == pytest.approx(np.log(6.0))
    none = features_of(squared_errors_n=torch.full((20,), 2500.0))
    assert none['share'] == pytest.approx(np.log(0.001 / 0.999)) and none['count'] == 0.0
    line = torch.stack([torch.linspace(0.0, 99.0, 20), torch.full((20,), 40.0)], dim=1)
    assert features_of(pixels_n2=line)['spread'] == pytest.approx(0.5 * np.log(1e-8))
    corners = torch.tensor([[0.0, 0.0], [0.0, 50.0], [100.0, 0.0], [100.0, 50.0]]).repeat(5, 1)
    assert features_of(pixels_n2=corners)['spread'] == pytest.approx(np.log(0.25))
    camera = 1.1 * answer()['points_camera_n3']
    assert features_of(points_camera_n3=camera)['depth'] == pytest.approx(np.log(0.1 / 1.1))
    assert features_of(outside_m=torch.tensor(3.0).double())['outside'] == pytest.approx(
        np.log(4.0))


@pytest.mark.parametrize('broken', [
    {'weights_n': torch.zeros(20)}, {'squared_errors_n': torch.full((20,), 1e30)},
    {'points_camera_n3': torch.full((20, 3), torch.nan)},
    {'position_covariance_33': torch.full((3, 3), torch.inf, dtype=torch.float64)}])
def test_features_of_nonsense_are_finite_and_make_no_one_sure(broken):
    values = answer_features(**answer(**broken))
    assert values.isfinite().all() and (values.abs() < 25.0).all()


def test_features_are_the_same_scripted():
    eager = answer_features(**answer())
    scripted = torch.jit.script(answer_features)(**answer())
    torch.testing.assert_close(scripted, eager)


def draw_samples(count: int, seed: int, tails: float = 30.0) -> list[Sample]:
    """Answers that a calibration can describe: share tells good from bad, errors are twice and
    half of what the raw covariance, different from answer to answer, says of them."""
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        features = rng.normal(size=F)
        is_good = rng.uniform() < expit(1.0 + 3.0 * features[0])
        A = rng.normal(size=(6, 6)) * np.r_[np.full(3, 4e-3), np.full(3, 1e-3)][:, None]
        raw = np.exp(rng.normal()) * (A @ A.T)
        error = np.r_[np.full(3, 2.0), np.full(3, 0.5)] * (
            np.linalg.cholesky(raw) @ rng.standard_t(tails, 6))
        if not is_good:
            error[:3] += 2.0
        samples.append(Sample(features, raw, error[:3], error[3:]))
    return samples


def test_a_fit_holds_on_other_answers_of_the_same_kind():
    fit = fit_calibration(draw_samples(600, seed=0), BOUND_M, BOUND_DEG, 0.02)
    # Of the drawn: log odds 1 + 3 share (features of unit scale).
    assert fit.confidence_weights_g[:2] == pytest.approx([1.0, 3.0], rel=0.35)
    np.testing.assert_allclose(np.exp(fit.log_scale_2), [2.0, 0.5], rtol=0.1)
    measured = measure(fit, draw_samples(2000, seed=1))
    assert measured['expected_calibration_error'] < 0.05
    assert measured['bad_accepted'] < 0.04
    assert measured['good_accepted'] > 0.4
    for part in ('position', 'rotation'):
        within = measured[part]['within']
        # Accepted bad answers, a few of a hundred, are outside whatever the covariance.
        assert within['1_sigma'] == pytest.approx(0.683, abs=0.04)
        assert within['2_sigma'] == pytest.approx(0.954, abs=0.04)


def test_heavy_tails_do_not_widen_the_middle():
    fit = fit_calibration(draw_samples(800, seed=2, tails=2.5), BOUND_M, BOUND_DEG, 0.02)
    within = measure(fit, draw_samples(2000, seed=3, tails=2.5))['position']['within']
    assert within['1_sigma'] < 0.78
    assert within['2_sigma'] > 0.88


def test_spoilt_and_virtual_views_have_no_say_in_the_scale():
    samples = draw_samples(300, seed=6)
    spoilt = [Sample(s.features, 1e-4 * s.raw_covariance_66, s.translation_error_3,
                     s.rotation_error_3, kind)
              for s, kind in zip(samples, 150 * ['virtual', 'dark'], strict=True)]
    alone = fit_calibration(samples, BOUND_M, BOUND_DEG, 0.02)
    together = fit_calibration(samples + spoilt, BOUND_M, BOUND_DEG, 0.02)
    np.testing.assert_array_equal(together.log_scale_2, alone.log_scale_2)


def test_verdicts_of_several_calibrations_are_those_of_each():
    samples = draw_samples(40, seed=7)
    parts = [judge(fitted(confidence=c, position=p), part, 0.6)
             for c, p, part in ((2.0, 1.0, samples[:10]), (-2.0, 3.0, samples[10:]))]
    together = join(parts)
    assert together.accepted_n.tolist() == 10 * [True] + 30 * [False]
    np.testing.assert_allclose(together.covariance_n66[10, 0, 0],
                               9.0 * samples[10].raw_covariance_66[0, 0])


def test_too_little_to_fit_on_is_told():
    only_good = [sample for sample in draw_samples(200, seed=4)
                 if sample.is_within(BOUND_M, BOUND_DEG)]
    with pytest.raises(CalibrationError, match=r'and 0 are not; at least 20 of both .* other '
                                               'places'):
        fit_calibration(only_good, BOUND_M, BOUND_DEG, 0.01)


def test_a_threshold_lies_between_the_bad_answers_and_the_ordinary_good_ones():
    ordinary, bad = np.linspace(0.95, 0.999, 101), np.linspace(0.0, 0.8, 101)
    threshold = choose_threshold(ordinary, bad, 0.0)
    middle = 0.5 * (np.log(0.8 / 0.2) + np.log(0.95245 / 0.04755))  # 95 % exceed 0.95245
    assert threshold == pytest.approx(expit(middle), abs=1e-6)
    assert 0.5 < choose_threshold(ordinary, bad / 100.0, 0.0) < 0.95


def test_where_there_is_no_room_the_bad_answers_decide():
    bad = np.linspace(0.0, 0.8, 101)
    threshold = choose_threshold(np.linspace(0.5, 0.9, 101), bad, 0.05)
    assert (bad >= threshold).sum() == 5
    assert choose_threshold(np.full(3, 0.6), bad, 0.0) > 0.8


def test_the_calibration_error_is_the_distance_from_the_truth():
    rng = np.random.default_rng(5)
    confidence = rng.uniform(size=20000)
    honest = rng.uniform(size=20000) < confidence
    assert expected_calibration_error(confidence, honest) < 0.02
    assert expected_calibration_error(confidence, rng.uniform(size=20000) < confidence**3) > 0.2
    assert expected_calibration_error(np.empty(0), np.empty(0, bool)) is None


def test_answers_of_one_confidence_count_alike_whatever_their_order():
    good = np.repeat([True, False], 50)
    assert expected_calibration_error(np.full(100, 0.5), good) == 0.0
    assert {share for _, share, _ in reliability(np.full(100, 0.5), good)} == {0.5}
