# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From depths to landmarks: keys that tell points apart, selection, calibration."""

import math
from dataclasses import replace

import pytest
import torch
from constellation import KEY_SIZE, PLACES, POINTS, Constellation, unit

from implicit_relocalizer.network.landmarks import LandmarkHead
from implicit_relocalizer.training.landmarks.calibration import calibrate, largest
from implicit_relocalizer.training.landmarks.depths import matched_differences, search_lines, vote
from implicit_relocalizer.training.landmarks.projections import (
    discriminant_projection,
    principal_projection,
)
from implicit_relocalizer.training.landmarks.selection import close_pairs, select_landmarks


@pytest.fixture(scope='module')
def stars() -> Constellation:
    return Constellation()


def test_discriminant_directions_separate_points_where_principal_ones_do_not():
    """The features vary most where views of one point differ, and points differ elsewhere."""
    generator = torch.Generator().manual_seed(0)
    points = torch.cat([torch.zeros(500, 8), torch.randn(500, 8, generator=generator)], dim=1)
    noise = torch.tensor([2.0] * 8 + [0.2] * 8)
    one, other = (points + noise * torch.randn(500, 16, generator=generator) for _ in range(2))

    def share_found(projection) -> float:
        nearest = (projection(one) @ projection(other).T).argmax(dim=1)
        return float((nearest == torch.arange(500)).float().mean())

    principal = principal_projection(torch.cat([one, other]), 8)
    discriminant = discriminant_projection(torch.cat([one, other]), one - other, 8)
    assert principal.matrix_cd.shape == discriminant.matrix_cd.shape == (16, 8)
    assert share_found(principal) < 0.1
    assert share_found(discriminant) > 0.8


def test_queries_are_unit_vectors_of_any_leading_shape():
    features = torch.randn(4, 30, 16, generator=torch.Generator().manual_seed(1))
    projection = principal_projection(features.flatten(0, 1), 5)
    queries = projection(features.half())
    assert queries.shape == (4, 30, 5)
    torch.testing.assert_close(queries.norm(dim=-1), torch.ones(4, 30))


def test_differences_are_between_features_of_one_point(stars):
    partners = stars.partners()
    matches = search_lines(stars.observations, stars.queries_ind, partners, 3.0)
    generator = torch.Generator().manual_seed(0)
    differences = matched_differences(stars.observations, partners, matches, vote(matches),
                                      300, generator)
    assert differences.shape == (300, KEY_SIZE)
    assert (differences == 0).all()  # the features are the keys of the points


def test_each_point_is_kept_once_over_all_views(stars):
    generator = torch.Generator().manual_seed(0)
    landmarks = select_landmarks(stars.observations, stars.queries_ind, 1.0 / stars.depth_in,
                                 10_000, generator)
    assert len(landmarks) == POINTS
    similarity = landmarks.keys_md @ stars.keys_md.T
    point = similarity.argmax(dim=1)
    assert point.sort().values.tolist() == list(range(POINTS))
    o = stars.observations
    for m in range(0, POINTS, 7):
        image = int(landmarks.image_m[m])
        seen = (landmarks.points_local_m3[m] - o.t_local_camera_i3[image]) \
            @ o.R_world_camera_i33[image]
        column = int(torch.nonzero(stars.point_in[image] == point[m]))
        assert float(seen[2]) == pytest.approx(float(stars.depth_in[image, column]), rel=1e-4)
        assert float(landmarks.depth_m[m]) == pytest.approx(float(seen[2]), rel=1e-4)


def test_a_spot_that_looks_different_is_kept_again(stars):
    keys = stars.queries_ind.clone()
    keys[5] = -keys[5]
    landmarks = select_landmarks(stars.observations, keys, 1.0 / stars.depth_in, 10_000,
                                 torch.Generator().manual_seed(0))
    assert len(landmarks) == 2 * POINTS


