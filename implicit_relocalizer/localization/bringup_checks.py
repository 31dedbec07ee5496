# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The bring-up doctor's judgement: what was observed of a graph -> what is wrong with it."""

from __future__ import annotations

from implicit_relocalizer.localization.bringup_camera import (
    check_camera_info,
    check_images,
    check_model,
)
from implicit_relocalizer.localization.bringup_clock import check_clock
from implicit_relocalizer.localization.bringup_findings import Finding, Subject, named
from implicit_relocalizer.localization.bringup_frames import check_transforms
from implicit_relocalizer.localization.bringup_observation import (
    COMPRESSED_IMAGE_TYPE,
    IMAGE_TYPE,
    Observation,
    Topic,
)

_GRAPH, _NODE, _COMPUTER = Subject('graph'), Subject('relocalizer'), Subject('computer')


def check_bringup(seen: Observation) -> list[Finding]:
    """Every finding, in the order in which a person would repair them."""
    if not seen.nodes and not seen.topics:
        return [_empty_graph(seen), *check_model(seen), *check_computer(seen)]
    return [*check_images(seen), *check_camera_info(seen), *check_transforms(seen),
            *check_clock(seen), *check_relocalizer(seen), *check_model(seen),
            *check_computer(seen)]


def check_relocalizer(seen: Observation) -> list[Finding]:
    """Our node: there, active, listening to this camera, and sure of itself."""
    node = seen.relocalizer
    if not node.name:
        return [_NODE.ok('node_skipped', "not looked for (--node '')")]
    if not node.count:
        similar = [name for name in seen.nodes if 'reloc' in name]
        return [_NODE.problem(
            'node_not_found', f"no node '{node.name}' runs; similar ones: {named(similar)}",
            'start it (ros2 launch implicit_relocalizer relocalize.launch.py model:=...) or give '
            "its full name with --node; --node '' looks for none")]
    findings = []
    if node.count > 1:
        findings.append(_NODE.problem(
            'node_twice', f"{node.count} nodes are called '{node.name}'",
            'stop all but one, or give each robot a namespace'))
    if not node.lifecycle:
        findings.append(_NODE.warning(
            'node_silent', f"'{node.name}' did not tell its lifecycle state in "
            f'{seen.seconds:g} s', 'look at its log; is it still loading its model?'))
    elif node.lifecycle != 'active':
        findings.append(_NODE.problem(
            'node_not_active', f"'{node.name}' is {node.lifecycle}, not active",
            f'`ros2 lifecycle set {node.name} '
            f'{"activate" if node.lifecycle == "inactive" else "configure"}`, or set autostart: '
            f'true; its log says why a transition failed'))
    findings += _check_subscriptions(seen) + _check_parameters(seen) + _check_state(seen)
    if findings:
        return findings
    state = node.diagnostics.get('state', 'no diagnostics heard')
    return [_NODE.ok('node_ok', f"'{node.name}' is active: {state}")]


def check_computer(seen: Observation) -> list[Finding]:
    """Whether a GPU that is here can be used."""
    computer, device = seen.computer, seen.relocalizer.parameters.get('device', 'auto')
    if not computer.gpu:
        return [_COMPUTER.ok('no_gpu', 'no NVIDIA GPU here; the model runs on the CPU')]
    if computer.torch_has_cuda:
        return [_COMPUTER.ok('gpu_ok', f'{computer.gpu}, usable by torch '
                             f'{computer.torch_version}')]
    if device == 'cpu':
        return [_COMPUTER.ok('gpu_unused', f'{computer.gpu} is not used (device cpu)')]
    make = _COMPUTER.problem if device == 'cuda' else _COMPUTER.warning
    return [make(
        'torch_without_cuda', f'there is a GPU ({computer.gpu}) but torch '
        f'{computer.torch_version} cannot use it',
        'install a torch built for CUDA (on a Jetson: the wheel of its JetPack), check the '
        'driver with nvidia-smi; or set device: cpu')]


def _check_subscriptions(seen: Observation) -> list[Finding]:
    node = seen.relocalizer
    findings = []
    for topic, types, parameter in (
            (seen.image, {IMAGE_TYPE, COMPRESSED_IMAGE_TYPE}, 'image'),
            (seen.camera_info, {seen.camera_info.type_name}, 'camera_info')):
        heard = [name for name, type_name in node.subscriptions if type_name in types]
        if heard and not _is_heard(topic, node.subscriptions):
            findings.append(_NODE.problem(
                'node_listens_elsewhere', f"'{node.name}' listens to {named(heard)}, not to "
                f"'{topic.name}' ({topic.type_name.split('/')[-1]})",
                f'remap its {parameter} to it (launch argument {parameter}:=...), or tell the '
                f'doctor the other name'))
    return findings


def _is_heard(topic: Topic, subscriptions: tuple[tuple[str, str], ...]) -> bool:
    return (topic.name, topic.type_name) in subscriptions


def _check_parameters(seen: Observation) -> list[Finding]:
    """Where the user's word and the node's are not the same, one of the two is a mistake."""
    told = seen.relocalizer.parameters
    differing = [
        f'{name} is {told[name]!r} there and {value!r} here'
        for name, value in vars(seen.expected).items()
        # use_sim_time is a matter of the clock; an empty camera_frame means that of the images.
        if name != 'use_sim_time' and name in told and told[name] not in ('', value)]
    if not differing:
        return []
    return [_NODE.warning(
        'parameters_differ', f"the parameters of '{seen.relocalizer.name}' are others than the "
        f'options of the doctor: {"; ".join(differing)}',
        'correct the one that is wrong; options that are not given are taken from the node')]


def _check_state(seen: Observation) -> list[Finding]:
    values = seen.relocalizer.diagnostics
    state, reason = values.get('state', ''), values.get('state_reason', '')
    if state not in ('LOST', 'SEARCHING'):
        return []
    last = values.get('last_refusal', '')
    text = values.get('last_refusal_text', '')
    why = f'; the last image was refused: {last}{f" ({text})" if text else ""}' if last else ''
    sentence = f"'{seen.relocalizer.name}' is {state} ({reason or 'no reason given'}){why}"
    if state == 'LOST' and reason == 'waiting_for_request':
        return [_NODE.ok('node_waiting', f'{sentence}: it looks when ~/relocalize is called')]
    remedy = 'look the reason up in doc/troubleshooting.md'
    if state == 'LOST':
        return [_NODE.problem('node_lost', sentence, remedy)]
    return [_NODE.warning('node_searching', sentence, f'{remedy} if it does not end')]


def _empty_graph(seen: Observation) -> Finding:
    set_here = ', '.join(f'{name}={value}' for name, value in seen.environment.items() if value)
    return _GRAPH.problem(
        'nothing_found', f'no other node and no topic was found in {seen.seconds:g} s; here is '
        f'{set_here or "the default environment (domain 0)"}',
        'start the robot; if it runs, ROS_DOMAIN_ID, RMW_IMPLEMENTATION and '
        'ROS_AUTOMATIC_DISCOVERY_RANGE (LOCALHOST hides other computers) have to be the same on '
        'both sides, and multicast has to pass the network between them')
