# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Virtual views against a room whose every view can be rendered: labels must be exact."""

import math

import pytest
import torch
from box_room import IMAGE_SIZE, K_33, BoxRoom, camera_pose

from implicit_relocalizer.data.augmentation import (
    ViewRange,
    draw_views,
    real_views,
    warp_to_view,
)

WIDTH, HEIGHT = IMAGE_SIZE
NO_LIGHT = {'brightness': 0.0, 'contrast': 0.0}
POSES = [camera_pose((1.4, 1.5, 1.3), 15.0, -5.0), camera_pose((1.0, 1.0, 1.2), -20.0, 8.0),
         camera_pose((2.0, 1.2, 1.0), 100.0, 3.0)]


@pytest.fixture(scope='module')
def room() -> BoxRoom:
    return BoxRoom()


@pytest.fixture(scope='module')
def labelled(room):
    """Images, K, R and t of three cameras."""
    images = [torch.from_numpy(room.render(T)[0]).permute(2, 0, 1) / 255.0 for T in POSES]
    T_b44 = torch.stack([torch.from_numpy(T) for T in POSES]).float()
    K_b33 = torch.from_numpy(K_33).float().repeat(3, 1, 1)
    return torch.stack(images), K_b33, T_b44[:, :3, :3], T_b44[:, :3, 3]


def views_of(labelled, seed=0, view_size=IMAGE_SIZE, **limits):
    return draw_views(*labelled, ViewRange(**{**NO_LIGHT, **limits}), view_size,
                      torch.Generator().manual_seed(seed))


def render_view(room, views, index, size=IMAGE_SIZE, shift_px=0.0):
    """What a camera with the view's labels really sees."""
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3] = views.R_world_camera_b33[index]
    T[:3, 3] = views.t_world_camera_b3[index]
    K = views.K_b33[index].double()
    K[0, 2] += shift_px
    image, _ = room.render(T.numpy(), K.numpy(), size)
    return torch.from_numpy(image).permute(2, 0, 1) / 255.0


def difference(first, second, valid):
    return (first - second).abs().mean(dim=0)[valid].mean().item()


LIMITS = {'roll': {'roll_deg': 30.0, 'tilt_deg': 0.0, 'zoom': 1.0, 'shift': 0.0},
          'tilt': {'roll_deg': 0.0, 'tilt_deg': 20.0, 'zoom': 1.0, 'shift': 0.0},
          'zoom': {'roll_deg': 0.0, 'tilt_deg': 0.0, 'zoom': 1.5, 'shift': 0.0},
          'shift': {'roll_deg': 0.0, 'tilt_deg': 0.0, 'zoom': 1.0, 'shift': 0.3},
          'default': {}}


@pytest.mark.parametrize('name', LIMITS)
@pytest.mark.parametrize('seed', [0, 1])
def test_a_view_is_what_a_camera_with_its_labels_sees(room, labelled, name, seed):
    """Sub-pixel: a label that is off by a third of a pixel fits the image worse."""
    views = views_of(labelled, seed, **LIMITS[name])
    for index in range(3):
        valid = views.valid_bhw[index]
        assert valid.float().mean() > 0.3
        image = views.images_b3hw[index]
        error = difference(image, render_view(room, views, index), valid)
        assert error < 0.012
        for shift_px in (-0.35, 0.35):
            shifted = render_view(room, views, index, shift_px=shift_px)
            assert difference(image, shifted, valid) > 1.2 * error


def test_views_differ_and_keep_the_position(labelled):
    views = views_of(labelled)
    assert torch.equal(views.t_world_camera_b3, labelled[3])
    assert (views.R_world_camera_b33 - labelled[2]).abs().amax(dim=(1, 2)).min() > 0.01
    turns = torch.linalg.det(views.R_world_camera_b33)
    torch.testing.assert_close(turns, torch.ones(3))
    assert not torch.equal(views.images_b3hw, views_of(labelled, seed=5).images_b3hw)
    assert torch.equal(views.images_b3hw, views_of(labelled).images_b3hw), 'one seed, one view'


def test_limits_are_kept(labelled):
    limits = {'roll_deg': 12.0, 'tilt_deg': 0.0, 'zoom': 1.3, 'shift': 0.1}
    for seed in range(20):
        views = views_of(labelled, seed, **limits)
        turn = labelled[2].transpose(1, 2) @ views.R_world_camera_b33
        angle = torch.rad2deg(torch.atan2(turn[:, 1, 0], turn[:, 0, 0]))
        assert angle.abs().max() <= 12.0 + 1e-3
        zoom = views.K_b33[:, 0, 0] / K_33[0, 0]
        assert zoom.max() <= 1.3 + 1e-5 and zoom.min() >= 1 / 1.3 - 1e-5
        torch.testing.assert_close(views.K_b33[:, 1, 1], views.K_b33[:, 0, 0])
        move = views.K_b33[:, :2, 2] - labelled[1][:, :2, 2]
        assert move[:, 0].abs().max() <= 0.1 * WIDTH and move[:, 1].abs().max() <= 0.1 * HEIGHT


