# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From answers to single images to a pose that may leave: search, consensus, tracking, loss.

Every function takes a belief and an event and returns a decision; none keeps anything. Times are
the caller's: `now_s` of any steady clock, stamps of the images. So a recorded run replays exactly.
"""

from __future__ import annotations

from dataclasses import replace

from implicit_relocalizer.localization.agreement import Fix, compare_fixes, count_agreeing
from implicit_relocalizer.localization.belief import (
    Belief,
    Cause,
    Decision,
    Mode,
    RequestAnswer,
    Rules,
    State,
    Transition,
)
from implicit_relocalizer.localization.rejection import NoPoseError, Reason

# So many images in a row without a fix before the robot counts as lost: one may be blurred.
_LOST_AFTER_IMAGES = 3
# Images may come slowly: only after so many of their intervals has the camera fallen silent.
_SILENT_INTERVALS = 5.0


def activate(rules: Rules, now_s: float) -> Decision:
    """Begin, knowing nothing."""
    waits = rules.mode is Mode.ON_REQUEST
    after, cause = (State.LOST, Cause.WAITING) if waits else (State.SEARCHING, Cause.ACTIVATED)
    text = 'call relocalize' if waits else f'mode {rules.mode.value}'
    return _enter(Belief(), after, cause, text, now_s)


def deactivate(belief: Belief, now_s: float) -> Decision:
    """End; a request under way is answered."""
    decision = _enter(belief, State.UNCONFIGURED, Cause.DEACTIVATED, 'knows nothing', now_s)
    return _answered(decision, belief, False,
                     f'{Cause.DEACTIVATED.value}: activate the node first')


def request(rules: Rules, belief: Belief, now_s: float) -> Decision:
    """Somebody asks where the robot is: forget, and search again.

    Who asks while a request is under way joins it: its time is not begun anew, lest those who ask
    again and again keep the first one waiting.
    """
    if belief.state is State.UNCONFIGURED:
        return Decision(belief, answer=RequestAnswer(
            False, f'{Cause.STARTED.value}: activate the node first'))
    if belief.deadline_s is not None:
        return Decision(belief)
    decision = _enter(belief, State.SEARCHING, Cause.REQUESTED,
                      f'for at most {rules.request_timeout_s:g} s', now_s)
    return replace(decision, belief=replace(
        decision.belief, deadline_s=now_s + rules.request_timeout_s))


def jump_in_time(rules: Rules, belief: Belief, text: str, now_s: float) -> Decision:
    """Stamps went back: a recording began again, or a simulation; nothing known holds."""
    if belief.state is State.UNCONFIGURED:
        return Decision(belief)
    waits = rules.mode is Mode.ON_REQUEST and belief.deadline_s is None
    return _enter(belief, State.LOST if waits else State.SEARCHING, Cause.TIME_JUMP, text, now_s)


def hear_image(belief: Belief, now_s: float) -> Decision:
    """An image came, whatever becomes of it."""
    return Decision(replace(belief, image_s=now_s, image_interval_s=now_s - belief.image_s))


def observe_fix(rules: Rules, belief: Belief, fix: Fix, now_s: float) -> Decision:
    """A confident answer came: it is accepted if it agrees with enough others."""
    if not belief.wants_images(rules):
        return Decision(belief)
    if rules.consensus_fixes <= 1:
        return _accept(belief, fix, 'every confident answer stands by itself', now_s)
    if belief.state is State.LOCALIZED:
        return _track(rules, belief, fix, now_s)
    return _seek_consensus(rules, belief, fix, now_s)


def observe_refusal(rules: Rules, belief: Belief, refusal: NoPoseError) -> Decision:
    """An image gave no pose."""
    if not belief.wants_images(rules):
        return Decision(belief)
    return _refuse(belief, refusal)


def pass_time(rules: Rules, belief: Belief, now_s: float) -> Decision:
    """Nothing may have happened for too long; to be called many times a second."""
    if belief.deadline_s is not None and now_s > belief.deadline_s:
        return _give_up_request(rules, belief, now_s)
    if belief.state is not State.LOCALIZED or rules.mode is not Mode.CONTINUOUS:
        return Decision(belief)
    without_s = now_s - belief.accepted_s
    silent_s = now_s - belief.image_s
    if without_s > rules.lost_after_s and belief.refused >= _LOST_AFTER_IMAGES:
        return _enter(belief, State.LOST, Cause.NO_FIX, f'no fix for {without_s:.1f} s, '
                      f'the last image: {_tell(belief.last_refusal)}', now_s)
    if silent_s > max(rules.lost_after_s, _SILENT_INTERVALS * belief.image_interval_s):
        return _enter(belief, State.LOST, Cause.NO_IMAGES, f'no image for {silent_s:.1f} s', now_s)
    return Decision(belief)


def _track(rules: Rules, belief: Belief, fix: Fix, now_s: float) -> Decision:
    """Localized: a fix has to continue from the last one."""
    assert belief.accepted is not None
    disagreement = compare_fixes(belief.accepted, fix, rules.limits)
    if disagreement.is_agreement:
        accepted = replace(belief, accepted=fix, accepted_s=now_s, refused=0, candidates=())
        return Decision(accepted, accepted=fix)
    refusal = NoPoseError(Reason.CONTRADICTS, f'the answer does not continue the last accepted '
                                              f'one: {disagreement}')
    candidates, agreeing = _with_candidate(rules, belief, fix)
    decision = _refuse(replace(belief, candidates=candidates), refusal)
    if not _is_consensus(rules, candidates, agreeing):
        return decision
    # Several images tell the same other story: somebody moved the robot, or we were wrong.
    # Believed only when the next image tells it too.
    lost = _enter(decision.belief, State.LOST, Cause.CONTRADICTED,
                  f'{agreeing} fixes agree on another place, {disagreement}', now_s)
    return replace(lost, belief=replace(lost.belief, candidates=candidates), refusal=refusal)


def _seek_consensus(rules: Rules, belief: Belief, fix: Fix, now_s: float) -> Decision:
    """Searching or lost: a fix has to agree with enough others."""
    candidates, agreeing = _with_candidate(rules, belief, fix)
    if _is_consensus(rules, candidates, agreeing):
        return _accept(belief, fix, f'{agreeing} of {len(candidates)} fixes agree, confidence '
                                    f'{fix.estimate.confidence:.2f}', now_s)
    refusal = NoPoseError(Reason.DISAGREE, f'{agreeing} of {len(candidates)} fixes agree so far, '
                                           f'consensus_fixes {rules.consensus_fixes} are needed')
    return _refuse(replace(belief, candidates=candidates), refusal)


def _with_candidate(rules: Rules, belief: Belief, fix: Fix) -> tuple[tuple[Fix, ...], int]:
    """The fixes of the window with the new one, and how many of them agree with it."""
    oldest_ns = fix.stamp_ns - int(1e9 * rules.consensus_window_s)
    others = tuple(other for other in belief.candidates
                   if oldest_ns <= other.stamp_ns < fix.stamp_ns)
    return (*others, fix), count_agreeing(fix, others, rules.limits)


def _is_consensus(rules: Rules, candidates: tuple[Fix, ...], agreeing: int) -> bool:
    """Enough fixes agree, and two in three: look-alike places that take turns convince nobody."""
    return agreeing >= rules.consensus_fixes and 3 * agreeing >= 2 * len(candidates)


def _accept(belief: Belief, fix: Fix, text: str, now_s: float) -> Decision:
    known = belief.state is State.LOCALIZED
    decision = (Decision(belief) if known
                else _enter(belief, State.LOCALIZED, Cause.AGREED, text, now_s))
    accepted = replace(decision.belief, accepted=fix, accepted_s=now_s, refused=0)
    return _answered(replace(decision, belief=accepted, accepted=fix), belief, True,
                     f'{Cause.AGREED.value}: {text}')


def _refuse(belief: Belief, refusal: NoPoseError) -> Decision:
    return Decision(replace(belief, refused=belief.refused + 1, last_refusal=refusal),
                    refusal=refusal)


def _give_up_request(rules: Rules, belief: Belief, now_s: float) -> Decision:
    text = (f'no pose within {rules.request_timeout_s:g} s from {belief.refused} images, '
            f'the last one: {_tell(belief.last_refusal)}')
    without = replace(belief, deadline_s=None)
    decision = (_enter(without, State.LOST, Cause.TIMEOUT, text, now_s)
                if rules.mode is Mode.ON_REQUEST else Decision(without))
    return _answered(decision, belief, False, f'{Cause.TIMEOUT.value}: {text}')


def _answered(decision: Decision, before: Belief, success: bool, text: str) -> Decision:
    """The same decision, with an answer to the request that was under way before, if any."""
    if before.deadline_s is None:
        return decision
    return replace(decision, answer=RequestAnswer(success, text),
                   belief=replace(decision.belief, deadline_s=None))


def _enter(belief: Belief, after: State, cause: Cause, text: str, now_s: float) -> Decision:
    """Go to a state with nothing known but the last refusal and the pace of the images."""
    entered = Belief(state=after, cause=cause, accepted_s=now_s, image_s=now_s,
                     last_refusal=belief.last_refusal, deadline_s=belief.deadline_s,
                     image_interval_s=belief.image_interval_s)
    return Decision(entered, (Transition(belief.state, after, cause, text),))


def _tell(refusal: NoPoseError | None) -> str:
    return f'{refusal.reason.value}: {refusal}' if refusal is not None else 'none came'
