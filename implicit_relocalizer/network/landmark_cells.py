# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Search among many keys on a CPU: only in the cells whose centres are like the query.

Keys are clustered (spherical k-means) into cells of equal size and stored cell by cell: an
inverted file, as Sivic & Zisserman, "Video Google", ICCV 2003. Equal cells make one block of all
products, in which the best are found together; cells of any size took three times as long.
"""

from typing import List, Tuple

import torch
from torch import Tensor

PROBES = 6
# Rows of a cell and of the blocks that stand for their best member are multiples of it.
GROUP = 16
LEAST_CELL = 400
MOST_CELLS = 128
ITERATIONS = 8
BALANCING_ITERATIONS = 60


def cell_count(landmarks: int) -> int:
    """How many cells are worth it; 1 searches everything."""
    size = max(LEAST_CELL, cell_size(landmarks, MOST_CELLS))
    cells = -(-landmarks // size)
    return cells if cells > 2 * PROBES else 1


def cell_size(landmarks: int, cells: int) -> int:
    """Rows of every cell; the last one begins earlier, so that it has as many."""
    return -(-landmarks // (16 * cells)) * 16


def search_cells(queries_nd: Tensor, keys_md: Tensor, centres_cd: Tensor, candidates: int,
                 probes: int = PROBES, group: int = GROUP) -> Tuple[Tensor, Tensor]:
    """The most similar keys of the likeliest cells.

    Args:
        queries_nd: Unit vectors.
        keys_md: Cell by cell, of any type; float32 saves its conversion.
        centres_cd: Unit vectors.
        candidates: Keys returned per query, best first.
        probes: Cells searched per query.
        group: See GROUP.

    Returns:
        products_nk with the keys as they are, and rows_nk.
    """
    count, landmarks = queries_nd.shape[0], keys_md.shape[0]
    cells = centres_cd.shape[0]
    size = -(-landmarks // (16 * cells)) * 16
    cell_np = torch.matmul(queries_nd, centres_cd.t()).topk(probes, dim=1)[1]
    # Columns of the block are pairs of a query and a cell, cell by cell.
    order = cell_np.flatten().argsort()
    asked_dp = queries_nd[order // probes].t()
    products_sp = torch.empty([size, count * probes], dtype=torch.float32,
                              device=queries_nd.device)
    counts: List[int] = torch.bincount(cell_np.flatten(), minlength=cells).tolist()
    converts = keys_md.dtype != torch.float32
    first = 0
    for cell, asked in enumerate(counts):
        if asked > 0:
            start = min(cell * size, landmarks - size)
            columns = products_sp.narrow(1, first, asked)
            keys = keys_md.narrow(0, start, size)
            torch.mm(keys.float() if converts else keys, asked_dp.narrow(1, first, asked),
                     out=columns)
            if start < cell * size:  # rows that are the last but one cell's
                columns[:cell * size - start] = -1e4
            first += asked
    # Groups stand for their best member: if a key is among the k best, its group is among the k
    # best groups.
    blocks = size // group
    column_np = order.argsort().view(count, probes)
    by_group_nq = products_sp.view(group, blocks, -1).amax(0).t()[column_np].flatten(1)
    best_nq = by_group_nq.topk(min(candidates, by_group_nq.shape[1]), dim=1)[1]
    probe_nq = best_nq // blocks
    member_g = torch.arange(group, device=queries_nd.device) * blocks
    row_nqg = (best_nq % blocks).unsqueeze(2) + member_g
    column_nq1 = column_np.gather(1, probe_nq).unsqueeze(2)
    product_nr = torch.take(products_sp, row_nqg * (count * probes) + column_nq1).flatten(1)
    top = product_nr.topk(candidates, dim=1)
    start_nq = (cell_np.gather(1, probe_nq) * size).clamp(max=landmarks - size)
    rows_nr = (row_nqg + start_nq.unsqueeze(2)).flatten(1)
    return top[0], rows_nr.gather(1, top[1])


def arrange_in_cells(keys_md: Tensor, cells: int, generator: torch.Generator,
                     ) -> Tuple[Tensor, Tensor]:
    """Cluster unit keys: order_m that puts them cell by cell, and centres_cd of the cells."""
    start = torch.randperm(len(keys_md), generator=generator)[:cells].to(keys_md.device)
    centres = torch.nn.functional.normalize(keys_md[start], dim=1)
    for _ in range(ITERATIONS):
        centres = _centres((keys_md @ centres.T).argmax(dim=1), keys_md, centres)
    cell = _balanced_cells(keys_md @ centres.T, cell_size(len(keys_md), cells))
    return cell.argsort(stable=True), _centres(cell, keys_md, centres)


def _centres(cell_m: Tensor, keys_md: Tensor, before_cd: Tensor) -> Tensor:
    sums = torch.zeros_like(before_cd).index_add_(0, cell_m, keys_md)
    empty = sums.norm(dim=1, keepdim=True) < 1e-6
    return torch.where(empty, before_cd, torch.nn.functional.normalize(sums, dim=1))


def _balanced_cells(similarity_mc: Tensor, size: int) -> Tensor:
    """A cell for each key, `size` keys in each but the last, as similar as that allows.

    Crowded cells get a price until few keys have to move (an auction, Bertsekas 1979); those that
    fit least then move to the best cell with room.
    """
    keys, cells = similarity_mc.shape
    room_c = torch.full((cells,), size, device=similarity_mc.device)
    room_c[-1] = keys - size * (cells - 1)
    price_c = torch.zeros_like(similarity_mc[0])
    for step in range(BALANCING_ITERATIONS):
        crowd_c = torch.bincount((similarity_mc - price_c).argmax(dim=1), minlength=cells)
        price_c += 0.1 * 0.95 ** step * ((crowd_c - room_c) / size).clamp(-1.0, 1.0)
    value_mc = similarity_mc - price_c
    cell_m = torch.full((keys,), -1, device=similarity_mc.device)
    while bool((cell_m < 0).any()):
        waiting = (cell_m < 0).nonzero()[:, 0]
        value, wanted = value_mc[waiting].masked_fill(room_c == 0, -torch.inf).max(dim=1)
        for cell in wanted.unique().tolist():
            asking = (wanted == cell).nonzero()[:, 0]
            taken = asking[value[asking].argsort(descending=True)[:int(room_c[cell])]]
            cell_m[waiting[taken]] = cell
            room_c[cell] -= len(taken)
    return cell_m