def test_limits_of_nothing_give_the_image_itself(labelled):
    views = views_of(labelled, roll_deg=0.0, tilt_deg=0.0, zoom=1.0, shift=0.0)
    torch.testing.assert_close(views.images_b3hw, labelled[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(views.K_b33, labelled[1])
    torch.testing.assert_close(views.R_world_camera_b33, labelled[2])
    inner = views.valid_bhw[:, 1:-1, 1:-1]
    assert inner.all(), 'rounding may cost the outermost pixels only'


def test_light_changes_colours_only(labelled):
    still = {'roll_deg': 0.0, 'tilt_deg': 0.0, 'zoom': 1.0, 'shift': 0.0}
    views = draw_views(*labelled, ViewRange(**still, brightness=0.3, contrast=0.3), IMAGE_SIZE,
                       torch.Generator().manual_seed(1))
    assert torch.equal(views.K_b33, views_of(labelled, 1, **still).K_b33)
    for changed, original in zip(views.images_b3hw, labelled[0], strict=True):
        assert (changed - original).abs().max() > 0.02
        order = original.flatten().argsort()
        assert (changed.flatten()[order].diff() >= -1e-3).all(), 'brighter stays brighter'
    assert views.images_b3hw.min() >= 0.0 and views.images_b3hw.max() <= 1.0


def test_the_valid_mask_is_what_projects_into_the_real_image(labelled):
    views = views_of(labelled, 3, roll_deg=25.0, tilt_deg=15.0, zoom=1.4, shift=0.2)
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing='ij')
    rays = torch.stack([x, y, torch.ones_like(x)], -1).double().reshape(-1, 3)
    for index in range(3):
        rays_world = (rays @ torch.linalg.inv(views.K_b33[index].double()).T
                      @ views.R_world_camera_b33[index].double().T)
        seen = rays_world @ labelled[2][index].double() @ labelled[1][index].double().T
        u, v = seen[:, 0] / seen[:, 2], seen[:, 1] / seen[:, 2]
        inside = (seen[:, 2] > 0) & (u >= 0) & (u <= WIDTH - 1) & (v >= 0) & (v <= HEIGHT - 1)
        actual = views.valid_bhw[index].flatten()
        edge = torch.minimum(torch.minimum(u.abs(), (u - WIDTH + 1).abs()),
                             torch.minimum(v.abs(), (v - HEIGHT + 1).abs())) < 1e-3
        assert torch.equal(actual[~edge], inside[~edge])
        assert 0 < (~actual).sum() < actual.numel()


def test_what_lies_behind_the_real_camera_is_not_valid(labelled):
    images, K_b33 = labelled[0][:1], labelled[1][:1]
    about = torch.tensor([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]])
    warped, valid = warp_to_view(images, K_b33, K_b33, about, IMAGE_SIZE)
    assert not valid.any() and warped.isfinite().all()


def test_real_views_are_the_resized_images_with_their_intrinsics(room, labelled):
    views = real_views(*labelled, (80, 60))
    assert views.images_b3hw.shape == (3, 3, 60, 80) and views.valid_bhw.all()
    assert views.K_b33[0, 0, 0].item() == pytest.approx(K_33[0, 0] / 2)
    assert views.K_b33[0, 0, 2].item() == pytest.approx((K_33[0, 2] + 0.5) / 2 - 0.5)
    for index in range(3):
        valid = views.valid_bhw[index]
        error = difference(views.images_b3hw[index], render_view(room, views, index, (80, 60)),
                           valid)
        shifted = [difference(views.images_b3hw[index],
                              render_view(room, views, index, (80, 60), px), valid)
                   for px in (-0.35, 0.35)]
        assert error < 0.02 and min(shifted) > 1.1 * error


@pytest.mark.parametrize('view_size', [(80, 60), (120, 120)])
def test_views_of_another_size_keep_their_labels(room, labelled, view_size):
    views = views_of(labelled, 2, view_size)
    assert views.images_b3hw.shape == (3, 3, view_size[1], view_size[0])
    for index in range(3):
        valid = views.valid_bhw[index]
        seen = render_view(room, views, index, view_size)
        assert difference(views.images_b3hw[index], seen, valid) < 0.02


def test_a_tilt_moves_the_centre_by_the_focal_length_times_its_tangent(labelled):
    """Straight from the formula: a camera turned right by a sees its old centre at -f tan a."""
    angle = math.radians(10)
    R = torch.tensor([[[math.cos(angle), 0.0, math.sin(angle)], [0.0, 1.0, 0.0],
                       [-math.sin(angle), 0.0, math.cos(angle)]]])
    image = torch.zeros(1, 3, HEIGHT, WIDTH)
    image[..., 58:62, 78:82] = 1.0  # centred on (79.5, 59.5), the principal point
    warped, _ = warp_to_view(image, labelled[1][:1], labelled[1][:1], R, IMAGE_SIZE)
    columns = torch.arange(WIDTH, dtype=torch.float32)
    centre = (warped[0, 0].sum(dim=0) * columns).sum() / warped[0, 0].sum()
    assert centre.item() == pytest.approx(79.5 - 125.0 * math.tan(angle), abs=0.15)
