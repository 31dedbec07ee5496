# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Depths of keypoints: partner views, search along lines, votes, neighbours."""

import math
from dataclasses import replace

import pytest
import torch
from constellation import KEY_SIZE, PLACES, POINTS, Constellation, K, turn, unit
from torch import Tensor

from implicit_relocalizer.training.landmarks.depths import (
    Depths,
    fill_in,
    search_lines,
    vote,
)
from implicit_relocalizer.training.landmarks.overlap import overlapping_views


@pytest.fixture(scope='module')
def stars() -> Constellation:
    return Constellation()


def test_partners_stand_beside_and_look_the_same_way():
    R = torch.eye(3).repeat(6, 1, 1)
    R[4] = turn(math.pi, 0.0)
    R[5] = turn(math.radians(60.0), 0.0)
    t = torch.tensor([[0.0, 0.0, 0.0],
                      [0.01, 0.0, 0.0],  # no baseline
                      [0.5, 0.0, 0.0],  # a quarter of the depth
                      [3.0, 0.0, 0.0],  # far to the side
                      [0.5, 0.0, 0.0],  # looks back
                      [0.5, 0.0, 0.0]])  # looks elsewhere
    partners = overlapping_views(R, t, 2.0, 12)
    assert partners.shape == (6, 5)
    assert partners[0, 0] == 2
    assert set(partners[0, -2:].tolist()) == {3, 4}
    assert all(i not in row for i, row in enumerate(partners.tolist()))
    assert overlapping_views(R, t, 2.0, 2).tolist() == partners[:, :2].tolist()


def test_partners_do_not_change_far_from_the_origin(stars):
    """Distances by matrix products would be off by half a metre a kilometre away."""
    o = stars.observations
    R, t = o.R_world_camera_i33.repeat(6, 1, 1), o.t_local_camera_i3.repeat(6, 1)
    t = t + torch.arange(6.0).repeat_interleave(PLACES)[:, None] * torch.tensor([9.0, 0.0, 0.0])
    far = overlapping_views(R, t + torch.tensor([1000.0, 500.0, 0.0]), 3.0, 5)
    assert (far == overlapping_views(R, t, 3.0, 5)).float().mean() > 0.95


@pytest.mark.parametrize('scale', [1.0, 20.0, 0.05])
def test_exact_correspondences_give_exact_depths_and_all_votes(scale):
    stars = Constellation(scale=scale)
    o = stars.observations
    partners = overlapping_views(o.R_world_camera_i33, o.t_local_camera_i3, 3.0 * scale, 5)
    matches = search_lines(o, stars.queries_ind, partners, 3.0 * scale)
    found = matches.similarity_inp > 0.9
    assert found.float().mean() > 0.99
    other = torch.stack([stars.point_in[partners[i]].T.gather(0, matches.partner_inp[i])
                         for i in range(PLACES)])
    assert (other == stars.point_in.unsqueeze(-1))[found].all()
    depths = vote(matches)
    relative = depths.inverse_depth_in * stars.depth_in - 1.0
    assert relative.abs().max() < 0.01
    assert (depths.votes_in == found.sum(dim=-1)).float().mean() > 0.99
    assert (depths.agrees_inp & ~found).sum() == 0


def test_the_deviation_is_what_a_pixel_changes(stars):
    """Move one keypoint of the partner view along its line by a pixel and search again."""
    o, partners = stars.observations, torch.tensor([[1]])
    before = search_lines(o, stars.queries_ind, partners, 3.0)
    inverse_depth = before.inverse_depth_inp[0, :, 0]
    ray = torch.cat([o.pixels_in2[0], torch.ones(POINTS, 1)], dim=1) @ torch.linalg.inv(K).T

    def seen_at(w: Tensor) -> Tensor:
        world = ray / w[:, None] @ o.R_world_camera_i33[0].T + o.t_local_camera_i3[0]
        seen = (world - o.t_local_camera_i3[1]) @ o.R_world_camera_i33[1] @ K.T
        return seen[:, :2] / seen[:, 2:]

    deviation = before.deviation_inp[0, :, 0]
    moved_px = (seen_at(inverse_depth + deviation) - seen_at(inverse_depth)).norm(dim=1)
    torch.testing.assert_close(moved_px, torch.ones(POINTS), rtol=0.02, atol=0.0)


