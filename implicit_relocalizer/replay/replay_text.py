# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What came of a replay, in lines for people."""

from __future__ import annotations

from statistics import median

from implicit_relocalizer.replay.replaying import ReplayResult
from implicit_relocalizer.replay.timeline import NS_PER_S


def describe_replay(result: ReplayResult) -> str:
    """Images, answers, refusals by reason, states with their times, speed."""
    statistics, journal = result.statistics, result.journal
    unwanted = result.images - statistics.received - result.damaged[result.image_topic]
    lines = [f'images           {result.images} on {result.image_topic}, calibration from '
             f'{result.camera_info_topic}',
             f'answered         {statistics.answered}']
    lines += [f'{label:<16} {count} {text}'.rstrip() for label, count, text in (
        ('superseded', statistics.superseded, 'by newer images before their turn'),
        ('not looked at', unwanted, 'as the node wanted none')) if count]
    lines += [f'damaged          {count} messages on {topic}'
              for topic, count in sorted(result.damaged.items())]
    for reason, count in statistics.rejected.most_common():
        lines.append(f'refused          {count} {reason.value}: {journal.examples[reason]}')
    for reason, example in journal.examples.items():
        if reason not in statistics.rejected:  # refuses no image
            lines.append(f'note             {reason.value}: {example}')
    lines.append('states')
    for time_ns, transition in journal.transitions:
        lines.append(f'  {(time_ns - result.start_ns) / NS_PER_S:8.2f} s  {transition}')
    if result.inference_s:
        lines.append(f'model            {1e3 * median(result.inference_s):.1f} ms in the median, '
                     f'{1e3 * max(result.inference_s):.1f} ms at most, here and now')
    lines.append(f'speed            {result.duration_s:.1f} s of the recording in '
                 f'{result.wall_s:.1f} s: {result.speed:.1f} x real time')
    return '\n'.join(lines)
