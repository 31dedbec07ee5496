# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The active node in a recording's time: its ears, its inference thread, its voices.

What is decided, and about what, is `localization.relocalization`'s and
`localization.image_answer`'s, as in the live node (`ros/active_relocalizer.py`).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.localization.agreement import Fix
from implicit_relocalizer.localization.belief import Decision, State, Transition
from implicit_relocalizer.localization.diagnostics import (
    DIAGNOSTICS_PERIOD_S,
    Status,
    describe_status,
)
from implicit_relocalizer.localization.estimate import MappedBounds, PoseEstimate
from implicit_relocalizer.localization.frames import NoTransformError
from implicit_relocalizer.localization.image_answer import ImageAnswer, ImageAnswerer, Runner
from implicit_relocalizer.localization.map_transform import MapTransform, PlacedFrame, no_mount
from implicit_relocalizer.localization.parameters import Parameters
from implicit_relocalizer.localization.recorded_topics import NODE_NAME
from implicit_relocalizer.localization.rejection import NoPoseError, Reason
from implicit_relocalizer.localization.relocalization import TICK_S, Relocalization
from implicit_relocalizer.localization.stamps import NS_PER_S, stamp_to_ns
from implicit_relocalizer.localization.statistics import RunStatistics
from implicit_relocalizer.replay.heard_frames import HeardFrames
from implicit_relocalizer.replay.timeline import Timeline

logger = logging.getLogger(__name__)


class Voice(Protocol):
    """Where goes what the node says."""

    def say_pose(self, now_ns: int, fix: Fix) -> None:
        """An accepted answer."""

    def say_transform(self, now_ns: int, placed: PlacedFrame) -> None:
        """A frame's place."""

    def say_status(self, now_ns: int, status: Status) -> None:
        """State and reasons."""


@dataclass(frozen=True)
class Pace:
    """How long the model takes, in the time of the recording.

    Attributes:
        inference_s: So long; None for as long as it takes here and now.
        drops_images: A newer image replaces one that waits, as in the live node. Else each is
            answered in its turn.
    """

    inference_s: float | None = 0.0
    drops_images: bool = False


@dataclass
class Journal:
    """What a replay leaves for people.

    Attributes:
        transitions: Changes of state, with the time.
        examples: Of each reason the first sentence.
    """

    transitions: list[tuple[int, Transition]] = field(default_factory=list)
    examples: dict[Reason, str] = field(default_factory=dict)


class TimedRunner:
    """A model whose calls are timed, whichever thread makes them.

    Attributes:
        durations_s: Of every call.
    """

    def __init__(self, runner: Runner) -> None:
        self.metadata = runner.metadata
        self.durations_s: list[float] = []
        self._runner = runner

    @property
    def bounds(self) -> MappedBounds:
        """Where the training cameras were."""
        return self._runner.bounds

    def locate(self, image_hw3: NDArray[np.uint8], K_33: NDArray[np.float64],
               with_points: bool = False) -> PoseEstimate:
        """As the model's."""
        started_s = time.perf_counter()
        try:
            return self._runner.locate(image_hw3, K_33, with_points)
        finally:
            self.durations_s.append(time.perf_counter() - started_s)


class _PacedRunner:
    """A model that takes its time on the timeline."""

    def __init__(self, runner: Runner, timeline: Timeline[Any], pace: Pace) -> None:
        self.metadata = runner.metadata
        self._runner = runner
        self._timeline = timeline
        self._pace = pace

    @property
    def bounds(self) -> MappedBounds:
        return self._runner.bounds

    def locate(self, image_hw3: NDArray[np.uint8], K_33: NDArray[np.float64],
               with_points: bool = False) -> PoseEstimate:
        started_s = time.perf_counter()
        try:
            return self._runner.locate(image_hw3, K_33, with_points)
        finally:
            took_s = time.perf_counter() - started_s
            pace_s = self._pace.inference_s
            self._timeline.sleep(took_s if pace_s is None else pace_s)


