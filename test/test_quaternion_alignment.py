# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The closed form against singular values, on sets of every shape."""

import pytest
import torch
from scipy.spatial.transform import Rotation

from implicit_relocalizer.geometry.kabsch import weighted_kabsch
from implicit_relocalizer.geometry.quaternion_alignment import quaternion_alignment
from implicit_relocalizer.geometry.rigid import geodesic_angle

SHAPES = {'solid': [1.0, 1.0, 1.0], 'flat': [1.0, 1.0, 0.0], 'needle': [1.0, 0.03, 0.01],
          'small': [1e-3, 1e-3, 1e-3]}


def random_sets(count, shape, noise, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(count, 4, 3, generator=generator, dtype=torch.float64)
    source = source * torch.tensor(SHAPES[shape], dtype=torch.float64)
    R = torch.from_numpy(Rotation.random(count, random_state=seed).as_matrix())
    target = source @ R.mT + torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64)
    jitter = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return source.to(dtype), (target + noise * source.std() * jitter).to(dtype), R


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('noise', [0.0, 0.02, 2.0])
def test_it_is_kabschs_alignment(shape, noise):
    source, target, _ = random_sets(2000, shape, noise)
    R, t, degenerate = quaternion_alignment(source, target)
    R_svd, t_svd, _ = weighted_kabsch(source, target, torch.ones_like(source[..., 0]))
    assert degenerate.double().mean() < 0.01
    kept = ~degenerate
    torch.testing.assert_close(R[kept], R_svd[kept], atol=2e-6, rtol=0)
    torch.testing.assert_close(t[kept], t_svd[kept], atol=2e-6, rtol=0)
    torch.testing.assert_close(R.det(), torch.ones(2000).double(), atol=2e-6, rtol=0)


def test_single_precision_far_from_the_origin():
    source, target, R_true = random_sets(500, 'solid', 0.0, torch.float32)
    R, _, degenerate = quaternion_alignment(source + 100.0, target - 50.0)
    assert R.dtype == torch.float32 and not degenerate.any()
    angle = geodesic_angle(R.double(), R_true)
    assert angle.quantile(0.99) < 2e-3  # coordinates are rounded to 8e-6


@pytest.mark.parametrize('what', ['one spot', 'a line', 'nothing', 'NaN', 'infinite', 'a mirror'])
def test_sets_that_leave_the_rotation_open_are_flagged_and_finite(what):
    source, target, _ = random_sets(50, 'solid', 0.0)
    if what == 'one spot':
        source = source[:, :1].expand(-1, 4, -1)
    elif what == 'a line':
        steps = torch.arange(4.0, dtype=torch.float64)[:, None]
        source, target = source[:, :1] * steps, target[:, :1] * steps
    elif what == 'nothing':
        source, target = torch.zeros_like(source), torch.zeros_like(target)
    elif what == 'a mirror':  # of a regular tetrahedron, which has no preferred side
        corners = [[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
        source = torch.tensor(corners, dtype=torch.float64).expand(50, -1, -1)
        target = -source
    else:
        target = target.clone()
        target[:, 2, 1] = float('nan') if what == 'NaN' else float('inf')
    R, t, degenerate = quaternion_alignment(source, target)
    assert degenerate.all()
    assert R.equal(torch.eye(3).double().expand(50, 3, 3)) and t.isfinite().all()


def test_scripted_agrees():
    source, target, _ = random_sets(20, 'flat', 0.1, torch.float32)
    for scripted, eager in zip(torch.jit.script(quaternion_alignment)(source, target),
                               quaternion_alignment(source, target), strict=True):
        torch.testing.assert_close(scripted, eager)
