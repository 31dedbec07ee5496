# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Does the camera say what the relocalizer needs to hear?"""

from __future__ import annotations

from implicit_relocalizer.localization.bringup_findings import Finding, Subject, named
from implicit_relocalizer.localization.bringup_observation import (
    COMPRESSED_IMAGE_TYPE,
    IMAGE_TYPE,
    Observation,
    Topic,
)
from implicit_relocalizer.localization.camera_check import (
    Size,
    check_aspect,
    intrinsics_of_image,
)
from implicit_relocalizer.localization.rejection import NoPoseError

MIN_IMAGE_RATE_HZ = 1.0
# A rate cannot be told from less.
_MIN_WATCH_S = 1.0
_IMAGE_TYPES = (IMAGE_TYPE, COMPRESSED_IMAGE_TYPE)

_IMAGES, _CALIBRATION, _MODEL = Subject('images'), Subject('calibration'), Subject('model')


def check_images(seen: Observation) -> list[Finding]:
    """The topic of images and what came on it, stamps aside."""
    topic = seen.image
    if not any(p.type_name == topic.type_name for p in topic.publishers):
        return [_no_image_publisher(topic)]
    findings = _incompatible(topic, _IMAGES, 'set image_reliability to auto or best_effort, or '
                             'let the camera driver publish reliably')
    senders = sorted({p.node for p in topic.publishers})
    if len(topic.publishers) > 1:
        findings.append(_IMAGES.warning(
            'several_image_publishers', f"'{topic.name}' has {len(topic.publishers)} publishers: "
            f'{named(senders)}', 'let one camera publish on one topic'))
    if not seen.images:
        return [*findings, _IMAGES.problem(
            'images_silent', f"{named(senders)} offers '{topic.name}' but no image came in "
            f'{seen.seconds:g} s',
            'look at the log of the camera driver; if `ros2 topic hz` on the machine of the '
            'camera counts images, the network loses them: send compressed images, or raise '
            'net.core.rmem_max')]
    rate_hz = _rate_hz(seen)
    if rate_hz is not None and rate_hz < MIN_IMAGE_RATE_HZ:
        findings.append(_IMAGES.problem(
            'image_rate_low', f"images come at {rate_hz:.2f} Hz on '{topic.name}' "
            f'({len(seen.images)} in {seen.seconds:g} s), too few to agree with each other',
            f'let the camera send at least {MIN_IMAGE_RATE_HZ:g} image per second, better 5; '
            f'big images that get lost on the network arrive as compressed ones'))
    if seen.image_problem:
        findings.append(_IMAGES.problem(
            'image_unusable', seen.image_problem, f"repair the publisher of '{topic.name}'"))
    if not seen.images[-1].frame_id:
        findings.append(_empty_frame(seen))
    if findings:
        return findings
    rate = f'{rate_hz:.1f} Hz' if rate_hz is not None else f'{len(seen.images)} images'
    return [_IMAGES.ok('images_ok', f"'{topic.name}' from {named(senders)}: {rate}, "
                       f"{_text(seen.image_size)}, frame '{seen.images[-1].frame_id}'")]


def check_camera_info(seen: Observation) -> list[Finding]:
    """The camera's calibration, against its images."""
    topic, calibration = seen.camera_info, seen.calibration
    findings = _incompatible(topic, _CALIBRATION, 'let the driver publish CameraInfo reliably')
    if not any(p.type_name == topic.type_name for p in topic.publishers):
        others = [name for name, type_name in topic.others if type_name == topic.type_name]
        return [_CALIBRATION.problem(
            'no_camera_info', f"nobody publishes CameraInfo on '{topic.name}'; topics of "
            f'CameraInfo: {named(others)}',
            'name the topic with --camera-info and remap the node\'s camera_info to it, or let '
            'the camera driver publish it (camera_info_url)')]
    if seen.calibration_problem:
        return [*findings, _CALIBRATION.problem(
            'camera_info_invalid', seen.calibration_problem,
            'let the camera driver publish a CameraInfo that holds together')]
    if calibration is None:
        return [*findings, _CALIBRATION.problem(
            'camera_info_silent', f"{named([p.node for p in topic.publishers])} offers "
            f"'{topic.name}' but no CameraInfo came in {seen.seconds:g} s",
            'CameraInfo has to come with every image; one that was sent once, before, is not '
            'heard by those who start later')]
    try:
        K_33 = intrinsics_of_image(calibration, calibration.image_size, seen.expected.rectified)
    except NoPoseError:
        matrix = 'P' if seen.expected.rectified else 'K'
        return [*findings, _CALIBRATION.problem(
            'camera_uncalibrated', f"the camera is uncalibrated: {matrix} of the CameraInfo on "
            f"'{topic.name}' holds no focal length",
            'calibrate the camera (camera_calibration) and give the file to its driver '
            '(camera_info_url)')]
    if seen.image_size is not None and seen.image_size != calibration.image_size:
        findings.append(_CALIBRATION.problem(
            'camera_info_size', f'the images have {_text(seen.image_size)} pixels but their '
            f'CameraInfo announces {_text(calibration.image_size)}',
            'publish the CameraInfo of this resolution: calibrate in it, or resize both with '
            'image_proc'))
    if calibration.is_distorted and not seen.expected.rectified:
        findings.append(_CALIBRATION.warning(
            'images_distorted', 'the CameraInfo of these raw images has a lens distortion '
            f'({", ".join(f"{d:.3g}" for d in calibration.distortion)}) that the model does not '
            f'know; poses will be off',
            'rectify with image_proc, train and run on image_rect, set rectified: true'))
    return findings or [_CALIBRATION.ok(
        'camera_info_ok', f"'{topic.name}': {_text(calibration.image_size)}, focal lengths "
        f'{K_33[0, 0]:.1f} and {K_33[1, 1]:.1f} pixels')]


