# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The untrained network that a configuration asks for."""

from __future__ import annotations

from torch import Tensor

from implicit_relocalizer.data.images import PosedImages, load_posed_images
from implicit_relocalizer.network.encoders import Encoder, build_encoder
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.keypoints import at_keypoints, look_up
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.regressor import PoseRegressor
from implicit_relocalizer.training.anchors import spread_anchors
from implicit_relocalizer.training.configuration import TrainingConfig
from implicit_relocalizer.training.landmarks.build import build_landmark_head
from implicit_relocalizer.training.phases import Phases
from implicit_relocalizer.training.plan import Job
from implicit_relocalizer.training.regression import build_regressor


def build_network(job: Job, images: PosedImages) -> Localizer | PoseRegressor:
    """Build the network for a place; it is called like the model file that it becomes."""
    config, head = job.config, job.config.head
    encoder = build_encoder(config.encoder.name, config.encoder.pretrained)
    if config.encoder.keypoints:
        encoder = at_keypoints(encoder)
        look_up(encoder, config.encoder.points_per_image)
    if config.regression.iterations > 0:
        return build_regressor(encoder, config.regression, images, job.input_size)
    nominal_focal_px = float(images.K_b33[:, 0, 0].mean()) * job.input_size[0] \
        / job.scene.image_size[0]
    anchors = spread_anchors(images, head.anchors, head.nominal_depth_m, config.seed)
    return assemble_localizer(encoder, config, anchors, job.input_size, nominal_focal_px,
                              images.origin_world_3)


def assemble_localizer(encoder: Encoder, config: TrainingConfig, anchors_a3: Tensor,
                       input_size: tuple[int, int], nominal_focal_px: float,
                       origin_world_3: Tensor) -> Localizer:
    """Encoder and point head as one localizer, by the settings of a configuration."""
    settings, options = config.head, config.localizer
    head = PointHead(encoder.channels, anchors_a3, settings.nominal_depth_m,
                     settings.offset_scale_m, settings.width, settings.blocks)
    return Localizer(encoder, head, input_size, nominal_focal_px, origin_world_3,
                     options.alignment, options.hypothesis_count, options.refined_count)


def learn_landmarks(job: Job, images: PosedImages, localizer: Localizer,
                    phases: Phases) -> None:
    """Give the localizer a landmark head, learned from its encoder's features."""
    config = job.config
    if len(images) < len(job.fit_frames):  # a process of a team has loaded only its own share
        images = load_posed_images(job.fit_frames, job.origin_world_3)
    localizer.eval()
    localizer.head = build_landmark_head(
        images, localizer.encoder, job.input_size, localizer.nominal_focal_px,
        config.head.nominal_depth_m, config.landmarks, job.device, config.seed, phases)
    look_up(localizer.encoder, config.landmarks.points_asked)