class ReplayedNode:
    """Hears the messages of a recording and says what the live node would.

    Attributes:
        journal: For people.
        statistics: What became of the images.
    """

    def __init__(self, runner: Runner, settings: Parameters, timeline: Timeline[Any],
                 voice: Voice, pace: Pace, camera_info_topic: str) -> None:
        """
        Args:
            runner: The model.
            settings: The parameters.
            timeline: The recording's clock.
            voice: Gets all that is said.
            pace: How long the model takes.
            camera_info_topic: For people.
        """
        self.journal = Journal()
        self.statistics = RunStatistics()
        self._settings = settings
        self._timeline = timeline
        self._voice = voice
        self._scene = runner.metadata.scene
        self._drops_images = pace.drops_images or settings.max_rate_hz > 0.0
        self._warned: set[str] = set()
        self._frames = HeardFrames(timeline.wait_for)
        self._map_transform = MapTransform(
            settings, lambda placed: voice.say_transform(timeline.now_ns, placed),
            lambda: timeline.now_ns)
        self._relocalization = Relocalization(settings, self.statistics, self)
        self._answerer = ImageAnswerer(
            _PacedRunner(runner, timeline, pace), self._frames, lambda: settings,
            lambda: False, lambda: self._map_transform.moves_robot, camera_info_topic,
            self._warn_once, timeline.wait_for, lambda: timeline.now_s)
        self._waiting: deque[tuple[int, Any]] = deque()
        self._generation = 0
        self._is_busy = False
        self._not_before_ns = self._retry_ns = 0
        self._next_status_s = 0.0

    def activate(self) -> None:
        """Begin at the start of the timeline."""
        self._relocalization.activate(self._timeline.now_s)
        self._timeline.every(TICK_S, self._tick)
        if self._settings.tf_mode == 'map_to_odom':
            self._timeline.every(1.0 / self._settings.tf_rate_hz, self._map_transform.send_again)

    def hear_transforms(self, message: Any, is_fixed: bool) -> None:
        """A tf2_msgs/TFMessage came.

        What lies directly below the map is left out: answers of the run that was recorded, of
        which the node would make nothing, or motion.
        """
        self._frames.hear([item for item in message.transforms if
                           item.header.frame_id.lstrip('/') != self._settings.map_frame], is_fixed)

    def hear_camera_info(self, info: Any) -> None:
        """A sensor_msgs/CameraInfo came."""
        self._relocalization.hear_camera_info(stamp_to_ns(info.header), self._timeline.now_s)
        self._answerer.take_camera_info(info)

    def hear_image(self, image: Any) -> None:
        """A sensor_msgs/Image or CompressedImage came."""
        if not self._relocalization.wants_images:
            return  # the live node does not listen then
        if not self._relocalization.hear_image(stamp_to_ns(image.header), self._timeline.now_s):
            return
        if self._drops_images and self._waiting:
            self._waiting.clear()
            self.statistics.superseded += 1
        self._waiting.append((self._generation, image))
        self._work()

    def finish(self) -> None:
        """Answer what still waits behind the last message."""
        while self._waiting:
            self._timeline.sleep(TICK_S)

    def leave(self, fix: Fix, answer: ImageAnswer, announces: bool, now_s: float) -> None:
        """Say an accepted fix; `initialpose` is for an AMCL that is not there."""
        try:
            self._map_transform.place(fix, answer.camera_frame, self._frames)
        except NoTransformError as error:
            self.complain(no_mount(error))
        except NoPoseError as error:
            self.complain(error)
        self._voice.say_pose(self._timeline.now_ns, fix)

    def complain(self, refusal: NoPoseError) -> None:
        """Keep an example of each reason."""
        self.journal.examples.setdefault(refusal.reason, str(refusal))

    def forget(self) -> None:
        """Let go what is of a time that is over."""
        self._frames.forget()
        self._generation += 1
        self._map_transform.forget()

    def enter(self, transition: Transition) -> None:
        """Keep a change of state."""
        self.journal.transitions.append((self._timeline.now_ns, transition))
        logger.debug('state %s', transition)
        if transition.after in (State.LOST, State.SEARCHING):
            self._map_transform.lose()

    def settle(self, decision: Decision) -> None:
        """Tell of a new state."""
        if decision.transitions:
            self._say_status()

    def _tick(self) -> None:
        now_s = self._timeline.now_s
        self._relocalization.pass_time(now_s)
        if now_s >= self._next_status_s:
            self._say_status()

    def _work(self) -> None:
        """Answer what waits, as the live node's inference thread does."""
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._waiting and self._is_time():
                generation, image = self._waiting.popleft()
                rate_hz = self._settings.max_rate_hz
                if rate_hz:
                    self._not_before_ns = self._timeline.now_ns + round(NS_PER_S / rate_hz)
                answer = self._answerer.answer(image)  # time passes
                if generation == self._generation:
                    age_s = (self._timeline.now_ns - answer.stamp_ns) / NS_PER_S
                    self._relocalization.hear_answer(answer, age_s, self._timeline.now_s)
        finally:
            self._is_busy = False

    def _is_time(self) -> bool:
        """Whether `max_rate_hz` allows the next image; if not, it is tried again then."""
        if self._timeline.now_ns >= self._not_before_ns:
            return True
        if self._retry_ns != self._not_before_ns:
            self._retry_ns = self._not_before_ns
            self._timeline.at(self._retry_ns, self._work)
        return False

    def _say_status(self) -> None:
        now_s = self._timeline.now_s
        self._next_status_s = now_s + DIAGNOSTICS_PERIOD_S
        self._voice.say_status(self._timeline.now_ns, describe_status(
            f'/{NODE_NAME}', self._scene, self._settings.mode, self._relocalization.belief,
            self.statistics, now_s))

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            logger.warning(text)
