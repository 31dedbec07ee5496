# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Do the camera, the transforms and the node live in one time?"""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from implicit_relocalizer.localization.bringup_findings import Finding, Subject, named
from implicit_relocalizer.localization.bringup_observation import Observation

# tf2 keeps 10 s and answers at the stamp of the image: older ones find no odometry, those from
# the future find none yet.
MAX_IMAGE_AGE_S = 2.0
MAX_IMAGE_FUTURE_S = 0.5
MAX_ODOMETRY_LAG_S = 2.0

_MIN_FROZEN_IMAGES = 3
_CLOCK = Subject('clock')


def check_clock(seen: Observation) -> list[Finding]:
    """Simulated or system time, and the stamps of images and odometry in it."""
    findings = _check_source(seen)
    stamps = _check_stamps(seen)
    findings += stamps or _check_age(seen) or _check_odometry_lag(seen)
    if findings:
        return findings
    simulated = seen.expected.use_sim_time
    age_s = _median_age_s(seen, simulated)
    about = f', the images are {age_s:.2f} s old when they arrive' if age_s is not None else ''
    kind = 'simulated' if simulated else 'system'
    return [_CLOCK.ok('clock_ok', f'{kind} time{about}')]


def _check_source(seen: Observation) -> list[Finding]:
    clock, node = seen.clock, seen.relocalizer
    node_uses_it = node.parameters.get('use_sim_time')
    findings = []
    if seen.expected.use_sim_time or node_uses_it:
        if not clock.publishers:
            findings.append(_CLOCK.problem(
                'no_clock', 'use_sim_time is set but nobody publishes /clock: time stands still '
                'at zero',
                'start the simulator, or `ros2 bag play --clock`; on a real robot set '
                'use_sim_time: false'))
        elif not clock.messages:
            findings.append(_CLOCK.problem(
                'clock_silent', f'{named(clock.publishers)} offers /clock but no time came in '
                f'{seen.seconds:g} s', 'let the simulation or the recording run on (paused?)'))
    if node_uses_it is False and (clock.publishers or seen.expected.use_sim_time):
        why = (f'{named(clock.publishers)} publishes /clock' if clock.publishers
               else 'the robot is meant to take simulated time')
        findings.append(_CLOCK.problem(
            'node_wall_time', f"{why} but the relocalizer's use_sim_time is false",
            'start it with use_sim_time: true (launch argument use_sim_time:=true)'))
    elif clock.publishers and not seen.expected.use_sim_time and node_uses_it is None:
        findings.append(_CLOCK.warning(
            'clock_unexpected', f'{named(clock.publishers)} publishes /clock: is this a '
            f'simulation or a recording?',
            'then give --use-sim-time, and set use_sim_time: true for every node'))
    return findings


def _check_stamps(seen: Observation) -> list[Finding]:
    stamps_ns = [image.stamp_ns for image in seen.images]
    if not stamps_ns:
        return []
    if not any(stamps_ns):
        return [_CLOCK.problem(
            'stamps_zero', 'the stamps of the images are zero',
            'let the driver stamp its images; in simulation, with its use_sim_time set')]
    if len(stamps_ns) >= _MIN_FROZEN_IMAGES and len(set(stamps_ns)) == 1:
        return [_CLOCK.problem(
            'stamps_frozen', f'all {len(stamps_ns)} images have the stamp '
            f'{stamps_ns[0] * 1e-9:.3f}: the camera is frozen, or its clock is',
            'restart the camera driver; the relocalizer answers a stamp once')]
    if any(b < a for a, b in pairwise(stamps_ns)):
        return [_CLOCK.warning(
            'stamps_jump_back', 'the stamps of the images jump back: a recording that begins '
            'anew, or two cameras on one topic',
            'after each jump the relocalizer begins anew; play recordings without --loop')]
    return []


def _check_age(seen: Observation) -> list[Finding]:
    simulated = seen.expected.use_sim_time
    age_s, other_age_s = (_median_age_s(seen, simulated), _median_age_s(seen, not simulated))
    if age_s is None or _is_present(age_s):
        return []
    distance = f'{abs(age_s):.1f} s {"old" if age_s > 0 else "in the future"}'
    kind, other = ('simulated', 'system') if simulated else ('system', 'simulated')
    if _is_present(other_age_s):
        return [_CLOCK.problem(
            f'stamps_in_{other}_time', f'the images are stamped in {other} time, the robot '
            f'takes {kind} time ({distance})',
            'set use_sim_time: true for the camera driver' if simulated else
            'in a simulation set use_sim_time: true for every node and give --use-sim-time; on a '
            'robot set it to false for the camera driver')]
    return [_CLOCK.problem(
        'stamps_far', f'the images are {distance} when they arrive, by {kind} time',
        'synchronize the clocks of the computers (chrony); a driver that counts from its start '
        'needs its stamps set; a recording needs `ros2 bag play --clock` and use_sim_time')]


def _check_odometry_lag(seen: Observation) -> list[Finding]:
    lookup = seen.transforms.odometry
    if not (seen.images and lookup.found and lookup.stamp_ns):
        return []
    newest = seen.images[-1]
    # The transforms were looked up at the end, and the camera may be slow or have fallen silent.
    since_s = seen.seconds - newest.arrival_s
    lag_s = (newest.stamp_ns - lookup.stamp_ns) * 1e-9 + since_s
    if abs(lag_s) <= MAX_ODOMETRY_LAG_S:
        return []
    return [_CLOCK.problem(
        'odometry_stamps_far', f'the newest odometry is stamped {abs(lag_s):.1f} s '
        f'{"before" if lag_s > 0 else "after"} the newest image: none is found at the image\'s '
        f'stamp',
        'synchronize the clocks of the computers (chrony), and set use_sim_time alike for the '
        'camera and the odometry')]


def _median_age_s(seen: Observation, simulated: bool) -> float | None:
    times_ns = [(image.clock_ns if simulated else image.wall_ns, image.stamp_ns)
                for image in seen.images]
    ages_s = [(now_ns - stamp_ns) * 1e-9 for now_ns, stamp_ns in times_ns if now_ns is not None]
    return median(ages_s) if ages_s else None


def _is_present(age_s: float | None) -> bool:
    return age_s is not None and -MAX_IMAGE_FUTURE_S <= age_s <= MAX_IMAGE_AGE_S
