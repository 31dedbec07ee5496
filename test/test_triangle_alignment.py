# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The closed form against singular values, on triangles of every shape."""

import pytest
import torch
from scipy.spatial.transform import Rotation

from implicit_relocalizer.geometry.kabsch import weighted_kabsch
from implicit_relocalizer.geometry.rigid import geodesic_angle
from implicit_relocalizer.geometry.triangle_alignment import align_triangles

SHAPES = {'wide': [1.0, 1.0, 1.0], 'needle': [1.0, 0.03, 0.01], 'small': [1e-3, 1e-3, 1e-3]}


def random_triangles(count, shape, noise, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(count, 3, 3, generator=generator, dtype=torch.float64)
    source = source * torch.tensor(SHAPES[shape], dtype=torch.float64)
    R = torch.from_numpy(Rotation.random(count, random_state=seed).as_matrix())
    target = source @ R.mT + torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64)
    jitter = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return source.to(dtype), (target + noise * source.std() * jitter).to(dtype), R


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('noise', [0.0, 0.02, 2.0])
def test_it_is_kabschs_alignment(shape, noise):
    source, target, _ = random_triangles(2000, shape, noise)
    R, t, degenerate = align_triangles(source, target)
    R_svd, t_svd, _ = weighted_kabsch(source, target, torch.ones_like(source[..., 0]))
    # Some needles are as good as lines.
    assert degenerate.double().mean() < (0.03 if shape == 'needle' else 0.002)
    kept = ~degenerate
    torch.testing.assert_close(R[kept], R_svd[kept], atol=2e-6, rtol=0)
    torch.testing.assert_close(t[kept], t_svd[kept], atol=2e-6, rtol=0)
    torch.testing.assert_close(R.det(), torch.ones(2000).double(), atol=2e-6, rtol=0)


def test_single_precision_far_from_the_origin():
    source, target, R_true = random_triangles(500, 'wide', 0.0, torch.float32)
    R, _, degenerate = align_triangles(source + 100.0, target - 50.0)
    assert R.dtype == torch.float32 and degenerate.double().mean() < 0.02
    angle = geodesic_angle(R.double(), R_true)[~degenerate]
    assert angle.quantile(0.95) < 1e-3  # coordinates are rounded to 8e-6


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('what', ['one spot', 'two spots', 'a line', 'nothing', 'NaN', 'infinite'])
def test_triangles_that_leave_the_rotation_open_are_flagged_and_finite(what, dtype):
    source, target, _ = random_triangles(50, 'wide', 0.0, dtype)
    if what == 'one spot':
        source = source[:, :1].expand(-1, 3, -1)
    elif what == 'two spots':
        source, target = source[:, [0, 0, 1]], target[:, [0, 0, 1]]
    elif what == 'a line':
        steps = torch.arange(3.0, dtype=dtype)[:, None]
        source, target = source[:, :1] * steps, target[:, :1] * steps
    elif what == 'nothing':
        source, target = torch.zeros_like(source), torch.zeros_like(target)
    else:
        target = target.clone()
        target[:, 2, 1] = float('nan') if what == 'NaN' else float('inf')
    R, t, degenerate = align_triangles(source, target)
    assert degenerate.all()
    assert R.equal(torch.eye(3, dtype=dtype).expand(50, 3, 3)) and t.isfinite().all()


def test_scripted_agrees():
    source, target, _ = random_triangles(20, 'wide', 0.1, torch.float32)
    for scripted, eager in zip(torch.jit.script(align_triangles)(source, target),
                               align_triangles(source, target), strict=True):
        torch.testing.assert_close(scripted, eager)