def check_model(seen: Observation) -> list[Finding]:
    """The model file, against the images."""
    model = seen.model
    if model is None:
        return [_MODEL.ok('model_skipped', 'not looked at; --model FILE compares it with the '
                          'images')]
    if model.problem:
        return [_MODEL.problem('model_unreadable', model.problem,
                               'copy the file again, or train the model again')]
    size = seen.image_size
    if size is not None:
        try:
            check_aspect(size, model.image_size)
        except NoPoseError:
            return [_MODEL.problem(
                'model_aspect', f"the model of '{model.scene}' was trained on images of "
                f'{_text(model.image_size)} pixels, the camera sends {_text(size)}: another '
                f'aspect ratio',
                'use the camera mode of the training images, or train on images of this one')]
    unseen = '' if size is not None else '; without an image its aspect ratio is not compared'
    return [_MODEL.ok(
        'model_ok', f"scene '{model.scene}', {_text(model.image_size)}; its frame "
        f"'{model.world_frame}' is published as '{seen.expected.map_frame}'{unseen}")]


def _no_image_publisher(topic: Topic) -> Finding:
    if topic.publishers:
        wrong = topic.publishers[0].type_name
        remedy = 'name another topic with --image'
        if wrong == COMPRESSED_IMAGE_TYPE:
            remedy = 'give --compressed, and set image_transport: compressed for the node'
        elif wrong == IMAGE_TYPE:
            remedy = 'leave out --compressed, and set image_transport: raw for the node'
        return _IMAGES.problem('image_type', f"'{topic.name}' carries {wrong}, not "
                               f'{topic.type_name}', remedy)
    others = [f'{name} ({type_name.split("/")[-1]})' for name, type_name in topic.others
              if type_name in _IMAGE_TYPES]
    return _IMAGES.problem(
        'no_image_publisher', f"nobody publishes images on '{topic.name}'; image topics that "
        f'exist: {named(others)}',
        'start the camera driver; or name its topic with --image and remap the node\'s image '
        'to it')


def _incompatible(topic: Topic, subject: Subject, remedy: str) -> list[Finding]:
    return [subject.problem(
        'qos_mismatch', f"the relocalizer cannot hear a publisher of '{topic.name}': {words}",
        remedy) for words in topic.incompatible]


def _empty_frame(seen: Observation) -> Finding:
    sentence = f"the frame_id of the images on '{seen.image.name}' is empty"
    remedy = "set the driver's frame_id, or the node's parameter camera_frame"
    if seen.expected.camera_frame:
        return _IMAGES.warning(
            'image_frame_empty',
            f"{sentence}; '{seen.expected.camera_frame}' is taken instead", remedy)
    return _IMAGES.problem('image_frame_empty', sentence, remedy)


def _rate_hz(seen: Observation) -> float | None:
    """Images per second from the first to the end of the watch; None where that is too short."""
    span_s = seen.seconds - seen.images[0].arrival_s
    # The first one opens the span, so that a camera of exactly 1 Hz is not called slower.
    return len(seen.images) / span_s if span_s >= _MIN_WATCH_S else None


def _text(size: Size | None) -> str:
    return f'{size[0]}x{size[1]}' if size else 'unknown size'