def test_no_more_landmarks_than_asked_for_and_none_without_depth(stars):
    inverse_depth = (1.0 / stars.depth_in).clone()
    inverse_depth[stars.point_in < 10] = 0.0
    everything = select_landmarks(stars.observations, stars.queries_ind, inverse_depth, 10_000,
                                  torch.Generator().manual_seed(0))
    assert len(everything) == POINTS - 10
    some = select_landmarks(stars.observations, stars.queries_ind, inverse_depth, 20,
                            torch.Generator().manual_seed(0))
    assert len(some) == len(some.keys_md) == len(some.image_m) == 20
    torch.testing.assert_close(some.points_local_m3, everything.points_local_m3[:20])


def test_a_low_mass_means_a_larger_expected_error(stars):
    """Every third keypoint looks like nothing: the mixture knows the others exactly."""
    strange = torch.arange(POINTS) % 3 == 0
    keys = stars.queries_ind.clone()
    keys[:, strange] = unit(torch.randn(PLACES, int(strange.sum()), KEY_SIZE,
                                        generator=torch.Generator().manual_seed(3)))
    observations = replace(stars.observations, features_inc=keys.half())
    # two landmarks of each point, from different views: one is left when the other is hidden
    o = stars.observations
    chosen = [0, 1]
    count = 2 * POINTS // 16 * 16
    head = LandmarkHead(KEY_SIZE, KEY_SIZE, count, nominal_depth_m=3.0)
    head.projection_cd.copy_(torch.eye(KEY_SIZE))
    head.keys_md.copy_((127.0 * keys[chosen].flatten(0, 1)[:count]).round().to(torch.int8))
    points = o.points_local(1.0 / stars.depth_in)[chosen].flatten(0, 1)[:count]
    head.points_m3.copy_(points)
    head.log_depth_m.copy_(stars.depth_in[chosen].flatten()[:count].log().half())
    origin = torch.tensor(chosen).repeat_interleave(POINTS)[:count]
    calibrate(head, observations, origin)
    assert head.error_of_mass.isfinite().all() and float(head.error_of_mass[1]) < -1.0
    _, _, log_error = head(observations.features_inc[7])
    assert log_error[strange].median() > log_error[~strange].median() + 1.0
    assert log_error[~strange].median() < math.log(3.0)


def test_equal_masses_still_give_an_error_curve(stars):
    """Nothing is like any landmark: the curve is the mean error."""
    head = LandmarkHead(KEY_SIZE, KEY_SIZE, 16)
    head.points_m3.fill_(3.0)
    calibrate(head, stars.observations, torch.zeros(16, dtype=torch.long))
    assert head.error_of_mass.isfinite().all()
    _, _, log_error = head(stars.observations.features_inc[0])
    assert log_error.isfinite().all() and log_error.min() > math.log(20.0)


@pytest.mark.parametrize(('count', 'distance'), [(300, 2.0), (3, 2.0), (300, 40.0)])
def test_close_pairs_are_all_pairs_that_are_close(count, distance):
    generator = torch.Generator().manual_seed(count)
    size = torch.tensor([120.0, 80.0])
    one = size * torch.rand(count, 2, generator=generator)
    other = size * torch.rand(1000, 2, generator=generator)
    found = set(zip(*(index.tolist() for index in close_pairs(one, other, distance)),
                    strict=True))
    expected = (one[:, None].double() - other[None].double()).norm(dim=2) < distance
    assert found == {tuple(pair) for pair in expected.nonzero().tolist()} and found


def test_no_pairs_are_close_where_nothing_is_seen():
    pair = close_pairs(torch.rand(5, 2), torch.zeros(0, 2), 2.0)
    assert [len(index) for index in pair] == [0, 0]


@pytest.mark.parametrize('count', [1, 48, 4000])
def test_largest_values_are_those_of_topk(count):
    values = torch.randn(7, 1600, generator=torch.Generator().manual_seed(0))
    top, index = largest(values, count)
    assert torch.equal(top, values.topk(min(count, 1600), dim=1)[0])
    assert torch.equal(values.gather(1, index), top)
