# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""How far an answer can be relied on: its features, and what a calibration makes of them.

It is a part of the model, so that whoever runs the file gets numbers that hold. Before a
calibration was fitted (`evaluation.calibration_fit`) the confidence is a raw score and the
covariance that of the last alignment, widened as three places had it.
"""

import math
from typing import Sequence, Tuple

import torch
from torch import Tensor, nn

FEATURES = ('share', 'count', 'deviation', 'residual', 'spread', 'depth', 'agreement', 'outside')
# Beyond this many standard deviations of what it was fitted on, an answer counts as at the edge.
MOST_Z = 4.0
# By what standard deviations are multiplied before a calibration was fitted: on three places the
# alignment's own covariance, which knows nothing of errors that neighbouring landmarks share, was
# too small by 1.3 to 2.6.
UNCALIBRATED_SCALE = 2.0


class Calibration(nn.Module):
    """Features of an answer -> probability that it is good, and a covariance that holds.

    With z = (features - mean) / scale, the probability is the logistic function of
    w_0 + w z; standard deviations of position and of rotation are those of the alignment, each
    multiplied by its own number. Correlations stay.
    """

    is_fitted: Tensor
    mean_f: Tensor
    scale_f: Tensor
    confidence_weights_g: Tensor
    log_scale_2: Tensor
    position_min_3: Tensor
    position_max_3: Tensor

    def __init__(self) -> None:
        super().__init__()
        count = len(FEATURES)
        self.most_z = MOST_Z
        double = torch.float64
        self.register_buffer('is_fitted', torch.zeros((), dtype=torch.bool))
        self.register_buffer('mean_f', torch.zeros(count, dtype=double))
        self.register_buffer('scale_f', torch.ones(count, dtype=double))
        self.register_buffer('confidence_weights_g', torch.zeros(count + 1, dtype=double))
        # Of position and of rotation.
        self.register_buffer('log_scale_2', torch.full((2,), math.log(UNCALIBRATED_SCALE),
                                                       dtype=double))
        # World frame, metres. Before they are known no place is outside.
        self.register_buffer('position_min_3', torch.full((3,), -1e9, dtype=double))
        self.register_buffer('position_max_3', torch.full((3,), 1e9, dtype=double))

    def forward(self, features_f: Tensor, raw_confidence: Tensor,
                raw_covariance_66: Tensor) -> Tuple[Tensor, Tensor]:
        """Confidence and covariance; the confidence is the raw one until it is fitted."""
        z_f = ((features_f - self.mean_f) / self.scale_f).clamp(-self.most_z, self.most_z)
        one_z_g = torch.cat([torch.ones_like(z_f[:1]), z_f])
        probability = torch.sigmoid((self.confidence_weights_g * one_z_g).sum())
        confidence = torch.where(self.is_fitted, probability.to(raw_confidence.dtype),
                                 raw_confidence)
        scale_6 = torch.exp(self.log_scale_2).repeat_interleave(3)
        return confidence, raw_covariance_66 * scale_6.unsqueeze(0) * scale_6.unsqueeze(1)

    @torch.jit.export
    def outside_m(self, position_3: Tensor) -> Tensor:
        """How far a position (float64, metres, world frame) is from where cameras have been."""
        below = self.position_min_3 - position_3
        above = position_3 - self.position_max_3
        return torch.linalg.vector_norm(torch.maximum(below, above).clamp(min=0.0))


def has_calibration(module: nn.Module) -> bool:
    """Whether a module, such as one of a model file, has a calibration of this version."""
    calibration = getattr(module, 'calibration', None)
    return isinstance(calibration, nn.Module) and (
        {name: buffer.shape for name, buffer in calibration.named_buffers()}
        == {name: buffer.shape for name, buffer in Calibration().named_buffers()})


@torch.no_grad()
def start_anew(calibration: nn.Module, position_min_m: Sequence[float],
               position_max_m: Sequence[float]) -> None:
    """Forget what was fitted; the box is that of the training cameras, metres, world frame.

    A function, because methods that are not TorchScript are lost in a model file.
    """
    buffers = dict(calibration.named_buffers())
    buffers['is_fitted'].fill_(False)
    buffers['log_scale_2'].fill_(math.log(UNCALIBRATED_SCALE))
    for name, position_m in (('position_min_3', position_min_m),
                             ('position_max_3', position_max_m)):
        buffers[name].copy_(torch.tensor(position_m, dtype=torch.float64))


def answer_features(R_world_camera_33: Tensor, t_world_camera_3: Tensor, points_world_n3: Tensor,
                    points_camera_n3: Tensor, weights_n: Tensor, pixels_n2: Tensor,
                    squared_errors_n: Tensor, inlier_px: float, input_width: float,
                    position_covariance_33: Tensor, agreement: Tensor,
                    outside_m: Tensor) -> Tensor:
    """The features of one answer, float64, in the order of FEATURES.

    share: log odds of the weight of points that agree with the pose;
    count: log of how many those are, (sum w)^2 / sum w^2;
    deviation: log of the position's standard deviation by the alignment's own covariance, metres;
    residual: log of their weighted root mean square error, in units of the inlier limit;
    spread: log of the smaller standard deviation of their pixels, as a share of the width;
    depth: the mean of the log of the difference of the two clouds over depth, once aligned;
    agreement: log odds of the other hypotheses' score that tells of the same pose;
    outside: log(1 + metres) outside of where cameras have been.

    Args:
        R_world_camera_33, t_world_camera_3: The answer.
        points_world_n3, points_camera_n3: Both clouds, metres, in one world frame with it.
        weights_n: Of the points.
        pixels_n2: At the network's input size, as is all that is in pixels.
        squared_errors_n: Reprojection errors, squared.
        inlier_px: Points with a smaller error agree.
        input_width: Of the network's input.
        position_covariance_33: By the alignment, m^2.
        agreement: Of the hypotheses, see `share_in_agreement`.
        outside_m: From where cameras have been.
    """
    # Few operations on all at once: a hundred small ones took as long as a network of that size.
    inlier_px2 = inlier_px * inlier_px
    agreeing_n = weights_n * (squared_errors_n < inlier_px2)
    agreed = agreeing_n.sum()
    aligned_n3 = torch.addmm(t_world_camera_3, points_camera_n3, R_world_camera_33.t())
    apart_n1 = torch.linalg.vector_norm(aligned_n3 - points_world_n3, dim=1, keepdim=True)
    depth_n1 = torch.linalg.vector_norm(points_camera_n3, dim=1, keepdim=True)
    disagreement_n1 = (apart_n1 / depth_n1).clamp(1e-4, 1e4).log()
    x_n1, y_n1 = (pixels_n2 / input_width).split(1, dim=1)
    share_n = agreeing_n / agreed.clamp(min=1e-12)
    columns_n8 = torch.cat([x_n1, y_n1, x_n1 * x_n1, y_n1 * y_n1, x_n1 * y_n1,
                            squared_errors_n.unsqueeze(1), disagreement_n1,
                            share_n.unsqueeze(1)], dim=1).double()  # after, not one by one
    share_n = share_n.double()
    x, y, xx, yy, xy, squared, disagreement, per_count = torch.mv(columns_n8.t(), share_n).unbind()
    xx, yy, xy = xx - x * x, yy - y * y, xy - x * y
    # The smaller eigenvalue of [[xx, xy], [xy, yy]].
    spread = 0.5 * (xx + yy - torch.hypot(xx - yy, xy + xy))
    share = agreed / weights_n.sum().clamp(min=1e-12)
    shares_2 = torch.stack([share, agreement]).double().clamp(1e-3, 1.0 - 1e-3)
    odds, agreement_odds = (shares_2 / (1.0 - shares_2)).unbind()
    count = share_n.sum() / per_count.clamp(min=1e-9)  # of no points 0
    values_f = torch.stack([odds, count, torch.trace(position_covariance_33) / 3.0,
                            squared / inlier_px2, spread, disagreement.exp(), agreement_odds,
                            outside_m])
    table = [[1e-3, 1.0, 1e-8, 1e-6, 1e-8, 1e-4, 1e-3, 1.0],
             [1e3, 1e9, 1e6, 1e6, 1.0, 1e4, 1e3, 1e6],
             [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
             [1.0, 1.0, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0]]
    table_4f = torch.tensor(table, dtype=torch.float64).to(values_f)
    values_f = torch.clamp(values_f + table_4f[2], table_4f[0], table_4f[1])
    return (torch.log(values_f) * table_4f[3]).nan_to_num(0.0, 20.0, -20.0)
