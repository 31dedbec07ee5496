# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics of what the camera of a measurement saw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from implicit_relocalizer.ros.benchmark.plan import EMPTY_NODE, NODE, PROCESS, Slice


def summarize(slices: Sequence[Slice]) -> dict[str, Any]:
    """One load: each target's figures, and their ratio where all three were measured.

    Args:
        slices: Of one load, each target's in the order in which they were measured.

    Returns:
        Of each target what `summarize_target` says. `dds_over_process`: what the node's median is
        above the empty node's, over that of the model alone, within each round of turns; the
        median of the rounds in which all three answered, `dds_over_process_spread` their p5, p95.
    """
    summary: dict[str, Any] = {
        target: summarize_target([one for one in slices if one.target == target])
        for target in dict.fromkeys(one.target for one in slices)}
    turns = ([_median_ms(one) for one in slices if one.target == target]
             for target in (NODE, EMPTY_NODE, PROCESS))
    ratios = [(node_ms - empty_ms) / process_ms
              for node_ms, empty_ms, process_ms in zip(*turns, strict=False)
              if node_ms is not None and empty_ms is not None and process_ms is not None]
    if ratios:
        of_rounds = spread(ratios)
        summary['dds_over_process'] = of_rounds['median']
        summary['dds_over_process_spread'] = {key: of_rounds[key] for key in ('p5', 'p95')}
    return summary


def summarize_target(slices: Sequence[Slice]) -> dict[str, Any]:
    """The turns of one target under one load taken together.

    Returns:
        `latency_ms` (median, p5, p95, max: from publication to reception of the pose),
        `p95_over_median`, `sent`, `answered`; `waited`: images that came before the answer to the
        one before them and were answered after it; `answers_per_s`; `cpu_share` of one core. Of
        the relocalizer also what it counted itself: `superseded` by a newer image, `refused`, and
        `unheard`, replaced in the middleware's queue or lost on the way; `inference_ms`, the
        median of what it said the model took; `last_refusal`.
    """
    latencies_ms = [ms for one in slices for ms in _latencies_ms(one)]
    sent = sum(len(one.sent_ns) for one in slices)
    duration_s = sum(one.duration_s for one in slices)
    figures: dict[str, Any] = {
        'latency_ms': spread(latencies_ms),
        'sent': sent, 'answered': len(latencies_ms),
        'waited': sum(count_waited(one) for one in slices),
        'answers_per_s': round(len(latencies_ms) / duration_s, 2),
        'cpu_share': round(sum(one.cpu_s for one in slices) / duration_s, 4)}
    if latencies_ms:
        spread_ms = figures['latency_ms']
        figures['p95_over_median'] = round(spread_ms['p95'] / spread_ms['median'], 4)
    if any(one.counts for one in slices):
        counts = {name: sum(one.counts.get(name, 0) for one in slices)
                  for name in ('received', 'superseded', 'refused')}
        figures.update(superseded=counts['superseded'], refused=counts['refused'],
                       unheard=max(0, sent - counts['received']))
        figures['inference_ms'] = _median(ms for one in slices for ms in one.inference_ms)
        figures['last_refusal'] = slices[-1].last_refusal
    return figures


def count_waited(one: Slice) -> int:
    """Answered images that were published while an earlier one was not answered yet."""
    waited, answered_ns = 0, 0
    for sent, received in zip(one.sent_ns, one.received_ns, strict=True):
        if received is not None:
            waited += sent < answered_ns
            answered_ns = received
    return waited


def spread(values: Iterable[float]) -> dict[str, float | None]:
    """Median, 5th and 95th percentile, and largest; None of nothing."""
    listed = list(values)
    if not listed:
        return {'median': None, 'p5': None, 'p95': None, 'max': None}
    p5, median, p95 = np.percentile(listed, [5, 50, 95]).tolist()
    return {'median': round(median, 4), 'p5': round(p5, 4), 'p95': round(p95, 4),
            'max': round(max(listed), 4)}


def _latencies_ms(one: Slice) -> list[float]:
    return [1e-6 * (received - sent)
            for sent, received in zip(one.sent_ns, one.received_ns, strict=True)
            if received is not None]


def _median_ms(one: Slice) -> float | None:
    return _median(_latencies_ms(one))


def _median(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(float(np.median(listed)), 4) if listed else None
