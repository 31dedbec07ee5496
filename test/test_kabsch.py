# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Weighted Kabsch against independent solvers, its derivative, its symmetries, its edge cases."""

import pytest
import roma
import torch
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck

from implicit_relocalizer.geometry.kabsch import weighted_kabsch
from implicit_relocalizer.geometry.rigid import geodesic_angle, so3_exp, transform_points

DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-11}
DTYPES = list(TOLERANCE)


def clouds(device='cpu', dtype=torch.float64, batch=5, count=30, noise=0.1, seed=0):
    """Two noisy views of the same points, with weights, and the transform between them."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    R_b33, t_b3 = so3_exp(2 * randn(batch, 3)), 3 * randn(batch, 3)
    source_bn3 = randn(batch, count, 3) * torch.tensor([2.0, 1.0, 0.5])
    target_bn3 = transform_points(R_b33, t_b3, source_bn3) + noise * randn(batch, count, 3)
    weights_bn = torch.rand(batch, count, generator=generator, dtype=torch.float64)
    return [x.to(device, dtype) for x in (source_bn3, target_bn3, weights_bn, R_b33, t_b3)]


def cost(R_b33, t_b3, source_bn3, target_bn3, weights_bn):
    residuals_bn3 = transform_points(R_b33, t_b3, source_bn3) - target_bn3
    return (weights_bn * residuals_bn3.square().sum(-1)).sum(-1)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('noise', [0.0, 0.1, 3.0])
def test_agrees_with_scipy_and_roma(device, dtype, noise):
    source, target, weights, R_true, t_true = clouds(device, dtype, noise=noise)
    R, t, degenerate = weighted_kabsch(source, target, weights)
    assert R.dtype == t.dtype == dtype and degenerate.dtype == torch.bool
    assert not degenerate.any()
    R_roma, t_roma = roma.rigid_points_registration(source, target, weights=weights)
    tolerance = {'atol': TOLERANCE[dtype], 'rtol': 0}
    torch.testing.assert_close(R, R_roma, **tolerance)
    torch.testing.assert_close(t, t_roma, **tolerance)
    for b in range(len(R)):
        s, g, w = (x[b].cpu().double() for x in (source, target, weights))
        s_mean, g_mean = ((w[:, None] * x).sum(0) / w.sum() for x in (s, g))
        rotation, _ = Rotation.align_vectors(g - g_mean, s - s_mean, weights=w)
        R_scipy = torch.from_numpy(rotation.as_matrix())
        torch.testing.assert_close(R[b].cpu().double(), R_scipy, **tolerance)
        torch.testing.assert_close(t[b].cpu().double(), g_mean - R_scipy @ s_mean, **tolerance)
    if noise == 0.0:
        torch.testing.assert_close(R, R_true, **tolerance)
        torch.testing.assert_close(t, t_true, **tolerance)


def test_no_nearby_transform_costs_less():
    source, target, weights, _, _ = clouds(noise=1.0)
    R, t, _ = weighted_kabsch(source, target, weights)
    best = cost(R, t, source, target, weights)
    for k in range(6):
        for size in (1e-3, -1e-3, 0.3, -0.3):
            xi = torch.zeros(6, dtype=torch.float64)
            xi[k] = size
            assert (cost(R @ so3_exp(xi[3:]), t + xi[:3], source, target, weights) > best).all()


@pytest.mark.parametrize('device', DEVICES)
def test_symmetries(device):
    source, target, weights, _, _ = clouds(device, noise=0.5)
    R, t, _ = weighted_kabsch(source, target, weights)
    Q = so3_exp(torch.tensor([1.0, -2.0, 0.5], device=device, dtype=torch.float64))
    s = torch.tensor([3.0, 4.0, -5.0], device=device, dtype=torch.float64)

    def check(result, R_expected, t_expected):
        torch.testing.assert_close(result[0], R_expected, atol=1e-11, rtol=0)
        torch.testing.assert_close(result[1], t_expected, atol=1e-10, rtol=0)

    check(weighted_kabsch(source, target @ Q.mT + s, weights), Q @ R, t @ Q.mT + s)
    check(weighted_kabsch(source @ Q.mT + s, target, weights), R @ Q.mT, t - R @ Q.mT @ s)
    check(weighted_kabsch(target, source, weights), R.mT, -(R.mT @ t[..., None])[..., 0])
    for scale in (1e-12, 1e12):
        check(weighted_kabsch(source, target, weights * scale), R, t)
    order = torch.randperm(source.shape[1])
    check(weighted_kabsch(source[:, order], target[:, order], weights[:, order]), R, t)
    check(weighted_kabsch(7 * source, 7 * target, weights), R, 7 * t)
    integer = (weights * 3).floor() + 1
    repeated = [torch.cat([x[0].repeat_interleave(integer[0].long(), 0)])[None]
                for x in (source, target)]
    check(weighted_kabsch(*repeated, torch.ones_like(repeated[0][..., 0])),
          *[x[:1] for x in weighted_kabsch(source, target, integer)[:2]])


@pytest.mark.parametrize('noise', [0.0, 0.1, 2.0])
def test_derivative(noise):
    source, target, weights, _, _ = (x.requires_grad_() for x in clouds(
        batch=2, count=5, noise=noise))
    assert gradcheck(lambda *x: weighted_kabsch(*x)[:2], (source, target, weights))


def test_derivative_equals_that_through_the_svd_where_that_one_is_sound():
    inputs = [x.requires_grad_() for x in clouds(noise=0.5)[:3]]
    probe = torch.randn(5, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for solve in (lambda s, g, w: weighted_kabsch(s, g, w)[:2],
                  lambda s, g, w: roma.rigid_points_registration(s, g, weights=w)):
        R, t = solve(*inputs)
        gradients.append(torch.autograd.grad((R * probe).sum() + t.square().sum(), inputs))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def test_derivative_where_singular_values_meet():
    """A cube's corners have three equal singular values; the SVD's own derivative is infinite."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3)[None]
    R = so3_exp(torch.tensor([[0.3, 0.2, 0.1]]).double())
    inputs = (corners.clone().requires_grad_(), (corners @ R.mT).requires_grad_(),
              torch.ones(1, 8, dtype=torch.float64, requires_grad=True))
    assert gradcheck(lambda *x: weighted_kabsch(*x)[:2], inputs)


