# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The landmark head: which landmarks it finds, how it mixes them, and how sure it is."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from implicit_relocalizer.network.heads import LOG_ERROR_MAX, LOG_ERROR_MIN
from implicit_relocalizer.network.landmarks import CANDIDATES, GROUP, LandmarkHead, padded_count

CHANNELS = 24
KEY_SIZE = 16


def random_head(count: int, seed: int = 0) -> LandmarkHead:
    """Random unit keys, points in a box of 10 m, depths of 1 to 5 m."""
    generator = torch.Generator().manual_seed(seed)
    head = LandmarkHead(CHANNELS, KEY_SIZE, count)
    keys = torch.nn.functional.normalize(torch.randn(count, KEY_SIZE, generator=generator), dim=1)
    scale = float(keys.abs().max()) / 127.0
    head.key_scale.fill_(scale)
    head.keys_md.copy_((keys / scale).round().to(torch.int8))
    head.points_m3.copy_(10.0 * torch.rand(count, 3, generator=generator))
    head.log_depth_m.copy_((1.0 + 4.0 * torch.rand(count, generator=generator)).log().half())
    head.feature_mean_c.copy_(torch.randn(CHANNELS, generator=generator))
    head.projection_cd.copy_(torch.randn(CHANNELS, KEY_SIZE, generator=generator))
    return head.eval()


def unit_queries(count: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, KEY_SIZE, generator=generator), dim=1)


def mixing_head(points_m3: list[list[float]], depth_m: float = 2.0) -> LandmarkHead:
    """A head whose first landmarks are these points, all at one depth."""
    head = LandmarkHead(CHANNELS, KEY_SIZE, padded_count(len(points_m3)))
    head.points_m3[:len(points_m3)] = torch.tensor(points_m3)
    head.log_depth_m.fill_(math.log(depth_m))
    return head


# 1024 is the size of a chunk: below, at, above, and a last chunk of one group
@pytest.mark.parametrize('count', [16, 32, 256, 1024, 1040, 5008])
def test_the_most_similar_landmarks_are_those_of_brute_force(count):
    head, queries = random_head(count), unit_queries(200)
    similarities, landmarks = head.most_similar(queries)
    every = queries @ (head.keys_md.float() * head.key_scale).T
    expected, indices = every.topk(CANDIDATES, dim=1)
    torch.testing.assert_close(similarities, expected)
    torch.testing.assert_close(every.gather(1, landmarks), expected)
    assert (landmarks[:, 0] == indices[:, 0]).all()
    assert all(len(row.unique()) == CANDIDATES for row in landmarks)


def test_quantised_keys_hardly_change_the_similarities():
    generator = torch.Generator().manual_seed(0)
    keys = torch.nn.functional.normalize(torch.randn(512, KEY_SIZE, generator=generator), dim=1)
    head, queries = random_head(512), unit_queries(100)
    similarities, landmarks = head.most_similar(queries)
    exact = queries @ keys.T
    assert (exact.gather(1, landmarks) - similarities).abs().max() < 0.02
    assert (exact.argmax(dim=1) == landmarks[:, 0]).float().mean() > 0.95


def test_a_query_equal_to_a_key_finds_its_landmark():
    head = random_head(2048)
    chosen = torch.arange(0, 2048, 37)
    keys = torch.nn.functional.normalize(head.keys_md[chosen].float(), dim=1)
    similarities, landmarks = head.most_similar(keys)
    assert (landmarks[:, 0] == chosen).all()
    torch.testing.assert_close(similarities[:, 0], torch.ones(len(chosen)), rtol=0.0, atol=0.01)


def test_features_are_centred_and_turned_into_unit_vectors():
    head = random_head(16)
    features = torch.randn(50, CHANNELS, generator=torch.Generator().manual_seed(2))
    queries = head.project(features)
    torch.testing.assert_close(queries.norm(dim=1), torch.ones(50))
    # contrast does not matter, seen from the mean
    stretched = head.feature_mean_c + 3.0 * (features - head.feature_mean_c)
    torch.testing.assert_close(head.project(stretched), queries)


def test_the_heavier_of_two_look_alike_places_is_chosen_and_not_their_mean():
    near, far = [1.0, 0.0, 2.0], [5.0, 0.0, 2.0]
    head = mixing_head([near, far, [5.01, 0.0, 2.0]])
    landmarks = torch.tensor([[0, 1, 2]])
    # the best single landmark stands alone, the two others agree
    together = head.mix(torch.tensor([[0.81, 0.80, 0.80]]), landmarks)
    torch.testing.assert_close(together[0], torch.tensor([[5.005, 0.0, 2.0]]), atol=1e-3, rtol=0.0)
    # until it outweighs both
    alone = head.mix(torch.tensor([[0.95, 0.80, 0.80]]), landmarks)
    torch.testing.assert_close(alone[0], torch.tensor([near]))
    assert together[2] > 0.5 and alone[2] > 0.5


