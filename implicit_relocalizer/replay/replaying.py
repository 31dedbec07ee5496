# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A recording through the node's decisions into another recording."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from implicit_relocalizer.data.readers.bag_images import IMAGE_TYPES
from implicit_relocalizer.data.readers.bag_poses import POSE_TYPES
from implicit_relocalizer.data.readers.bag_storage import Bag, Topic, open_bag
from implicit_relocalizer.data.readers.bag_topics import (
    choose_camera_info_topic,
    choose_image_topic,
)
from implicit_relocalizer.localization.agreement import Fix
from implicit_relocalizer.localization.diagnostics import Status
from implicit_relocalizer.localization.image_answer import Runner
from implicit_relocalizer.localization.map_transform import PlacedFrame
from implicit_relocalizer.localization.parameters import Parameters
from implicit_relocalizer.localization.recorded_topics import NODE_NAME
from implicit_relocalizer.localization.statistics import RunStatistics
from implicit_relocalizer.replay.bag_output import (
    BagOutput,
    refuse_output,
    storage_of,
    write_bag,
)
from implicit_relocalizer.replay.lookahead import Lookahead
from implicit_relocalizer.replay.messages import (
    DIAGNOSTICS_TYPE,
    TF_TYPE,
    covariance_message,
    diagnostics_message,
    pose_message,
    transform_message,
)
from implicit_relocalizer.replay.replayed_node import (
    Journal,
    Pace,
    ReplayedNode,
    TimedRunner,
)
from implicit_relocalizer.replay.timeline import Timeline

POSE_TOPIC = f'/{NODE_NAME}/pose'
COVARIANCE_TOPIC = f'/{NODE_NAME}/pose_with_covariance'
# Of the run that was recorded, under any namespace: ours take their place.
_EARLIER_ANSWERS = (POSE_TOPIC, COVARIANCE_TOPIC, '/initialpose')
_STATUS_ENDING = ': localization'


@dataclass(frozen=True)
class ReplayOptions:
    """What a user may say; what is left out is looked for in the bag.

    Attributes:
        image_topic: Image or CompressedImage.
        camera_info_topic: CameraInfo.
        pace: How long the model takes, in the time of the recording.
        storage: 'mcap' or 'sqlite3'; that of the source when None.
        with_images: Copy the images.
        force: Replace a bag at the place of the output.
        workers: Images that are answered at the same time, where each is answered in its turn.
    """

    image_topic: str | None = None
    camera_info_topic: str | None = None
    pace: Pace = field(default_factory=Pace)
    storage: str | None = None
    with_images: bool = True
    force: bool = False
    workers: int = 1


@dataclass(frozen=True)
class ReplayResult:
    """What came of a replay.

    Attributes:
        image_topic: The images that were answered.
        camera_info_topic: Their calibration.
        images: How many the recording has, damaged ones included.
        damaged: Messages that could not be read, by topic.
        statistics: What became of the images that were wanted.
        journal: Changes of state, examples of refusals.
        inference_s: What each call of the model took here and now.
        start_ns: Time of the first message.
        duration_s: From there to the end, in the recording's time.
        wall_s: How long it took.
    """

    image_topic: str
    camera_info_topic: str
    images: int
    damaged: Counter[str]
    statistics: RunStatistics
    journal: Journal
    inference_s: list[float]
    start_ns: int
    duration_s: float
    wall_s: float

    @property
    def speed(self) -> float:
        """How many seconds of the recording went by in one."""
        return self.duration_s / max(self.wall_s, 1e-9)


def replay_bag(source: Path, out: Path, runner: Runner, settings: Parameters,
               options: ReplayOptions | None = None) -> ReplayResult:
    """Run the node's decisions over a recording and write what it says into another.

    The output holds the images, their calibration, all poses, transforms and diagnostics of the
    source, without what the node said when the source was recorded.

    Args:
        source: A folder with metadata.yaml, or one .mcap or .db3 file.
        out: A folder that does not exist, unless `force` allows to replace a bag.
        runner: The model, warm.
        settings: The node's parameters.
        options: The rest.

    Raises:
        SceneError: no images or calibration, several to choose from, or a damaged file.
        FileExistsError: `out` may not be written.
    """
    options = options or ReplayOptions()
    with open_bag(source) as bag:
        refuse_output(out, source, options.force)
        image_topic = choose_image_topic(bag, options.image_topic)
        info_topic = choose_camera_info_topic(bag, options.camera_info_topic, image_topic, '')
        timed = TimedRunner(runner)
        with (write_bag(out, options.storage or storage_of(source)) as output,
              Lookahead(timed, settings.rectified, options.workers) as ahead):
            replay = _Replay(bag, output, image_topic, info_topic, timed, settings, options,
                             ahead if _answers_all(settings, options) else None)
            return replay.run()


def _answers_all(settings: Parameters, options: ReplayOptions) -> bool:
    """Whether every image is answered in its turn, so that it may be answered before."""
    return (options.workers > 1 and options.pace == Pace() and settings.max_rate_hz <= 0.0
            and settings.mode == 'continuous')