LINE = torch.linspace(-1, 1, 6).double()[:, None] * torch.tensor([0.6, -0.3, 0.74]).double() + 1
RANDOM = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
R_TRUE = so3_exp(torch.tensor([0.4, -1.0, 2.0]).double())
T_TRUE = torch.tensor([1.0, -2.0, 0.5])
ONE = torch.tensor([0.0, 0.0, 2.0, 0.0, 0.0, 0.0])
TWO = torch.tensor([0.0, 1.0, 2.0, 0.0, 0.0, 0.0])
DEGENERATE = {
    'collinear': (LINE, torch.ones(6)),
    'two points': (RANDOM[:2], torch.ones(2)),
    'two weights': (RANDOM, TWO),
    'one point': (RANDOM[:1], torch.ones(1)),
    'one weight': (RANDOM, ONE),
    'coincident': (RANDOM[:1].expand(6, 3), torch.ones(6)),
    'zero weights': (RANDOM, torch.zeros(6)),
    'negative weights': (RANDOM, -torch.ones(6)),
    'no points': (RANDOM[:0], torch.ones(0)),
}


def solve_with_gradients(source, target, weights):
    inputs = [x.clone().requires_grad_() for x in (source, target, weights)]
    R, t, degenerate = weighted_kabsch(*inputs)
    probe = torch.linspace(-1, 2, 9, device=R.device, dtype=R.dtype).reshape(3, 3)
    gradients = torch.autograd.grad((R * probe).sum() + t.sum(), inputs)
    for value in (R, t, *gradients):
        assert torch.isfinite(value).all()
    eye = torch.eye(3, device=R.device, dtype=R.dtype).expand_as(R)
    torch.testing.assert_close(R @ R.mT, eye, atol=1e-5, rtol=0)
    assert (torch.linalg.det(R) > 0).all()
    return R.detach(), t.detach(), degenerate


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('offset', [0.0, 1e4])
@pytest.mark.parametrize('name', DEGENERATE)
def test_degenerate_sets_are_flagged_and_get_some_best_transform(device, dtype, offset, name):
    points, weights = (x.to(device, dtype)[None] for x in DEGENERATE[name])
    source = points + offset
    R_true, t_true = R_TRUE.to(device, dtype), T_TRUE.to(device, dtype)
    target = points @ R_true.mT + t_true + offset
    R, t, degenerate = solve_with_gradients(source, target, weights)
    assert degenerate.all()
    remaining = cost(R, t, source, target, weights.clamp(min=0)).item()
    reach = 1 + offset
    assert remaining < 6 * (30 * torch.finfo(dtype).eps * reach) ** 2
    if name not in ('collinear', 'two points', 'two weights'):
        torch.testing.assert_close(R[0], torch.eye(3, device=device, dtype=dtype))


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('count', [3, 4, 20])
def test_coplanar_sets_are_exact_and_not_degenerate(device, dtype, count):
    source, _, weights, R_true, t_true = clouds(device, dtype, count=count, seed=count)
    source = source * torch.tensor([1.0, 1.0, 0.0], device=device, dtype=dtype) @ R_true.mT
    target = transform_points(R_true, t_true, source)
    R, t, degenerate = solve_with_gradients(source, target, weights)
    assert not degenerate.any()
    tolerance = 5e-5 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(R, R_true, atol=tolerance, rtol=0)
    torch.testing.assert_close(t, t_true, atol=tolerance, rtol=0)


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_reflected_target_gets_the_best_proper_rotation(dtype):
    source, _, weights, R_true, t_true = clouds(dtype=dtype)
    mirror = torch.tensor([1.0, 1.0, -1.0], dtype=dtype)
    target = transform_points(R_true, t_true, source * mirror)
    R, t, degenerate = solve_with_gradients(source, target, weights)
    assert not degenerate.any()
    R_roma, t_roma = roma.rigid_points_registration(source, target, weights=weights)
    torch.testing.assert_close(R, R_roma, atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(t, t_roma, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_reflection_without_a_preferred_side_is_flagged(dtype):
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=dtype)] * 3)[None]
    _, _, degenerate = solve_with_gradients(corners, -corners, torch.ones(1, 8, dtype=dtype))
    assert degenerate.all()


