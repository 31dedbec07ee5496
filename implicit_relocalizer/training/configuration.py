# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Training configuration: every setting with its default, in typed sections."""

from __future__ import annotations

from dataclasses import dataclass, field

from implicit_relocalizer.data.augmentation import ViewRange
from implicit_relocalizer.network.keypoints import POINTS_PER_IMAGE


class ConfigurationError(ValueError):
    """A configuration cannot be used; the message names the file, the key and the remedy."""


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder turns images into features.

    Attributes:
        name: One of those that `implicit-relocalizer encoders` lists.
        pretrained: Load torchvision's ImageNet weights into it.
        keypoints: Take its features at keypoints of the image instead of on a grid.
        points_per_image: So many keypoints of an image are learned from.
    """

    name: str = 'gradient_descriptor'
    pretrained: bool = False
    keypoints: bool = False
    points_per_image: int = POINTS_PER_IMAGE


@dataclass(frozen=True)
class HeadConfig:
    """The point head (see `network.heads.PointHead`).

    Attributes:
        width: Hidden width; most of the size of the model file.
        blocks: Residual blocks of two layers each.
        anchors: Points spread over the place, whose softmax mixture a world point starts from.
        nominal_depth_m: Depth predicted where the network says zero: about that of the place.
        offset_scale_m: Metres per unit of the offset from the anchors.
    """

    width: int = 256
    blocks: int = 2
    anchors: int = 48
    nominal_depth_m: float = 2.5
    offset_scale_m: float = 1.0


@dataclass(frozen=True)
class LandmarkConfig:
    """The landmark head (see `network.landmarks.LandmarkHead`), in place of the point head.

    It is learned last, without gradients. Stages before it, if any, train the encoder with a
    point head that is then thrown away.

    Attributes:
        most: Landmarks at most; 78 bytes of the model file each. 0 keeps the point head.
        key_size: Numbers of a landmark's key.
        partner_views: Views searched for each keypoint when depths are found.
        points_asked: Keypoints of an image that the model looks up, of those it learns from
            (`encoder.points_per_image`).
    """

    most: int = 0
    key_size: int = 64
    partner_views: int = 12
    points_asked: int = 400


@dataclass(frozen=True)
class LocalizerConfig:
    """How a pose comes from the clouds (see `network.localizer.Localizer`).

    Attributes:
        alignment: 'refined' (hypotheses and refinement) or 'kabsch' (the paper's one alignment).
        hypothesis_count: Three-point alignments tried per image.
        refined_count: The best of them that are refined.
    """

    alignment: str = 'refined'
    hypothesis_count: int = 192
    refined_count: int = 2


@dataclass(frozen=True)
class MappingConfig:
    """Stage A: geometry from shuffled points. Clamps are for an image 360 px wide.

    Attributes:
        iterations: Steps; 0 skips the stage.
        max_seconds: The schedule ends after this time if not before; 0 sets no limit.
        views_per_image: Views of each image in the buffer; the first is the camera's own.
        points_per_view: Cells kept of each view.
        batch_points: Cells per step and process.
        learning_rate: At its highest.
        weight_decay: Of AdamW.
        clamp_start_px, clamp_end_px: Reprojection errors count little beyond this, at the start
            and at the end of the stage.
        reprojection_weight: Of the distance between a projected world point and its pixel.
        consistency_weight: Of the distance between the two clouds, relative to the depth.
        likelihood_weight: Of the Laplace likelihood by which the expected error is learned.
    """

    iterations: int = 20000
    max_seconds: float = 225.0
    views_per_image: int = 3
    points_per_view: int = 1000
    batch_points: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    clamp_start_px: float = 10.0
    clamp_end_px: float = 2.0
    reprojection_weight: float = 1.0
    consistency_weight: float = 0.2
    likelihood_weight: float = 0.1


@dataclass(frozen=True)
class AlignmentConfig:
    """Stage B: whole images, the pose loss through weighted Kabsch.

    Attributes:
        iterations: Steps; 0 skips the stage.
        max_seconds: The schedule ends after this time if not before; 0 sets no limit.
        batch_images: Images per step and process.
        learning_rate: At its highest.
        weight_decay: Of AdamW.
        train_encoder: Train end to end.
        pose_weight: Of position error plus `metres_per_radian` times orientation error.
        metres_per_radian: What an error of one radian counts.
        reprojection_weight: Of the distance between a projected world point and its pixel.
        consistency_weight: Of the distance between the two clouds, relative to the depth.
        likelihood_weight: Of the Laplace likelihood by which the expected error is learned.
        clamp_px: Reprojection errors count little beyond this, for an image 360 px wide.
    """

    iterations: int = 0
    max_seconds: float = 240.0
    batch_images: int = 8
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    train_encoder: bool = False
    pose_weight: float = 1.0
    metres_per_radian: float = 1.0
    reprojection_weight: float = 1.0
    consistency_weight: float = 0.2
    likelihood_weight: float = 0.1
    clamp_px: float = 25.0


@dataclass(frozen=True)
class RegressionConfig:
    """The pose-regression baseline, in place of stages A and B.

    Its head is `network.regressor.RegressionHead`.

    Attributes:
        iterations: Steps; 0 skips the stage.
        max_seconds: The schedule ends after this time if not before; 0 sets no limit.
        batch_images: Images per step and process.
        learning_rate: At its highest.
        weight_decay: Of AdamW.
        train_encoder: Train end to end.
        stem_blocks: 3 x 3 convolutions of stride 2 between encoder and pooling.
        pooled_cells: Features are pooled to this many cells each way.
        width: Hidden width.
        dropout: Share of the hidden numbers that a step leaves out.
    """

    iterations: int = 0
    max_seconds: float = 240.0
    batch_images: int = 8
    learning_rate: float = 5e-4
    weight_decay: float = 1e-2
    train_encoder: bool = True
    stem_blocks: int = 0
    pooled_cells: int = 1
    width: int = 1024
    dropout: float = 0.2


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides how a model comes out.

    Attributes:
        input_width: Width in pixels that the network sees; the height follows the images.
        precision: 'auto', 'float32' or 'bfloat16'; auto takes bfloat16 where the hardware has it.
        compile: Compile what learns by torch.compile, which takes a C++ compiler and a minute or
            two at the start.
        device: 'auto', 'cpu' or 'cuda'.
        seed: Of all random numbers.
        validation_fraction: Share of the training frames set aside to watch the progress.
        validation_every_s: Seconds of training between two looks at them.
        checkpoint_every_s: Seconds of training that a killed run loses at most.
    """

    input_width: int = 360
    precision: str = 'auto'
    compile: bool = False
    device: str = 'auto'
    seed: int = 0
    validation_fraction: float = 0.05
    validation_every_s: float = 20.0
    checkpoint_every_s: float = 30.0
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    landmarks: LandmarkConfig = field(default_factory=LandmarkConfig)
    localizer: LocalizerConfig = field(default_factory=LocalizerConfig)
    augmentation: ViewRange = field(default_factory=ViewRange)
    mapping: MappingConfig = field(default_factory=MappingConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
