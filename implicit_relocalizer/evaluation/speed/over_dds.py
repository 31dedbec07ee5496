# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What was measured between processes, put beside what was measured within one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def add_dds(measured: dict[str, Any], dds: Mapping[str, Any], load: str) -> None:
    """Add the node over DDS to the result of one device.

    Args:
        measured: Of one device, as of `measuring.summarize_samples`; is changed.
        dds: `loads` by name, each with `node` and `empty_node`, whose `latency_ms` has a
            `median`; where the same model was also called in the camera's process in turns with
            them, `dds_over_process` of the load is the ratio, as all three met the same machine,
            and `dds_over_process_spread` how far its rounds are apart.
        load: The one whose times and ratio stand for all.
    """
    figures = dds['loads'][load]
    dds_ms, empty_node_ms = (figures[target]['latency_ms']['median']
                             for target in ('node', 'empty_node'))
    ratio = figures.get('dds_over_process')
    if ratio is None and dds_ms is not None and empty_node_ms is not None:
        ratio = round((dds_ms - empty_node_ms) / measured['total_ms'], 4)
    measured.update(dds_ms=dds_ms, empty_node_ms=empty_node_ms, dds_load=load, dds=dict(dds),
                    dds_absent_because=None)
    measured['ratios']['dds_over_process'] = ratio
    spread = figures.get('dds_over_process_spread')
    if spread is not None:
        measured['ratio_spread']['dds_over_process'] = spread
