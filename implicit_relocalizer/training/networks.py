# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The untrained network that a configuration asks for."""

from __future__ import annotations

from implicit_relocalizer.data.images import PosedImages
from implicit_relocalizer.network.encoders import build_encoder
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.regressor import PoseRegressor
from implicit_relocalizer.training.anchors import spread_anchors
from implicit_relocalizer.training.plan import Job
from implicit_relocalizer.training.regression import build_regressor


def build_network(job: Job, images: PosedImages) -> Localizer | PoseRegressor:
    """Build the network for a place; it is called like the model file that it becomes."""
    config = job.config
    encoder = build_encoder(config.encoder.name, config.encoder.pretrained)
    if config.regression.iterations > 0:
        return build_regressor(encoder, config.regression, images, job.input_size)
    head_config = config.head
    anchors = spread_anchors(images, head_config.anchors, head_config.nominal_depth_m, config.seed)
    head = PointHead(encoder.channels, anchors, head_config.nominal_depth_m,
                     head_config.offset_scale_m, head_config.width, head_config.blocks)
    nominal_focal_px = float(images.K_b33[:, 0, 0].mean()) * job.input_size[0] \
        / job.scene.image_size[0]
    options = config.localizer
    return Localizer(encoder, head, job.input_size, nominal_focal_px, images.origin_world_3,
                     options.alignment, options.hypothesis_count, options.refined_count)
