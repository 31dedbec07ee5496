# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""When a pose may leave, and when the robot counts as lost: decisions without ROS."""

from __future__ import annotations

from dataclasses import replace

import pytest
from supervised_run import RULES, Run, fix, transform

from implicit_relocalizer.localization.agreement import (
    AgreementLimits,
    compare_fixes,
)
from implicit_relocalizer.localization.belief import Cause, Mode, State
from implicit_relocalizer.localization.rejection import Reason


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