class _Replay:
    """One pass through a recording: what is copied, what is heard, what is said."""

    def __init__(self, bag: Bag, output: BagOutput, image_topic: Topic, info_topic: Topic,
                 runner: TimedRunner, settings: Parameters, options: ReplayOptions,
                 ahead: Lookahead | None) -> None:
        self._bag = bag
        self._output = output
        self._image_topic = image_topic
        self._info_topic = info_topic
        self._settings = settings
        self._with_images = options.with_images
        self._damaged: Counter[str] = Counter()
        self._images = 0
        self._said_child = _child_of(settings, bag.first(image_topic).header.frame_id)
        # Not those of depth or other cameras, nor clouds: they may be most of a recording.
        topics = [topic for topic in bag.topics if topic in (image_topic, info_topic)
                  or (topic.type_name in (*POSE_TYPES, TF_TYPE, DIAGNOSTICS_TYPE)
                      and not topic.name.endswith(_EARLIER_ANSWERS))]
        self._newest_info: bytes | None = None
        events = ((time_ns, (topic, cdr))
                  for topic, time_ns, cdr in bag.serialized_messages(topics))
        self._timeline = Timeline(
            events if ahead is None else ahead.watch(events, self._image_ahead),
            self._on_message)
        self._node = ReplayedNode(runner if ahead is None else ahead, settings, self._timeline,
                                  self, options.pace, info_topic.name)
        self._runner = runner

    def run(self) -> ReplayResult:
        """From the first message to the answer to the last."""
        started_s = time.perf_counter()
        self._node.activate()
        self._timeline.run()
        self._node.finish()
        return ReplayResult(
            self._image_topic.name, self._info_topic.name, self._images, self._damaged,
            self._node.statistics, self._node.journal, self._runner.durations_s,
            self._timeline.start_ns, self._timeline.now_s, time.perf_counter() - started_s)

    def say_pose(self, now_ns: int, fix: Fix) -> None:
        """Write an answer, without and with its covariance."""
        given = fix.stamp_ns, self._settings.map_frame, fix.T_map_camera
        self._output.write(POSE_TOPIC, now_ns, pose_message(*given))
        self._output.write(COVARIANCE_TOPIC, now_ns,
                           covariance_message(*given, fix.estimate.covariance_66))

    def say_transform(self, now_ns: int, placed: PlacedFrame) -> None:
        """Write a transform."""
        self._output.write('/tf', now_ns, transform_message(placed))

    def say_status(self, now_ns: int, status: Status) -> None:
        """Write diagnostics."""
        self._output.write('/diagnostics', now_ns, diagnostics_message(now_ns, status))

    def _image_ahead(self, event: tuple[int, tuple[Topic, bytes]],
                     ) -> Callable[[], tuple[Any, Any]] | None:
        """What `Lookahead.watch` wants to know of a message that is read ahead."""
        topic, cdr = event[1]
        if topic == self._info_topic:
            self._newest_info = cdr
        if topic != self._image_topic or self._newest_info is None:
            return None
        info = self._newest_info
        return lambda: (self._bag.deserialize(topic, cdr),
                        self._bag.deserialize(self._info_topic, info))

    def _on_message(self, time_ns: int, recorded: tuple[Topic, bytes]) -> None:
        topic, cdr = recorded
        is_image = topic == self._image_topic
        self._images += is_image
        if topic.type_name in (TF_TYPE, DIAGNOSTICS_TYPE) or is_image or topic == self._info_topic:
            message = self._bag.deserialize(topic, cdr)
            if message is None:
                self._damaged[topic.name] += 1
                return
            self._copy(topic, time_ns, cdr, message)
            self._hear(topic, message)
        else:
            self._copy(topic, time_ns, cdr, None)

    def _hear(self, topic: Topic, message: Any) -> None:
        if topic == self._image_topic:
            self._node.hear_image(message)
        elif topic == self._info_topic:
            self._node.hear_camera_info(message)
        elif topic.type_name == TF_TYPE:
            self._node.hear_transforms(message, topic.name.endswith('tf_static'))

    def _copy(self, topic: Topic, time_ns: int, cdr: bytes, message: Any) -> None:
        """Copy a message, without what the node said when it was recorded."""
        if topic.type_name in IMAGE_TYPES and not self._with_images:
            return
        name = {TF_TYPE: 'transforms', DIAGNOSTICS_TYPE: 'status'}.get(topic.type_name)
        if name is None:
            self._output.copy(self._bag, topic, time_ns, cdr)
            return
        items = getattr(message, name)
        kept = [item for item in items if not self._was_said(item)]
        if len(kept) == len(items):
            self._output.copy(self._bag, topic, time_ns, cdr)
        elif kept:
            rest = type(message)(**{**vars(message), name: kept})
            self._output.write(topic.name, time_ns, rest)

    def _was_said(self, item: Any) -> bool:
        """Whether a transform or a status is one that the node says now."""
        if hasattr(item, 'child_frame_id'):
            return (item.header.frame_id.lstrip('/') == self._settings.map_frame
                    and item.child_frame_id.lstrip('/') == self._said_child)
        return bool(item.name.endswith(_STATUS_ENDING))


def _child_of(settings: Parameters, image_frame: str) -> str:
    """The frame that `tf_mode` places in the map; empty for none."""
    return {'map_to_odom': settings.odom_frame, 'map_to_base': settings.base_frame,
            'map_to_camera': settings.camera_frame or image_frame}.get(settings.tf_mode, '')