def test_look_alikes_off_the_line_are_not_taken(stars):
    """All points look the same: what is taken still projects within 1.5 px of the line."""
    o = stars.observations
    alike = unit(torch.ones(PLACES, POINTS, KEY_SIZE))
    matches = search_lines(o, alike, torch.tensor([[1]]), 3.0)
    taken = torch.nonzero(matches.similarity_inp[0, :, 0] > 0)[:, 0]
    partner = matches.partner_inp[0, taken, 0]
    R, t = o.R_world_camera_i33, o.t_local_camera_i3
    # the essential matrix, as textbooks have it
    R_b_a = R[1].T @ R[0]
    x, y, z = (R[1].T @ (t[0] - t[1])).tolist()
    cross = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    inverse_K = torch.linalg.inv(K)
    F = inverse_K.T @ cross @ R_b_a @ inverse_K
    one = torch.ones(POINTS, 1)
    lines = torch.cat([o.pixels_in2[0], one], dim=1) @ F.T
    pixels = torch.cat([o.pixels_in2[1], one], dim=1)
    distance_px = (lines @ pixels.T).abs() / lines[:, :2].norm(dim=1, keepdim=True)
    assert len(taken) == POINTS
    assert distance_px[taken, partner].max() < 1.5
    # although most of what looks the same lies elsewhere
    assert (distance_px < 1.5).float().mean() < 0.1


def test_an_outvoted_view_does_not_spoil_the_depth(stars):
    matches = search_lines(stars.observations, stars.queries_ind, stars.partners(), 3.0)
    wrong = matches.inverse_depth_inp.clone()
    wrong[..., 1] *= 1.8
    depths = vote(replace(matches, inverse_depth_inp=wrong))
    assert (depths.inverse_depth_in * stars.depth_in - 1.0).abs().median() < 0.002
    assert depths.agrees_inp[..., 1].float().mean() < 0.05
    assert depths.votes_in.median() == 4


def test_wrong_poses_get_few_votes(stars):
    right = vote(search_lines(stars.observations, stars.queries_ind, stars.partners(), 3.0))
    R, t = stars.observations.R_world_camera_i33, stars.observations.t_local_camera_i3
    shuffled = torch.tensor([3, 6, 0, 5, 7, 2, 4, 1])
    wrong = replace(stars.observations, R_world_camera_i33=R[shuffled],
                    t_local_camera_i3=t[shuffled])
    votes = vote(search_lines(wrong, stars.queries_ind, stars.partners(), 3.0)).votes_in
    assert (right.votes_in >= 3).float().mean() > 0.99
    assert (votes >= 3).float().mean() < 0.1


def test_a_camera_that_does_not_move_sees_no_depth(stars):
    still = replace(stars.observations,
                    t_local_camera_i3=torch.zeros_like(stars.observations.t_local_camera_i3))
    depths = vote(search_lines(still, stars.queries_ind, stars.partners(), 3.0))
    assert (depths.votes_in == 0).all() and (depths.inverse_depth_in == 0).all()


def plane_depths(votes: list[int], inverse_depth: list[float]) -> tuple[Depths, Tensor]:
    """Keypoints on a grid 20 px apart; all others have four votes for 0.5 / m."""
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing='ij')
    pixels = 20.0 * torch.stack([x, y], dim=-1).reshape(1, 36, 2)
    all_votes, all_depths = torch.full((1, 36), 4), torch.full((1, 36), 0.5)
    all_votes[0, 14:14 + len(votes)] = torch.tensor(votes)
    all_depths[0, 14:14 + len(votes)] = torch.tensor(inverse_depth)
    return Depths(all_depths, all_votes, torch.ones(1, 36, 4, dtype=torch.bool)), pixels


@pytest.mark.parametrize(('votes', 'own', 'expected'), [
    (0, 0.0, 0.5),  # nothing known: the neighbours'
    (1, 1.7, 0.5),  # one partner is not believed
    (2, 1.7, 0.5),  # nor are two that contradict the neighbours
    (2, 0.55, 0.55),
    (3, 1.7, 1.7)])
def test_keypoints_without_a_majority_take_their_neighbours_depth(votes, own, expected):
    depths, pixels = plane_depths([votes], [own])
    filled = fill_in(depths, pixels)
    assert float(filled[0, 14]) == pytest.approx(expected)
    filled[0, 14] = 0.5
    assert (filled == 0.5).all()


def test_a_keypoint_is_not_its_own_neighbour():
    """Where no keypoint has three votes, one odd depth does not outweigh those around it."""
    depths, pixels = plane_depths([], [])
    pixels = pixels + 200.0 + torch.rand(1, 36, 2, generator=torch.Generator().manual_seed(0))
    for odd in range(36):
        inverse_depth = depths.inverse_depth_in.clone()
        inverse_depth[0, odd] = 1.7
        few = replace(depths, inverse_depth_in=inverse_depth,
                      votes_in=torch.ones_like(depths.votes_in))
        assert float(fill_in(few, pixels)[0, odd]) == pytest.approx(0.5)


def test_images_without_any_agreement_stay_without_depth():
    depths, pixels = plane_depths([], [])
    nothing = replace(depths, votes_in=torch.zeros_like(depths.votes_in),
                      inverse_depth_in=torch.zeros_like(depths.inverse_depth_in))
    assert (fill_in(nothing, pixels) == 0.0).all()
