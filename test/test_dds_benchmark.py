# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node measured over DDS, against an empty node and the model alone."""

import json
import subprocess
import sys

import numpy as np
import psutil
import pytest
from colour_model import HEIGHT, WIDTH, write_model
from node_peer import K

from implicit_relocalizer.ros.benchmark.dds import BenchmarkError, measure_dds
from implicit_relocalizer.ros.benchmark.plan import EMPTY_NODE, NODE, Plan, Slice, write_plan
from implicit_relocalizer.ros.benchmark.summary import count_waited, summarize, summarize_target
from implicit_relocalizer.ros.processes import make_private_environment

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')

IMAGES = [np.full((HEIGHT, WIDTH, 3), value, np.uint8) for value in (10, 20)]
K_33 = np.reshape(K, (3, 3))
MS = 1_000_000


def one_slice(target='node', sent_ms=(0, 10, 20, 30), received_ms=(15, 22, None, 38),
              **changes) -> Slice:
    return Slice('100', target, 0.04, [MS * at for at in sent_ms],
                 [at if at is None else MS * at for at in received_ms], 0.02, **changes)


def test_latencies_are_of_answered_images_and_who_waited_is_counted():
    counts = {'received': 3, 'superseded': 1, 'answered': 3, 'refused': 0}
    figures = summarize_target([one_slice(counts=counts, inference_ms=[4.0]),
                                one_slice(counts=counts, inference_ms=[6.0])])
    assert figures['latency_ms'] == {'median': 12.0, 'p5': 8.0, 'p95': 15.0, 'max': 15.0}
    assert (figures['sent'], figures['answered'], figures['waited']) == (8, 6, 2)
    assert (figures['superseded'], figures['refused'], figures['unheard']) == (2, 0, 2)
    assert figures['answers_per_s'] == 75.0 and figures['cpu_share'] == 0.5
    assert figures['inference_ms'] == 5.0 and figures['p95_over_median'] == 1.25
    assert count_waited(one_slice(sent_ms=(0, 10), received_ms=(None, 20))) == 0


def test_what_the_node_adds_is_over_the_model_alone():
    slices = [one_slice('node', (0,), (25,)), one_slice('empty_node', (0,), (4,)),
              one_slice('process', (0,), (20,))]
    assert summarize(slices)['dds_over_process'] == 1.05
    assert 'dds_over_process' not in summarize(slices[:2])
    # Within each round: a machine that was slow for the node alone in one is not taken for it.
    slow = [one_slice('node', (0,), (59,)), one_slice('empty_node', (0,), (5,)),
            one_slice('process', (0,), (50,))]
    unlucky = [*slow[:2], slices[2]]
    lost = [one_slice('node', (0,), (None,)), *slow[1:2], slices[2]]
    rounds = summarize([*slices, *slow, *unlucky, *lost])
    assert rounds['dds_over_process'] == 1.08
    assert rounds['dds_over_process_spread'] == {'p5': 1.053, 'p95': 2.538}
    assert summarize([one_slice('node', (0,), (None,))])['node']['latency_ms']['median'] is None


def test_node_empty_node_and_model_answer_the_same_images(tmp_path):
    result = measure_dds(write_model(tmp_path / 'm.pt', work=3), 'cpu', IMAGES, K_33,
                         rates_hz=(20.0,), seconds_per_rate=0.5, turn_s=0.25, encoding='bgr8',
                         parameters={'tf_mode': 'none'}, tf_rate_hz=20.0)
    assert json.loads(json.dumps(result)) == result
    assert list(result['loads']) == ['20', 'flat_out', 'saturated']
    assert result['rounds'] == 2
    steady = result['loads']['20']
    for target in ('node', 'empty_node', 'process'):
        figures = steady[target]
        assert 5 <= figures['sent'] <= 12 and figures['answered'] >= 0.7 * figures['sent']
        assert 0.0 < figures['latency_ms']['p5'] <= figures['latency_ms']['median'] < 1000.0
    # Of the quickest answers: other programs' work is in the ordinary ones.
    assert steady['node']['latency_ms']['p5'] > steady['process']['latency_ms']['p5']
    assert steady['node']['refused'] == 0
    assert result['loads']['flat_out']['node']['waited'] == 0
    assert result['memory_mb']['node'] > result['memory_mb']['empty_node'] > 10.0
    # other tests' servers, from which they fork, name modules within one argument
    assert not [child for child in psutil.Process().children(recursive=True)
                if any(part.startswith('implicit_relocalizer.') for part in child.cmdline())]


def test_a_node_that_does_not_start_tells_why(tmp_path):
    told = r'(?s)the (node|camera) ended with status 1.*absent\.pt'  # who looked first
    with pytest.raises(BenchmarkError, match=told):
        measure_dds(tmp_path / 'absent.pt', 'cpu', IMAGES, K_33, (10.0,), 0.2)


def test_a_camera_without_nodes_says_what_is_missing(tmp_path):
    plan = Plan(('10',), (NODE, EMPTY_NODE), 1, 0.1, tuple(K), patience_s=0.2)
    write_plan(tmp_path, plan, IMAGES)
    camera = subprocess.run(
        [sys.executable, '-m', 'implicit_relocalizer.ros.benchmark.camera', str(tmp_path)],
        env=make_private_environment(tmp_path), capture_output=True, text=True, check=False)
    assert camera.returncode == 1
    for missing in ('nobody subscribes to /measured/image', 'nobody subscribes to /empty/image',
                    'nobody publishes /measured/relocalizer/pose'):
        assert missing in camera.stderr
    assert 'Traceback' not in camera.stderr
