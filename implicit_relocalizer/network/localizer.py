# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The end-to-end module: camera image and intrinsics in, pose and everything behind it out."""

from typing import Dict, Tuple

import torch
from torch import Tensor, nn

from implicit_relocalizer.geometry.camera import resize_intrinsics, unproject
from implicit_relocalizer.geometry.hypotheses import (
    draw_indices,
    point_shares,
    share_in_agreement,
    share_of_inliers,
    squared_projection_errors,
    three_point_hypotheses,
)
from implicit_relocalizer.geometry.kabsch import weighted_kabsch
from implicit_relocalizer.geometry.linearisation import homogeneous_points
from implicit_relocalizer.geometry.pose_covariance import covariance_of_rows
from implicit_relocalizer.geometry.refinement import errors_of, refine_and_linearise
from implicit_relocalizer.network.calibration import Calibration, answer_features
from implicit_relocalizer.network.encoders import Encoder
from implicit_relocalizer.network.heads import CloudHead
from implicit_relocalizer.network.image_input import resize_image

ALIGNMENTS = ('refined', 'kabsch')


class Localizer(nn.Module):
    """Image -> two point clouds -> pose.

    Hypotheses and refinement follow section III of Altillawi et al., RA-L 2024 up to the two
    clouds; the single weighted Kabsch alignment is replaced by many on three points each, scored
    and refined by reprojection.

    Args:
        encoder: Image -> features of points in the image.
        head: A `PointHead` or `LandmarkHead`: features -> points in a local frame (the world's
            axes, `origin_world_3` its origin).
        input_size: Width and height in pixels that the network sees.
        nominal_focal_px: Focal length at that size for which the head predicts depth.
        origin_world_3: float64, metres.
        alignment: 'refined' (hypotheses and refinement) or 'kabsch' (the paper's one weighted
            Kabsch alignment of all points).
        hypothesis_count: Three-point alignments tried per image.
        refined_count: The best of them that are refined.
    """

    uniforms_h3: Tensor
    origin_world_3: Tensor

    def __init__(self, encoder: Encoder, head: CloudHead, input_size: Tuple[int, int],
                 nominal_focal_px: float, origin_world_3: Tensor, alignment: str = 'refined',
                 hypothesis_count: int = 192, refined_count: int = 2) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.input_width, self.input_height = int(input_size[0]), int(input_size[1])
        self.nominal_focal_px = float(nominal_focal_px)
        self.alignment = alignment
        self.refined_count = refined_count
        self.iterations = 4
        self.scored_points = 100
        # thresholds are for an image 360 px wide
        self.pixel_scale = self.input_width / 360.0
        self.calibration = Calibration()
        generator = torch.Generator().manual_seed(0)
        uniforms = torch.rand(hypothesis_count, 3, generator=generator)
        self.register_buffer('uniforms_h3', uniforms)
        self.register_buffer('origin_world_3', origin_world_3.double().clone())

    def forward(self, image_hw3: Tensor, K_33: Tensor) -> Dict[str, Tensor]:
        """Localize one image.

        Args:
            image_hw3: uint8 RGB, any resolution of the training images' aspect ratio.
            K_33: Pinhole intrinsics of that image, pixel centres at integers.

        Returns:
            R_world_camera (3, 3) and t_world_camera (3), float64, camera-to-world, metres;
            covariance (6, 6) of x y z and rotations about the world's axes, m^2 and rad^2;
            confidence in [0, 1]: a raw score unless calibrated; raw_covariance and features (F),
            of which a calibration makes both; per point points_world (N, 3) and points_camera
            (N, 3) in metres, weights (N), pixels (N, 2) in the given image and
            reprojection_error_px (N) at the network's input size; inlier_fraction.
        """
        image, K_b33 = self.prepare(image_hw3, K_33)
        points_world, points_camera, weights, pixels = self.predict(image, K_b33)
        R_h33, t_h3, scores_h, points_14n, shares = self.hypothesize(
            points_world, points_camera, weights, pixels, K_b33)
        R, t, rows, squared = self.refine(
            R_h33, t_h3, scores_h, points_14n, shares, points_world, points_camera, weights,
            pixels, K_b33)
        confidence, covariance, features, raw_covariance, inlier_fraction = self.assess(
            R, t, rows, squared, R_h33, t_h3, scores_h, points_14n, shares, points_world,
            points_camera, weights, pixels, K_b33)
        x_n1, y_n1 = (pixels[0] + 0.5).split(1, dim=1)
        given_n2 = torch.cat([x_n1 * (image_hw3.shape[1] / self.input_width),
                              y_n1 * (image_hw3.shape[0] / self.input_height)], dim=1) - 0.5
        origin = self.origin_world_3
        return {
            'R_world_camera': R[0].double(),
            't_world_camera': t[0].double() + origin,
            'covariance': covariance,
            'confidence': confidence,
            'raw_covariance': raw_covariance,
            'features': features,
            'points_world': points_world[0].double() + origin,
            'points_camera': points_camera[0],
            'weights': weights[0],
            'pixels': given_n2,
            'reprojection_error_px': errors_of(squared[0]),
            'inlier_fraction': inlier_fraction,
        }

    def prepare(self, image_hw3: Tensor, K_33: Tensor) -> Tuple[Tensor, Tensor]:
        """Resize to the network's input: (1, 3, H, W) as `resize_image`, (1, 3, 3) intrinsics."""
        scale_x = self.input_width / image_hw3.shape[1]
        scale_y = self.input_height / image_hw3.shape[0]
        image = resize_image(image_hw3, self.input_width, self.input_height)
        return image, resize_intrinsics(K_33.float().unsqueeze(0), scale_x, scale_y)

    def encode(self, images_b3hw: Tensor) -> Tuple[Tensor, Tensor]:
        """`Encoder.sample`: features_bnc and pixels_bn2."""
        return self.encoder.sample(images_b3hw)

    def interpret(self, features_bnc: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """`CloudHead.forward`: points_world_bn3, log_depth_bn and log_error_bn."""
        return self.head(features_bnc)

    def predict(self, images_b3hw: Tensor, K_b33: Tensor,
                ) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both clouds (local world frame and camera frame, metres), weights and pixels."""
        features, pixels_bn2 = self.encode(images_b3hw)
        points_world, log_depth, log_error = self.interpret(features)
        zoom_b1 = (K_b33[:, 0, 0] / self.nominal_focal_px).unsqueeze(1)
        depth = torch.exp(log_depth) * zoom_b1
        rays = unproject(pixels_bn2, K_b33)
        return points_world, rays * depth.unsqueeze(-1), error_weights(log_error), pixels_bn2

    def hypothesize(self, points_world_1n3: Tensor, points_camera_1n3: Tensor, weights_1n: Tensor,
                    pixels_1n2: Tensor, K_133: Tensor,
                    ) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Poses to begin with.

        Returns:
            R_h33, t_h3 and scores_h, the weight of soft inliers of each among some of the points;
            points_14n, homogeneous and of usable points only, and shares_1n, the weights with the
            sum 1.
        """
        shares_1n = point_shares(weights_1n)
        points_14n = homogeneous_points(points_world_1n3)
        if self.alignment == 'kabsch':
            R, t, _ = weighted_kabsch(points_camera_1n3, points_world_1n3, weights_1n)
            return R, t, torch.ones_like(t[:, 0]), points_14n, shares_1n.to(weights_1n.dtype)
        indices = draw_indices(shares_1n, self.uniforms_h3)
        shares_1n = shares_1n.to(weights_1n.dtype)
        R, t, degenerate = three_point_hypotheses(points_camera_1n3, points_world_1n3, indices)
        # Few points tell a good hypothesis from a bad one: time is better spent on more of them.
        step = (shares_1n.shape[1] - 1) // self.scored_points + 1
        squared = squared_projection_errors(R, t, points_14n[..., ::step].contiguous(),
                                            pixels_1n2.transpose(1, 2)[..., ::step], K_133)
        scores = share_of_inliers(squared, shares_1n[..., ::step], 10.0 * self.pixel_scale)
        return R[0], t[0], scores.masked_fill(degenerate, -1.0)[0], points_14n, shares_1n

    def refine(self, R_h33: Tensor, t_h3: Tensor, scores_h: Tensor, points_14n: Tensor,
               shares_1n: Tensor, points_world_1n3: Tensor, points_camera_1n3: Tensor,
               weights_1n: Tensor, pixels_1n2: Tensor, K_133: Tensor,
               ) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """The best of the best hypotheses, refined.

        Returns:
            R_133, t_13, rows_172n and squared_errors_1n as `refine_and_linearise` has them.
        """
        count, iterations = self.refined_count, self.iterations
        if self.alignment == 'kabsch':
            count, iterations = 1, 0
        chosen = scores_h.topk(count)[1]
        R_k, t_k, rows_k, squared_k, cost_k = refine_and_linearise(
            R_h33.index_select(0, chosen), t_h3.index_select(0, chosen), points_14n,
            pixels_1n2.transpose(1, 2), K_133, shares_1n, iterations,
            3.0 * self.pixel_scale, 20.0 * self.pixel_scale)
        if count > 1:
            # A tensor of one number: asking for it would wait for a GPU.
            best = cost_k.argmin(0, keepdim=True)
            R_k, t_k = R_k.index_select(0, best), t_k.index_select(0, best)
            rows_k, squared_k = rows_k.index_select(0, best), squared_k.index_select(0, best)
        return R_k, t_k, rows_k, squared_k

    def assess(self, R_133: Tensor, t_13: Tensor, rows_172n: Tensor, squared_1n: Tensor,
               R_h33: Tensor, t_h3: Tensor, scores_h: Tensor, points_14n: Tensor,
               shares_1n: Tensor, points_world_1n3: Tensor, points_camera_1n3: Tensor,
               weights_1n: Tensor, pixels_1n2: Tensor, K_133: Tensor,
               ) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Confidence, covariance, what they are made of (features, raw covariance), inliers.

        Args are what `refine`, `hypothesize` and `predict` returned, in this order.
        """
        agreement = scores_h[0]
        if self.alignment != 'kabsch':
            depth_m = points_camera_1n3[0, :, 2].sum() / points_camera_1n3.shape[1]
            agreement = share_in_agreement(R_h33, t_h3, scores_h, R_133, t_13, depth_m)
        weights_n, squared_n = shares_1n[0], squared_1n[0]
        inlier_px = 5.0 * self.pixel_scale
        is_inlier_n = (squared_n < inlier_px * inlier_px).to(weights_n.dtype)
        share = torch.dot(is_inlier_n, weights_n)
        raw_covariance = covariance_of_rows(rows_172n, squared_n, weights_n, R_133,
                                            3.0 * self.pixel_scale)
        features = answer_features(
            R_133[0], t_13[0], points_world_1n3[0], points_camera_1n3[0], weights_n,
            pixels_1n2[0], squared_n, inlier_px, float(self.input_width),
            raw_covariance[:3, :3], agreement,
            self.calibration.outside_m(t_13[0].double() + self.origin_world_3))
        confidence, covariance = self.calibration(features, share, raw_covariance)
        inlier_fraction = is_inlier_n.sum() / is_inlier_n.shape[0]
        return confidence, covariance, features, raw_covariance, inlier_fraction


def error_weights(log_error_bn: Tensor) -> Tensor:
    """Weights exp(-2 log error), capped at ten times their median per image."""
    weights = torch.exp(-2.0 * log_error_bn)
    cap = 10.0 * weights.median(dim=-1, keepdim=True)[0]
    return torch.minimum(weights, cap)
