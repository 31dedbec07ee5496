# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The search in cells finds what the search of everything finds."""

import pytest
import torch

from implicit_relocalizer.network.landmark_cells import (
    PROBES,
    arrange_in_cells,
    best_members,
    cell_blocks,
    cell_count,
    cell_size,
    likeliest_cells,
    quarter,
    search_cells,
)
from implicit_relocalizer.network.landmarks import LandmarkHead

COUNT, SIZE, CELLS = 9600, 16, 24


def unit(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, SIZE, generator=generator), dim=1)


def arranged_head(cells: int) -> LandmarkHead:
    """Landmark number n lies at (n, 0, 0)."""
    head = LandmarkHead(SIZE, SIZE, COUNT, cells=cells)
    keys = unit(COUNT, 0)
    head.key_scale.fill_(float(keys.abs().max()) / 127)
    head.keys_md.copy_((keys / head.key_scale).round().to(torch.int8))
    head.points_m3[:, 0] = torch.arange(COUNT).float()
    head.log_depth_m.fill_(-3.0)
    head.projection_cd.copy_(torch.eye(SIZE))
    head.arrange(torch.Generator().manual_seed(0))
    return head.eval()


@pytest.mark.parametrize('count', [COUNT, COUNT - 16 * 7])  # the last cell overlaps the one before
@pytest.mark.parametrize('dtype', [torch.int8, torch.float32])
def test_searching_every_cell_is_searching_everything(count, dtype):
    keys = (unit(count, 0) * 300).round().clamp(-127, 127).to(torch.int8)
    order, centres = arrange_in_cells(keys.float(), CELLS, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(count))
    queries = unit(50, 1)
    blocks = cell_blocks(keys[order].to(dtype), CELLS)
    products, rows = search_cells(queries, blocks, centres, count, 16, probes=CELLS)
    expected, expected_rows = (queries @ keys[order].float().T).topk(16, dim=1)
    torch.testing.assert_close(products, expected)
    assert (rows == expected_rows).float().mean() > 0.99, 'but for equal products'


def test_cells_hold_what_is_alike():
    keys = unit(COUNT, 0)
    order, centres = arrange_in_cells(keys, CELLS, torch.Generator().manual_seed(0))
    size = cell_size(COUNT, CELLS)
    own = (keys[order] @ centres.T)[torch.arange(COUNT), torch.arange(COUNT) // size]
    best = (keys[order] @ centres.T).amax(1)
    assert (own > best - 0.05).float().mean() > 0.8, 'although every cell has as many'


def test_arranging_moves_keys_and_points_together():
    plain, arranged = arranged_head(1), arranged_head(CELLS)
    moved = arranged.points_m3[:, 0].long()
    assert not torch.equal(moved, torch.arange(COUNT))
    assert torch.equal(arranged.keys_md, plain.keys_md[moved])


def test_queries_near_a_landmark_find_it():
    head = arranged_head(CELLS)
    asked = torch.arange(0, COUNT, 97)
    queries = torch.nn.functional.normalize(unit(COUNT, 0)[asked] + 0.3 * unit(len(asked), 5),
                                            dim=1)
    similarity, rows = head.most_similar(queries)
    found = head.points_m3[rows[:, 0], 0].long()
    assert (found == asked).float().mean() > 0.97
    assert (similarity[:, :-1] >= similarity[:, 1:]).all()
    exact = arranged_head(1).most_similar(queries)[0]
    assert (similarity[:, 0] <= exact[:, 0] + 1e-5).all()


def test_a_scripted_head_searches_as_the_eager_one():
    head = arranged_head(CELLS)
    for eager, scripted in zip(head(unit(40, 3)), torch.jit.script(head)(unit(40, 3)),
                               strict=True):
        torch.testing.assert_close(scripted, eager)


@pytest.mark.parametrize(('landmarks', 'cells'), [(16, 1), (400 * 2 * PROBES, 1), (56000, 125),
                                                  (9600, 24)])
def test_few_landmarks_need_no_cells(landmarks, cells):
    assert cell_count(landmarks) == cells


def test_a_head_made_ready_answers_the_same():
    head = torch.jit.script(arranged_head(CELLS))
    before = head(unit(40, 3))
    head.make_ready()
    assert head.blocks_cds.shape == (CELLS, SIZE, COUNT // CELLS)
    for now, then in zip(head(unit(40, 3)), before, strict=True):
        torch.testing.assert_close(now, then)
    assert 'blocks_cds' not in arranged_head(CELLS).state_dict()


def test_the_best_of_quarters_are_the_best_of_all():
    values = unit(40, 7).abs() + torch.arange(40).unsqueeze(1)  # rows of 16
    expected, expected_column = values.topk(5, dim=1)
    row = torch.arange(40).unsqueeze(1)
    column = quarter(values).topk(4, dim=1)[1]  # all of them
    best, best_row, best_column = best_members(values, row.expand_as(column), column, 5, True)
    assert torch.equal(best, expected) and torch.equal(best_column, expected_column)
    assert (best_row == row).all()


@pytest.mark.parametrize('cells', [24, 26])  # a multiple of four and not
def test_the_likeliest_cells_are_those_of_brute_force(cells):
    queries, centres = unit(50, 1), unit(cells, 2)
    found = likeliest_cells(queries, centres, 6).sort(dim=1)[0]
    assert torch.equal(found, (queries @ centres.T).topk(6, dim=1)[1].sort(dim=1)[0])
