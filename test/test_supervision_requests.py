# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Requests, jumps in time and deactivation: what is forgotten, and what is answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from supervised_run import RULES, Run, transform

from implicit_relocalizer.localization import supervision
from implicit_relocalizer.localization.belief import Cause, Mode, State


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
