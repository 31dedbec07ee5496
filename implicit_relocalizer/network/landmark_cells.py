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

PROBES = 4
# Keys of a cell, and landmarks of a head, are a multiple of it.
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


def cell_blocks(keys_md: Tensor, cells: int) -> Tensor:
    """The keys of each cell as columns, float32: (cells, key_size, cell_size), a view."""
    landmarks = keys_md.shape[0]
    size = -(-landmarks // (16 * cells)) * 16
    start_c1 = (torch.arange(cells, device=keys_md.device) * size).clamp(
        max=landmarks - size).unsqueeze(1)
    row_cs = start_c1 + torch.arange(size, device=keys_md.device)
    keys_csd = keys_md.index_select(0, row_cs.flatten()).float().view(cells, size, -1)
    return keys_csd.transpose(1, 2)


def search_cells(queries_nd: Tensor, blocks_cds: Tensor, centres_cd: Tensor, landmarks: int,
                 candidates: int, probes: int = PROBES) -> Tuple[Tensor, Tensor]:
    """The most similar keys of the likeliest cells.

    Args:
        queries_nd: Unit vectors.
        blocks_cds: Of `cell_blocks`; contiguous ones take two thirds of the time.
        centres_cd: Unit vectors.
        landmarks: Keys there are.
        candidates: Keys returned per query, best first.
        probes: Cells searched per query.

    Returns:
        products_nk with the keys as they are, and rows_nk.
    """
    count, cells, size = queries_nd.shape[0], blocks_cds.shape[0], blocks_cds.shape[2]
    cell_r = likeliest_cells(queries_nd, centres_cd, probes).flatten()
    # Rows of the block of products are pairs of a query and a cell, cell by cell.
    order_r = cell_r.argsort()
    asked_rd = queries_nd.index_select(0, order_r // probes)
    counts: List[int] = torch.bincount(cell_r, minlength=cells).tolist()
    products_rs = torch.empty([count * probes, size], dtype=torch.float32,
                              device=queries_nd.device)
    first = 0
    for cell, asked in enumerate(asked_rd.split(counts)):
        torch.mm(asked, blocks_cds[cell], out=products_rs.narrow(0, first, counts[cell]))
        first += counts[cell]
    twice = cells * size - landmarks
    if twice > 0:  # keys of the last cell that are the last but one's too
        products_rs.narrow(0, first - counts[-1], counts[-1]).narrow(1, 0, twice).fill_(-1e4)

    quarter_rs = quarter(products_rs)
    sixteenth_rs = quarter(quarter_rs)
    row_r = torch.empty_like(order_r).scatter_(
        0, order_r, torch.arange(count * probes, device=queries_nd.device))
    blocks_b = torch.arange(sixteenth_rs.shape[1], device=queries_nd.device)
    product_nm = sixteenth_rs.index_select(0, row_r).view(count, -1)
    index_nk = product_nm.topk(min(candidates, product_nm.shape[1]), dim=1, sorted=False)[1]
    row_nk = row_r.unsqueeze(1).expand(-1, len(blocks_b)).reshape(count, -1).gather(1, index_nk)
    column_nk = blocks_b.expand(probes, -1).flatten().expand(count, -1).gather(1, index_nk)
    _, row_nk, column_nk = best_members(quarter_rs, row_nk, column_nk, candidates, False)
    product_nk, row_nk, column_nk = best_members(products_rs, row_nk, column_nk, candidates, True)
    start_r = (cell_r * size).clamp(max=landmarks - size).index_select(0, order_r)
    return product_nk, torch.take(start_r, row_nk) + column_nk


def likeliest_cells(queries_nd: Tensor, centres_cd: Tensor, probes: int) -> Tensor:
    """Which cells' centres are most like each query: (N, probes), in any order."""
    similarity_nc = torch.matmul(queries_nd, centres_cd.t())
    beyond = -similarity_nc.shape[1] % 4
    similarity_nc = torch.nn.functional.pad(similarity_nc, [0, beyond], value=-2.0)
    quarter_nc = quarter(similarity_nc)
    column_np = quarter_nc.topk(min(probes, quarter_nc.shape[1]), dim=1, sorted=False)[1]
    row_n1 = torch.arange(queries_nd.shape[0], device=queries_nd.device).unsqueeze(1)
    return best_members(similarity_nc, row_n1.expand_as(column_np), column_np, probes, False)[2]


def quarter(values_rs: Tensor) -> Tensor:
    """(R, S / 4): the largest of the four numbers of a row that are S / 4 apart.

    Halves against each other: `amax` took ten times as long.
    """
    half, quarter = values_rs.shape[1] // 2, values_rs.shape[1] // 4
    half_rs = torch.maximum(values_rs.narrow(1, 0, half), values_rs.narrow(1, half, half))
    return torch.maximum(half_rs.narrow(1, 0, quarter), half_rs.narrow(1, quarter, quarter))


def best_members(values_rs: Tensor, row_nk: Tensor, column_nk: Tensor, count: int,
                 in_order: bool) -> Tuple[Tensor, Tensor, Tensor]:
    """The largest of the numbers that chosen numbers of `quarter(values_rs)` stand for.

    If a number is among the k largest, the one that stands for it is among the k largest of those:
    from quarter to quarter a few numbers are sorted and not all.

    Returns:
        values_nk, row_nk and column_nk.
    """
    width = values_rs.shape[1]
    member_4 = torch.arange(4, device=values_rs.device) * (width // 4)
    column_nm = (column_nk.unsqueeze(2) + member_4).flatten(1)
    index_nm = ((row_nk * width).unsqueeze(2) + column_nk.unsqueeze(2) + member_4).flatten(1)
    values_nk, best_nk = torch.take(values_rs, index_nm).topk(count, dim=1, sorted=in_order)
    return values_nk, row_nk.gather(1, best_nk >> 2), column_nm.gather(1, best_nk)


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