@pytest.mark.parametrize('dtype', DTYPES)
def test_offsets_of_kilometres_leave_the_rotation_alone(dtype):
    source, target, weights, _, _ = clouds(dtype=dtype, noise=0.0)
    R, _, _ = weighted_kabsch(source, target, weights)
    R_far, t_far, degenerate = solve_with_gradients(source + 1e4, target - 1e4, weights)
    assert not degenerate.any()
    rounding = torch.finfo(dtype).eps * 1e4
    assert geodesic_angle(R, R_far).max() < 2 * rounding
    assert cost(R_far, t_far, source + 1e4, target - 1e4, weights / weights.sum(-1, keepdim=True)
                ).sqrt().max() < 10 * rounding


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_huge_outlier_and_points_that_are_no_numbers(dtype):
    source, target, weights, R_true, _ = clouds(dtype=dtype, noise=0.0)
    for value in (1e6, 1e14):
        spoilt = target.clone()
        spoilt[:, 3] = value
        solve_with_gradients(source, spoilt, weights)
    for value in (float('nan'), float('inf'), -float('inf'), 1e30):
        for tensors in ((source, target, weights), (target, source, weights)):
            spoilt = tensors[1].clone()
            spoilt[:, 3, 1] = value
            R, t, degenerate = weighted_kabsch(tensors[0], spoilt, tensors[2])
            without = [torch.cat([x[:, :3], x[:, 4:]], 1) for x in tensors]
            R_without, t_without, _ = weighted_kabsch(*without)
            torch.testing.assert_close(R, R_without, atol=TOLERANCE[dtype], rtol=0)
            torch.testing.assert_close(t, t_without, atol=TOLERANCE[dtype], rtol=0)
            assert not degenerate.any()
    weights[:, 3] = float('nan')
    R, t, _ = weighted_kabsch(source, target, weights)
    torch.testing.assert_close(R, R_true, atol=TOLERANCE[dtype], rtol=0)


def test_one_bad_set_does_not_touch_the_others_of_its_batch():
    inputs = clouds()[:3]
    R_alone, t_alone, _ = weighted_kabsch(*inputs)
    spoilt = [x.clone().requires_grad_() for x in inputs]
    with torch.no_grad():
        spoilt[0][2] = float('nan')
        spoilt[2][3] = 0.0
    R, t, degenerate = weighted_kabsch(*spoilt)
    assert degenerate.tolist() == [False, False, True, True, False]
    torch.testing.assert_close(R[[0, 1, 4]], R_alone[[0, 1, 4]])
    torch.testing.assert_close(t[[0, 1, 4]], t_alone[[0, 1, 4]])
    (R.sum() + t.sum()).backward()
    assert all(torch.isfinite(x.grad).all() for x in spoilt)


def test_half_precision_is_computed_in_single():
    source, target, weights, _, _ = clouds(dtype=torch.bfloat16)
    R, t, _ = weighted_kabsch(source, target, weights)
    expected = weighted_kabsch(source.double(), target.double(), weights.double())
    assert R.dtype == t.dtype == torch.float32
    torch.testing.assert_close(R.double(), expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(t.double(), expected[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize('device', DEVICES)
def test_autocast_does_not_coarsen_the_result(device):
    inputs = clouds(device, torch.float32)[:3]
    plain = weighted_kabsch(*inputs)
    with torch.autocast(device, torch.bfloat16):
        mixed = weighted_kabsch(*inputs)
    torch.testing.assert_close(mixed[0], plain[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed[1], plain[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('lead', [(), (2,), (2, 3)])
def test_scripted_agrees_in_value_and_gradient_for_any_leading_dimensions(device, lead):
    scripted = torch.jit.script(weighted_kabsch)
    generator = torch.Generator().manual_seed(7)
    inputs = [torch.rand(*lead, *shape, generator=generator).to(device).requires_grad_()
              for shape in ((9, 3), (9, 3), (9,))]
    for _ in range(4):  # the profiling executor optimises from the third call on
        results = [f(*inputs) for f in (scripted, weighted_kabsch)]
        torch.testing.assert_close(*results)
        assert results[0][0].shape == (*lead, 3, 3) and results[0][2].shape == lead
        gradients = [torch.autograd.grad(R[..., 0].sum() + t.square().sum(), inputs)
                     for R, t, _ in results]
        torch.testing.assert_close(*gradients)
        with torch.no_grad():
            torch.testing.assert_close(scripted(*inputs)[:2], results[1][:2])
