# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A benchmark for a person: tables for a terminal and, the same numbers, for a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from implicit_relocalizer.evaluation.hardware import is_busy
from implicit_relocalizer.evaluation.speed.rivals import MOBILENET

Row = tuple[str, ...]

STAGE_LABELS = {
    'decode_jpeg': 'JPEG message to RGB', 'decode_raw': 'bgr8 message to RGB',
    'prepare': 'upload and resize', 'encoder': 'encoder alone', 'head': 'head alone',
    'forward': 'network: encoder, head, clouds', 'kabsch': 'one weighted Kabsch, all points',
    'hypotheses': 'hypotheses', 'refinement': 'refinement',
    'align': 'alignment: hypotheses and refinement', 'assessment': 'covariance and confidence',
    'total': 'image in memory to pose',
    'unrecorded': 'the same without a CUDA graph', 'messages': 'pose to messages',
    'baseline': 'pose regression, same encoder', f'baseline_{MOBILENET}':
    'pose regression, MobileNetV3-large', 'sift_map': 'SIFT map, PnP-RANSAC'}
RATIO_LABELS = {
    'overhead_over_forward': 'all but the network / network',
    'align_over_forward': 'alignment / network',
    'total_over_baseline': 'image to pose / pose regression, same encoder',
    'total_over_mobilenet': 'image to pose / pose regression, MobileNetV3-large',
    'sift_over_total': 'SIFT map / image to pose',
    'dds_over_process': '(over DDS - empty node) / image to pose'}


def describe_benchmark(result: Mapping[str, Any]) -> str:
    """The result for a terminal."""
    blocks = [_circumstances(result)]
    for device, measured in result['devices'].items():
        blocks += [f'{device}: {_summary(measured)}',
                   _columns(stage_rows(measured)), _columns(ratio_rows(measured))]
        if measured['dds'] is None:
            blocks.append(f'over DDS: not measured ({measured["dds_absent_because"]})')
        else:
            blocks.append(_columns(dds_rows(measured)))
    return '\n\n'.join(blocks)


def benchmark_markdown(result: Mapping[str, Any]) -> str:
    """The result for a page."""
    blocks = [_circumstances(result)]
    for device, measured in result['devices'].items():
        blocks += [f'**{device}**: {_summary(measured)}',
                   _markdown(stage_rows(measured)), _markdown(ratio_rows(measured))]
        if measured['dds'] is not None:
            blocks.append(_markdown(dds_rows(measured)))
    return '\n\n'.join(blocks) + '\n'


def stage_rows(measured: Mapping[str, Any]) -> list[Row]:
    """Head and a row a step, in milliseconds."""
    key, title = _second_clock(measured)
    rows: list[Row] = [('ms an image', 'median', '5 %', '95 %', 'quartiles apart', title)]
    for name, label in STAGE_LABELS.items():
        if name in measured['stages']:
            stage = measured['stages'][name]
            rows.append((label, *(f'{stage[f"{each}_ms"]:.2f}'
                                  for each in ('median', 'p5', 'p95', 'iqr')),
                         _digits(stage.get(key), 2)))
    return rows


def ratio_rows(measured: Mapping[str, Any]) -> list[Row]:
    """Head and a row a ratio that was measured."""
    rows: list[Row] = [('ratio, round by round', 'median', '5 %', '95 %', 'quartiles apart',
                        'of processor time')]
    for name, label in RATIO_LABELS.items():
        value = measured['ratios'].get(name)
        if value is None:
            continue
        spread = measured['ratio_spread'].get(name, {})
        rows.append((f'{name}: {label}', f'{value:.3f}',
                     *(_digits(spread.get(key), 3) for key in ('p5', 'p95', 'iqr')),
                     _digits(measured['cpu_time_ratios'].get(name), 3)))
    return rows


def _second_clock(measured: Mapping[str, Any]) -> tuple[str, str]:
    on_gpu = any('device_median_ms' in stage for stage in measured['stages'].values())
    return ('device_median_ms', 'by events') if on_gpu else ('cpu_median_ms', 'of processor time')


def dds_rows(measured: Mapping[str, Any]) -> list[Row]:
    """Head and a row for each rate of publication: the node, and what it is weighed against."""
    rows: list[Row] = [('over DDS, ms from image to pose', 'median', '5 %', '95 %', 'empty node',
                        'model in the same process', 'ratio', 'waited', 'answered')]
    for load, figures in measured['dds']['loads'].items():
        node = figures['node']
        rows.append((
            f'{load} Hz' if load[:1].isdigit() else load.replace('_', ' '),
            *(_digits(node['latency_ms'][key], 2) for key in ('median', 'p5', 'p95')),
            *(_digits(figures.get(target, {}).get('latency_ms', {}).get('median'), 2)
              for target in ('empty_node', 'process')),
            _digits(figures.get('dds_over_process'), 2), str(node['waited']),
            f'{node["answered"]} of {node["sent"]}'))
    return rows


def _digits(value: float | None, count: int) -> str:
    return '-' if value is None else f'{value:.{count}f}'


def _circumstances(result: Mapping[str, Any]) -> str:
    images, threads = result['images'], result['threads']
    place = (f'{images["source"]} ({images["scene"]}, {images["split"]} split)'
             if images['scene'] else images['source'])
    hardware = list(result['hardware'].values())
    busy = '; other work had the cores too' if any(is_busy(each) for each in hardware) else ''
    gpus = ''.join(f', GPU {each["gpu"]}' for each in hardware if each['gpu'])
    model = result['model']
    return (f'{model["name"]} ({model["scene"]}, {model["encoder"]}, '
            f'{model["bytes"] / 1e6:.1f} MB, sha256 {model["sha256"][:12]}), '
            f'{images["count"]} images of {images["size"][0]}x{images["size"][1]}: {place}; '
            f'{result["rounds"]} rounds; CPU {hardware[0]["processor"]}, '
            f'{hardware[0]["cores"]} cores, {threads["torch"]} threads{gpus}, '
            f'torch {result["versions"]["torch"]}{busy}')


def _summary(measured: Mapping[str, Any]) -> str:
    width, height = measured['input_size']
    parts = [f'the network sees {width}x{height}',
             f'{measured["frames_per_second"]:.1f} images a second, one at a time']
    if measured['peak_rss_bytes'] is not None:
        parts.append(f'{measured["peak_rss_bytes"] / 1e6:.0f} MB resident at most')
    if measured['peak_cuda_bytes'] is not None:
        parts.append(f'{measured["peak_cuda_bytes"] / 1e6:.0f} MB on the GPU at most')
    return ', '.join(parts)


def _columns(rows: Sequence[Row]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return '\n'.join('  '.join(
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows)


def _markdown(rows: Sequence[Row]) -> str:
    def lines() -> Iterator[Row]:
        yield rows[0]
        yield '---', *['---:'] * (len(rows[0]) - 1)
        yield from rows[1:]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines())