def test_landmarks_close_to_each_other_are_averaged_by_their_share():
    head = mixing_head([[0.0, 0.0, 2.0], [0.1, 0.0, 2.0]], depth_m=2.0)
    point, log_depth, _ = head.mix(torch.tensor([[0.7, 0.6]]), torch.tensor([[0, 1]]))
    share = 1.0 / (1.0 + math.exp(0.1 * float(head.similarity_scale)))
    torch.testing.assert_close(point, torch.tensor([[0.1 * share, 0.0, 2.0]]))
    assert float(log_depth) == pytest.approx(math.log(2.0), abs=1e-3)


@pytest.mark.parametrize(('depth_m', 'merged'), [(1.0, False), (4.0, True)])
def test_what_is_close_grows_with_the_depth(depth_m, merged):
    """0.2 m apart: two places at a depth of 1 m, one at 4 m (near_ratio is 0.08)."""
    head = mixing_head([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0]], depth_m)
    point, _, _ = head.mix(torch.tensor([[0.8, 0.8]]), torch.tensor([[0, 1]]))
    assert (abs(float(point[0, 0]) - 0.1) < 1e-3) == merged


def test_mass_is_a_share_and_falls_when_the_outlier_class_rises():
    head, queries = random_head(512), unit_queries(300)
    candidates = head.most_similar(queries)
    masses = []
    for outlier in (0.5, 0.65, 0.8, 0.95, 1.5):
        head.outlier_similarity.fill_(outlier)
        points, log_depth, mass = head.mix(*candidates)
        assert (mass >= 0.0).all() and (mass <= 1.0 + 1e-6).all()
        assert points.isfinite().all() and log_depth.isfinite().all()
        masses.append(mass)
    for before, after in pairwise(masses):
        assert (after <= before).all() and after.mean() < 0.97 * before.mean()
    assert masses[-1].max() < 0.01


def test_points_do_not_depend_on_the_outlier_class():
    head, queries = random_head(512), unit_queries(50)
    candidates = head.most_similar(queries)
    head.outlier_similarity.fill_(0.2)
    expected = head.mix(*candidates)[0]
    head.outlier_similarity.fill_(0.9)
    torch.testing.assert_close(head.mix(*candidates)[0], expected)


def test_the_expected_error_falls_with_the_mass_between_its_bounds():
    head = random_head(512)
    features = torch.randn(400, CHANNELS, generator=torch.Generator().manual_seed(3))
    _, _, mass = head.mix(*head.most_similar(head.project(features)))
    _, _, log_error = head(features)
    ordered = log_error[mass.argsort()]
    assert (ordered.diff() <= 1e-6).all() and ordered[-1] < ordered[0] - 0.5
    for curve, bound in (([50.0, -1.0], LOG_ERROR_MAX), ([-50.0, -1.0], LOG_ERROR_MIN)):
        head.error_of_mass.copy_(torch.tensor(curve))
        assert (head(features)[2] == bound).all()


@pytest.mark.parametrize('leading', [(7,), (2, 5), (2, 3, 4), (1,), (0,)])
def test_any_leading_shape_goes_through(leading):
    head = random_head(64)
    features = torch.randn(*leading, CHANNELS, generator=torch.Generator().manual_seed(4))
    points, log_depth, log_error = head(features)
    assert points.shape == (*leading, 3)
    assert log_depth.shape == log_error.shape == leading
    assert points.dtype == log_depth.dtype == log_error.dtype == torch.float32
    flat = head(features.reshape(-1, CHANNELS))
    torch.testing.assert_close(points.reshape(-1, 3), flat[0])
    torch.testing.assert_close(log_error.flatten(), flat[2])


@pytest.mark.parametrize('count', [16, 4000])
def test_scripted_equals_eager(count):
    head = random_head(count)
    scripted = torch.jit.script(head)
    for shape in ((100, CHANNELS), (2, 50, CHANNELS)):
        features = torch.randn(*shape, generator=torch.Generator().manual_seed(5))
        for expected, actual in zip(head(features), scripted(features), strict=True):
            torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize('features', [torch.zeros(5, CHANNELS), torch.full((5, CHANNELS), 1e6)])
def test_strange_features_give_finite_answers(features):
    head = random_head(64)
    head.feature_mean_c.zero_()  # zeros then have no direction
    for output in head(features):
        assert output.isfinite().all()


def test_half_precision_features_are_computed_in_single_precision():
    head = random_head(64)
    features = torch.randn(30, CHANNELS, generator=torch.Generator().manual_seed(6)).bfloat16()
    for whole, half in zip(head(features.float()), head(features), strict=True):
        torch.testing.assert_close(whole, half, rtol=0.0, atol=0.0)


def test_rows_fill_whole_groups():
    assert [padded_count(n) for n in (0, 1, GROUP - 1, GROUP, GROUP + 1)] == [
        0, GROUP, GROUP, GROUP, 2 * GROUP]


@pytest.mark.parametrize('count', [0, 17, 100])
def test_a_head_without_whole_groups_is_refused(count):
    with pytest.raises(ValueError, match=f'{count} landmarks.*16'):
        LandmarkHead(CHANNELS, KEY_SIZE, count)
