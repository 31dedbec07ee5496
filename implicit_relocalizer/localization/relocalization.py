# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What an active node makes of its messages, without ROS: live and in a replay the same."""

from __future__ import annotations

from typing import Protocol

from implicit_relocalizer.localization import supervision
from implicit_relocalizer.localization.agreement import Fix
from implicit_relocalizer.localization.belief import Belief, Decision, Transition
from implicit_relocalizer.localization.image_answer import ImageAnswer
from implicit_relocalizer.localization.parameters import Parameters
from implicit_relocalizer.localization.rejection import NoPoseError
from implicit_relocalizer.localization.stamps import JUMP_BACK_NS, find_stamp_refusal
from implicit_relocalizer.localization.statistics import RunStatistics

TICK_S = 0.05  # between two calls of `pass_time`


class Effects(Protocol):
    """What decisions do to the world; called while the event that caused them is handled."""

    def leave(self, fix: Fix, answer: ImageAnswer, announces: bool, now_s: float) -> None:
        """An accepted fix leaves; `announces` where the place has just become known."""

    def complain(self, refusal: NoPoseError) -> None:
        """An image got no pose."""

    def forget(self) -> None:
        """Stamps went back: what moves, and images under way, are of a time that is over."""

    def enter(self, transition: Transition) -> None:
        """The state changed."""

    def settle(self, decision: Decision) -> None:
        """The belief is that of this decision now; images may be wanted or not any more."""


class Relocalization:
    """Order and bookkeeping of one activation: stamps, refusals, decisions, counts.

    Times `now_s` are those of any one steady clock.

    Attributes:
        belief: What is believed now.
    """

    def __init__(self, settings: Parameters, statistics: RunStatistics,
                 effects: Effects) -> None:
        """
        Args:
            settings: The parameters.
            statistics: To be kept up to date.
            effects: What comes of it.
        """
        self.belief = Belief()
        self._settings = settings
        self._statistics = statistics
        self._effects = effects
        self._newest_ns: dict[str, int] = {}

    @property
    def wants_images(self) -> bool:
        """Whether the next image should be looked at."""
        return self.belief.wants_images(self._settings.rules)

    def use(self, settings: Parameters) -> None:
        """Go by other parameters from the next event on."""
        self._settings = settings

    def activate(self, now_s: float) -> None:
        """Begin, knowing nothing."""
        self._apply(supervision.activate(self._settings.rules, now_s))

    def deactivate(self, now_s: float) -> None:
        """End; a request under way is answered."""
        self._apply(supervision.deactivate(self.belief, now_s))

    def request(self, now_s: float) -> None:
        """Search again."""
        self._apply(supervision.request(self._settings.rules, self.belief, now_s))

    def pass_time(self, now_s: float) -> None:
        """To be called many times a second."""
        self._apply(supervision.pass_time(self._settings.rules, self.belief, now_s))

    def hear_camera_info(self, stamp_ns: int, now_s: float) -> None:
        """A CameraInfo came; its stamp may tell that time jumped back."""
        self._watch_stamps('camera_info', stamp_ns, now_s)

    def hear_image(self, stamp_ns: int, now_s: float) -> bool:
        """An image came; returns whether it is to be answered."""
        self._statistics.received += 1
        self._statistics.image_rate.note(now_s)
        last_ns = self._newest_ns.get('image')
        self._watch_stamps('image', stamp_ns, now_s)
        self._apply(supervision.hear_image(self.belief, now_s))
        refusal = find_stamp_refusal(stamp_ns, last_ns, self._newest_ns['image'])
        if refusal is not None:
            self._refuse(refusal)
        return refusal is None

    def hear_answer(self, answer: ImageAnswer, age_s: float, now_s: float) -> None:
        """An image was answered or refused, `age_s` after its stamp."""
        self._statistics.image_age_s = age_s
        if answer.inference_s is not None:
            self._statistics.add_inference(answer.inference_s)
            self._statistics.confidence = answer.confidence
        if answer.fix is None:
            assert answer.refusal is not None
            self._refuse(answer.refusal)
            return
        decision = supervision.observe_fix(self._settings.rules, self.belief, answer.fix, now_s)
        # What leaves goes first: whoever hears of the new state may look for its pose.
        if decision.accepted is not None:
            self._statistics.answered += 1
            self._statistics.fix_rate.note(now_s)
            self._effects.leave(decision.accepted, answer, decision.announces, now_s)
        if decision.refusal is not None:
            self._statistics.rejected[decision.refusal.reason] += 1
            self._effects.complain(decision.refusal)
        self._apply(decision)

    def _watch_stamps(self, topic: str, stamp_ns: int, now_s: float) -> None:
        """Notice that stamps went back, by those of each topic on its own."""
        newest_ns = self._newest_ns.setdefault(topic, stamp_ns)
        if stamp_ns >= newest_ns - JUMP_BACK_NS:
            self._newest_ns[topic] = max(newest_ns, stamp_ns)
            return
        self._newest_ns = {topic: stamp_ns}
        self._effects.forget()
        self._apply(supervision.jump_in_time(
            self._settings.rules, self.belief,
            f'the stamps of {topic} went back by {(newest_ns - stamp_ns) * 1e-9:.1f} s', now_s))

    def _refuse(self, refusal: NoPoseError) -> None:
        self._statistics.rejected[refusal.reason] += 1
        self._effects.complain(refusal)
        self._apply(supervision.observe_refusal(self._settings.rules, self.belief, refusal))

    def _apply(self, decision: Decision) -> None:
        self.belief = decision.belief
        for transition in decision.transitions:
            self._effects.enter(transition)
        self._effects.settle(decision)
