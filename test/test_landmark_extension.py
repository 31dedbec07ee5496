# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A landmark map grows into images whose positions alone are known."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from box_room import K_33, BoxRoom, sweep
from scipy.spatial.transform import Rotation
from test_landmark_training import learn, posed_images

from implicit_relocalizer.training.configuration import LandmarkConfig
from implicit_relocalizer.training.landmarks.extension import extend_landmarks

CPU = torch.device('cpu')
VIEWS = 40
KNOWN = 12
CONFIG = LandmarkConfig(most=4000, partner_views=6)


@pytest.fixture(scope='module')
def known_and_new():
    """The first views of a drive with poses, and the rest."""
    images = posed_images(sweep(VIEWS))
    cut = [replace(images, images_bhw3=images.images_bhw3[part], K_b33=images.K_b33[part],
                   R_world_camera_b33=images.R_world_camera_b33[part],
                   t_local_camera_b3=images.t_local_camera_b3[part])
           for part in (slice(0, KNOWN), slice(KNOWN, VIEWS))]
    return learn(cut[0]), cut[1]


def turned(images):
    """The same images with orientations that have nothing to do with them."""
    R = torch.from_numpy(Rotation.random(len(images), 3).as_matrix()).float()
    return replace(images, R_world_camera_b33=R)


def errors(localizer):
    """Median position error (m) and rotation error (rad) between the drive's images."""
    room, found = BoxRoom(), []
    for pose in sweep(2 * VIEWS)[2 * KNOWN + 8::6]:
        with torch.no_grad():
            out = localizer(torch.from_numpy(room.render(pose)[0]), torch.from_numpy(K_33))
        R = torch.from_numpy(pose[:3, :3])
        cosine = ((torch.trace(out['R_world_camera'].T @ R) - 1) / 2).clamp(-1, 1)
        found.append((float((out['t_world_camera'] - torch.from_numpy(pose[:3, 3])).norm()),
                      float(torch.arccos(cosine))))
    return torch.tensor(found).median(dim=0).values


@pytest.fixture(scope='module')
def extended(known_and_new):
    """A map that grew into images whose orientations are nonsense."""
    original, new = known_and_new
    grown = deepcopy(original)
    return grown, extend_landmarks(grown, turned(new), False, CONFIG, CPU, seed=0)


def test_positions_alone_make_the_map_grow_and_orientations_are_not_read(known_and_new, extended):
    original, new = known_and_new
    grown, extension = extended
    before, after = errors(original), errors(grown)
    assert extension.trusted > 0.7 * len(new)
    assert extension.landmarks_after > extension.landmarks_before
    assert (after < 0.5 * before).all(), f'{before} -> {after}'
    assert after[0] < 0.10 and after[1] < 0.03
    again = deepcopy(original)
    extend_landmarks(again, new, False, CONFIG, CPU, seed=0)
    for name, buffer in grown.head.named_buffers():
        assert torch.equal(buffer, again.head.get_buffer(name)), name


def test_nothing_is_forgotten(known_and_new, extended):
    original, grown = known_and_new[0], extended[0]
    kept = {tuple(point) for point in grown.head.points_m3.tolist()}
    assert all(tuple(point) in kept for point in original.head.points_m3.tolist())


def test_whole_poses_are_all_trusted(known_and_new):
    original, new = known_and_new
    grown = deepcopy(original)
    extension = extend_landmarks(grown, new, True, CONFIG, CPU, seed=0)
    assert extension.trusted == len(new)
    assert errors(grown)[0] < 0.05


def test_images_of_somewhere_else_add_nothing(known_and_new):
    original, new = known_and_new
    elsewhere = replace(new, images_bhw3=new.images_bhw3.flip(1))
    grown = deepcopy(original)
    extension = extend_landmarks(grown, elsewhere, False, CONFIG, CPU, seed=0)
    assert extension.trusted == 0 and extension.landmarks_after == extension.landmarks_before
