# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""When a pose may leave, and when the robot counts as lost: decisions without ROS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from implicit_relocalizer.localization import supervision
from implicit_relocalizer.localization.agreement import (
    AgreementLimits,
    Fix,
    compare_fixes,
    invert,
)
from implicit_relocalizer.localization.belief import Belief, Cause, Mode, Rules, State
from implicit_relocalizer.localization.estimate import (
    MappedBounds,
    PoseEstimate,
    check_inside_map,
    least_confidence,
)
from implicit_relocalizer.localization.frames import (
    map_from_odometry,
    move_covariance,
    widen_covariance,
)
from implicit_relocalizer.localization.rejection import NoPoseError, Reason

RULES = Rules()
REFUSED = NoPoseError(Reason.CONFIDENCE, 'too dark')
PERIOD_S = 0.1


def transform(x_m: float = 0.0, yaw_deg: float = 0.0, y_m: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler('z', yaw_deg, degrees=True).as_matrix()
    T[:2, 3] = x_m, y_m
    return T


def fix(time_s: float, T_map_camera: np.ndarray, T_odom_camera: np.ndarray | None = None) -> Fix:
    estimate = PoseEstimate(T_map_camera[:3, :3], T_map_camera[:3, 3], np.eye(6) * 1e-4, 0.8, 0.6)
    return Fix(round(time_s * 1e9), estimate, T_odom_camera)


class Run:
    """A belief through time, with everything that was decided."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.now_s = 100.0
        self.decisions = [supervision.activate(rules, self.now_s)]

    @property
    def belief(self) -> Belief:
        return self.decisions[-1].belief

    def see(self, T_map_camera: np.ndarray | None, T_odom_camera: np.ndarray | None = None,
            after_s: float = PERIOD_S) -> bool:
        """One image, answered with a pose or refused; whether a pose left."""
        self.wait(after_s)
        self.decisions.append(supervision.hear_image(self.belief, self.now_s))
        if T_map_camera is None:
            decision = supervision.observe_refusal(self.rules, self.belief, REFUSED)
        else:
            decision = supervision.observe_fix(
                self.rules, self.belief, fix(self.now_s, T_map_camera, T_odom_camera), self.now_s)
        self.decisions.append(decision)
        return decision.accepted is not None

    def wait(self, duration_s: float, tick_s: float = 0.05) -> None:
        """Let time pass as the node's timer does."""
        end_s = self.now_s + duration_s
        while self.now_s < end_s - 1e-9:
            self.now_s = min(end_s, self.now_s + tick_s)
            self.decisions.append(
                supervision.pass_time(self.rules, self.belief, self.now_s))

    def request(self) -> None:
        self.decisions.append(supervision.request(self.rules, self.belief, self.now_s))

    @property
    def story(self) -> list[tuple[State, Cause]]:
        return [(transition.after, transition.cause) for decision in self.decisions
                for transition in decision.transitions]

    @property
    def answers(self) -> list[tuple[bool, str]]:
        return [(d.answer.success, d.answer.text) for d in self.decisions if d.answer]


def test_nothing_leaves_before_enough_fixes_agree():
    run = Run()
    assert [run.see(transform(1.0 + 0.01 * i)) for i in range(5)] == [
        False, False, True, True, True]
    assert run.story == [(State.SEARCHING, Cause.ACTIVATED), (State.LOCALIZED, Cause.AGREED)]
    refusals = [d.refusal.reason for d in run.decisions if d.refusal]
    assert refusals == [Reason.DISAGREE] * 2


def test_odometry_is_taken_out_before_fixes_are_compared():
    # A robot that drives in a curve, 3 m and 45 degrees between images; odom has another origin.
    T_map_odom = transform(50.0, 130.0, -7.0)
    driven = [transform(3.0 * i, 45.0 * i, 1.0) for i in range(4)]
    truth = [T_map_odom @ T for T in driven]
    assert [Run().see(T, None) for T in truth] == [False] * 4
    with_odometry, without = Run(), Run()
    assert [with_odometry.see(T, T_odom) for T, T_odom in zip(truth, driven, strict=True)] == [
        False, False, True, True]
    assert [without.see(T) for T in truth] == [False] * 4


def test_odometry_may_drift_by_its_share_of_the_way_and_no_more():
    limits = AgreementLimits(translation_m=0.1, rotation_deg=1.0, odometry_drift=0.05)
    for error_m, agrees in ((0.55, True), (0.65, False)):  # 0.1 + 5 % of 10 m is 0.6
        earlier = fix(0.0, transform(0.0), transform(0.0))
        later = fix(5.0, transform(10.0 + error_m), transform(10.0))
        assert compare_fixes(earlier, later, limits).is_agreement is agrees
    turned = compare_fixes(fix(0.0, transform(), transform()),
                           fix(1.0, transform(0.0, 97.0), transform(0.0, 90.0)), limits)
    assert turned.rotation_deg == pytest.approx(7.0)
    assert turned.allowed_rotation_deg == pytest.approx(1.0 + 0.05 * 90.0)
    assert not turned.is_agreement


@pytest.mark.parametrize(('speed_mps', 'agrees'), [(0.0, False), (1.0, False), (2.0, True)])
def test_without_odometry_the_camera_may_move_as_fast_as_it_is_said_to(speed_mps, agrees):
    limits = AgreementLimits(max_linear_speed_mps=speed_mps)
    assert compare_fixes(fix(0.0, transform(0.0)), fix(0.5, transform(1.2)),
                         limits).is_agreement is agrees


def test_look_alike_places_that_take_turns_convince_nobody():
    run = Run()
    assert not any(run.see(transform(20.0 * (i % 2))) for i in range(40))
    assert run.belief.state is State.SEARCHING


def test_one_wrong_answer_among_right_ones_delays_but_does_not_mislead():
    run = Run()
    left = [run.see(transform(30.0 if i == 1 else 1.0)) for i in range(5)]
    assert left == [False, False, False, True, True]
    assert run.belief.accepted.T_map_camera[0, 3] == 1.0


def test_fixes_of_long_ago_do_not_count():
    run = Run()
    assert not any(run.see(transform(1.0), after_s=1.5) for _ in range(6))
    slow = Run(replace(RULES, consensus_window_s=4.0))
    assert [slow.see(transform(1.0), after_s=1.5) for _ in range(3)] == [False, False, True]


def test_a_single_fix_is_enough_where_one_is_asked_for():
    run = Run(replace(RULES, consensus_fixes=1))
    assert [run.see(transform(x)) for x in (0.0, 50.0, -50.0)] == [True, True, True]
    assert run.story[-1] == (State.LOCALIZED, Cause.AGREED) and len(run.story) == 2


def test_start_up_looks_until_it_knows_and_then_no_more():
    run = Run(replace(RULES, mode=Mode.STARTUP))
    assert run.belief.wants_images(run.rules)
    assert [run.see(transform()) for _ in range(3)][-1]
    assert run.decisions[-1].announces and not run.belief.wants_images(run.rules)
    assert not run.see(transform()) and not run.see(transform(9.0))
    run.wait(60.0)
    assert run.belief.state is State.LOCALIZED  # silence is what it asked for


def test_a_covered_lens_is_a_loss_within_a_second_and_found_again():
    run = Run()
    while not run.see(transform()):
        pass
    covered_s = run.now_s
    while run.belief.state is State.LOCALIZED:
        run.see(None)
    assert run.now_s - covered_s <= 1.0
    assert run.story[-1] == (State.LOST, Cause.NO_FIX)
    assert 'confidence_low: too dark' in str(run.decisions[-1].belief.last_refusal and
                                             [str(t) for d in run.decisions
                                              for t in d.transitions][-1])
    assert [run.see(transform()) for _ in range(3)] == [False, False, True]


def test_two_blurred_images_are_no_loss_however_slow_the_camera():
    run = Run()
    for _ in range(3):
        run.see(transform(), after_s=0.9)
    assert run.belief.state is State.LOCALIZED
    for _ in range(2):
        run.see(None, after_s=0.9)
    assert run.see(transform(), after_s=0.9)
    assert run.belief.state is State.LOCALIZED


def test_a_silent_camera_is_a_loss_by_its_own_pace():
    fast, slow = Run(), Run()
    for run, period_s in ((fast, 0.1), (slow, 0.6)):
        for _ in range(4):
            run.see(transform(), after_s=period_s)
        run.wait(1.0)
    assert fast.story[-1] == (State.LOST, Cause.NO_IMAGES)
    assert slow.belief.state is State.LOCALIZED
    slow.wait(2.5)
    assert slow.story[-1] == (State.LOST, Cause.NO_IMAGES)


def test_a_kidnapped_robot_is_lost_first_and_then_found():
    run = Run()
    here, there, odom = transform(0.0), transform(6.0, 90.0), transform(2.0)
    while not run.see(here, odom):
        pass
    taken_s = run.now_s
    left = [run.see(there, odom) for _ in range(4)]
    assert left == [False, False, False, True]
    assert run.story[-2:] == [(State.LOST, Cause.CONTRADICTED), (State.LOCALIZED, Cause.AGREED)]
    assert run.now_s - taken_s < 1.0
    assert [d.refusal.reason for d in run.decisions if d.refusal][-3:] == [Reason.CONTRADICTS] * 3


def test_an_outlier_while_tracking_is_refused_and_tracking_goes_on():
    run = Run()
    while not run.see(transform()):
        pass
    assert [run.see(transform(x)) for x in (0.05, 4.0, 0.1, 4.0, 0.15)] == [
        True, False, True, False, True]
    assert run.belief.state is State.LOCALIZED


def test_on_request_waits_searches_and_tells_how_it_went():
    run = Run(replace(RULES, mode=Mode.ON_REQUEST))
    assert run.story == [(State.LOST, Cause.WAITING)] and not run.see(transform())
    run.request()
    while not run.answers:
        run.see(None)
    assert run.story[1:] == [(State.SEARCHING, Cause.REQUESTED), (State.LOST, Cause.TIMEOUT)]
    success, text = run.answers[0]
    assert not success and text.startswith('request_timeout: no pose within 5 s')
    assert 'confidence_low: too dark' in text
    run.request()
    assert [run.see(transform()) for _ in range(3)] == [False, False, True]
    success, text = run.answers[1]
    assert success and 'confidence 0.80' in text and '3 of 3 fixes agree' in text
    assert not run.belief.wants_images(run.rules)


def test_who_asks_again_and_again_does_not_keep_the_first_one_waiting():
    run = Run()
    for _ in range(12):
        run.request()
        run.wait(0.5)
    assert [success for success, _ in run.answers] == [False]


def test_slow_answers_are_no_silence_of_the_camera():
    run = Run()
    while not run.see(transform()):
        pass
    for _ in range(20):  # images come, the model is at work for two seconds
        run.wait(0.1)
        run.decisions.append(supervision.hear_image(run.belief, run.now_s))
    assert run.belief.state is State.LOCALIZED


def test_a_request_forgets_what_was_known_and_a_failed_one_leaves_the_search_on():
    run = Run()
    while not run.see(transform()):
        pass
    run.request()
    assert run.belief.state is State.SEARCHING and run.belief.accepted is None
    run.wait(RULES.request_timeout_s + 0.2)
    assert [success for success, _ in run.answers] == [False]
    assert run.belief.state is State.SEARCHING
    assert [run.see(transform()) for _ in range(3)][-1] and len(run.answers) == 1


def test_a_jump_back_in_time_clears_everything_but_the_request():
    run = Run()
    run.request()
    run.see(transform())
    run.see(transform())
    run.decisions.append(supervision.jump_in_time(run.rules, run.belief, 'back', run.now_s))
    assert run.story[-1] == (State.SEARCHING, Cause.TIME_JUMP) and not run.belief.candidates
    run.now_s -= 50.0  # stamps of before; the caller's clock is another one, and may stay
    assert [run.see(transform()) for _ in range(3)] == [False, False, True]
    assert [success for success, _ in run.answers] == [True]


def test_deactivation_answers_a_request_and_ends_all_wishes():
    run = Run()
    run.request()
    run.decisions.append(supervision.deactivate(run.belief, run.now_s))
    assert run.answers == [(False, 'deactivated: activate the node first')]
    assert run.belief.state is State.UNCONFIGURED and not run.belief.wants_images(run.rules)
    assert not run.see(transform())
    run.request()
    assert run.answers[-1] == (False, 'not_active: activate the node first')


def test_a_recorded_run_replays_exactly():
    def drive() -> Run:
        run = Run()
        rng = np.random.default_rng(3)
        for i in range(300):
            odd = rng.random() < 0.2
            run.see(None if rng.random() < 0.1 else transform(9.0 if odd else 0.02 * i),
                    transform(0.02 * i))
        return run
    first, second = drive(), drive()
    assert first.story == second.story and len(first.story) >= 2
    assert [d.accepted is None for d in first.decisions] == [
        d.accepted is None for d in second.decisions]


def test_a_rotation_of_single_precision_becomes_exact():
    R = Rotation.from_euler('xyz', [0.3, -1.1, 2.0]).as_matrix().astype(np.float32)
    T = PoseEstimate(R.astype(np.float64), np.zeros(3), np.eye(6), 1.0, 1.0).T_map_camera
    assert np.abs(R.astype(np.float64) @ R.T - np.eye(3)).max() > 1e-9
    np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(T[:3, :3], R, atol=2e-7)


def test_map_to_odom_closes_the_chain():
    rng = np.random.default_rng(0)
    def any_transform() -> np.ndarray:
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
        return T
    T_map_camera, T_odom_camera = any_transform(), any_transform()
    T_map_odom = map_from_odometry(T_map_camera, T_odom_camera)
    np.testing.assert_allclose(T_map_odom @ T_odom_camera, T_map_camera, atol=1e-12)
    np.testing.assert_allclose(invert(T_map_odom) @ T_map_odom, np.eye(4), atol=1e-12)


def test_the_covariance_of_the_base_is_that_of_moved_samples():
    rng = np.random.default_rng(1)
    A = rng.normal(size=(6, 6)) * 1e-3
    covariance = A @ A.T
    T_map_camera = transform(3.0, 40.0, -2.0)
    T_camera_base = transform(-0.4, 15.0, 0.7)
    T_camera_base[2, 3] = -1.2
    base = []
    for error in rng.multivariate_normal(np.zeros(6), covariance, size=40000):
        T = T_map_camera.copy()
        T[:3, :3] = Rotation.from_rotvec(error[3:]).as_matrix() @ T[:3, :3]
        T[:3, 3] += error[:3]
        base.append((T @ T_camera_base)[:3, 3])
    moved = move_covariance(covariance, T_map_camera, T_camera_base)
    np.testing.assert_allclose(np.cov(np.transpose(base)), moved[:3, :3],
                               atol=0.03 * moved[:3, :3].max())
    np.testing.assert_allclose(moved[3:, 3:], covariance[3:, 3:], atol=1e-15)


def test_widening_leaves_no_variance_too_small_and_stays_positive_definite():
    covariance = np.diag([0.04, 1e-6, 1e-6, 1e-8, 1e-8, 0.1])
    covariance[0, 1] = covariance[1, 0] = 1e-4
    wide = widen_covariance(covariance, 0.1, 0.05)
    np.testing.assert_allclose(np.diag(wide), [0.04, 0.01, 0.01, 0.0025, 0.0025, 0.1])
    assert np.linalg.eigvalsh(wide).min() > 0.0 and wide[0, 1] == 1e-4


def test_an_answer_outside_of_the_mapped_volume_is_refused_with_the_distance():
    bounds = MappedBounds((0.0, 0.0, 1.0), (10.0, 5.0, 1.2))
    estimate = fix(0.0, transform(12.0, y_m=2.0)).estimate
    assert bounds.distance_m(np.array([5.0, 2.0, 1.1])) == 0.0
    check_inside_map(estimate, bounds, margin_m=2.5)
    with pytest.raises(NoPoseError, match=r'2\.24 m outside .* map_margin_m 2\.00') as caught:
        check_inside_map(estimate, bounds, margin_m=2.0)
    assert caught.value.reason is Reason.OUTSIDE


def test_the_confidence_needed_is_the_parameter_or_the_models():
    assert least_confidence(0.6, {'min_confidence': 0.4}) == 0.6
    assert least_confidence(0.0, {'min_confidence': 0.4}) == 0.0
    assert least_confidence(-1.0, {'min_confidence': 0.4}) == 0.4
    assert 0.0 < least_confidence(-1.0, {}) < 1.0
