# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate BAG`: figures of runs with known errors, and where the reference comes from."""

import json

import numpy as np
import pytest
from bag_drive import S, add_mounting, add_odometry, body_pose, camera_pose, pose_stamps
from bag_run import (
    COVARIANCE_66,
    ESTIMATES,
    IMAGES,
    REFERENCE,
    STD_6,
    add_camera,
    add_estimates,
    add_reference,
    error_of,
    evaluate,
    true_pose,
    with_error,
    write_run,
)
from bag_writer import BagWriter, diagnostics, pose_stamped, transform
from scipy.spatial.transform import Rotation

from implicit_relocalizer.cli import main
from implicit_relocalizer.evaluation.metrics import RECALL_LIMITS

COUNT = len(IMAGES)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """An ordinary run, to be read only."""
    return write_run(tmp_path_factory.mktemp('runs') / 'run')


def no_error(index):
    return np.zeros(6)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_known_errors_give_known_figures(tmp_path, storage, capsys):
    """Two images unanswered, then a wrong answer, then one sigma in every other frame."""
    def errors(index):
        return np.array([6.0, 0, 0, 0, 0, 0]) if index == 0 else error_of(index)

    with BagWriter(tmp_path / 'run', storage) as bag:
        add_camera(bag)
        add_estimates(bag, IMAGES[2:], errors=errors)
        add_reference(bag)
    result = evaluate(tmp_path / 'run')
    assert (result['kind'], result['bag']) == ('recorded_run', 'run')
    assert result['topics'] == {'images': '/camera/image_raw', 'estimates': ESTIMATES,
                                'diagnostics': None}
    assert (result['images_asked'], result['images_answered']) == (COUNT, COUNT - 2)
    assert result['availability'] == pytest.approx(15 / 17)
    assert result['time_to_first_fix_s'] == pytest.approx({'by_stamp': 0.2, 'by_bag_time': 0.3})
    # 100, 101, ... 114 ms after their images.
    assert result['latency_ms'] == pytest.approx({'median': 107.0, 'p95': 113.3})
    errors_m = [6.0] + [0.0, 0.01] * 7
    summary = result['errors']
    assert (summary['frames'], summary['frames_asked'], summary['frames_answered']) == (17, 17, 15)
    for name, percent in (('median', 50), ('p90', 90), ('p99', 99)):
        assert summary[f'{name}_translation_m'] == pytest.approx(
            np.percentile(errors_m, percent), abs=1e-9)
    assert summary['p90_rotation_deg'] == pytest.approx(np.degrees(0.003), abs=1e-6)
    assert set(summary['recall']) == {limit.key for limit in RECALL_LIMITS} | {'5m_10deg'}
    assert set(summary['recall'].values()) == {14 / 17}
    assert result['false_accepts'] == {'beyond_m': 0.5, 'beyond_deg': 10.0, 'count': 1,
                                       'share': pytest.approx(1 / 15)}
    assert result['warnings'] == [] and result['states'] == []
    printed = capsys.readouterr().out
    assert '17 (15), 88.2%' in printed and '1, 6.67% of the answers' in printed


def test_known_covariances_give_known_coverage(tmp_path):
    """Errors of 0, 1, 2.5 and 4 sigma along one axis; the limits are 1.88, 2.83 and 3.76."""
    sizes = [0.0, 1.0, 2.5, 4.0]
    run = write_run(tmp_path / 'run', errors=lambda i: STD_6 * [0, 1, 0, 0, 1, 0] * sizes[i % 4])
    shares = np.array([i % 4 for i in range(COUNT)])
    covariance = evaluate(run)['covariance']
    assert covariance['kinds']['valid'] == COUNT
    for part in ('position', 'orientation'):
        found = covariance[part]
        assert found['compared'] == COUNT
        assert found['within'] == pytest.approx({
            '1_sigma': (shares <= 1).mean(), '2_sigma': (shares <= 2).mean(),
            '3_sigma': (shares <= 2).mean()})
        counts = dict(zip(found['histogram']['edges'], found['histogram']['counts'],
                          strict=False))
        assert counts[0.0] == 5 and counts[2.5] + counts[2.25] == 4
    assert covariance['position']['expected']['2_sigma'] == pytest.approx(0.9545, abs=1e-4)


@pytest.mark.parametrize(('change', 'kind', 'position', 'orientation'), [
    (lambda C: 0.0 * C, 'zero', 0, 0),
    (lambda C: C + 1e-4 * np.eye(6, k=1), 'not_symmetric', 0, 0),
    (lambda C: C - np.diag([0, 0, 0, 0, 0, 1.0]), 'not_positive_definite', COUNT, 0),
    (lambda C: C * np.where(np.eye(6) * [1, 0, 0, 0, 0, 0], np.nan, 1), 'not_finite', 0, COUNT),
])
def test_covariances_that_are_none_are_counted_and_said(tmp_path, capsys, change, kind, position,
                                                        orientation):
    result = evaluate(write_run(tmp_path / 'run', covariance_66=change(COVARIANCE_66)),
                      '--per-frame')
    assert result['covariance']['kinds'][kind] == COUNT
    assert result['covariance']['position']['compared'] == position
    assert result['covariance']['orientation']['compared'] == orientation
    assert f'of {COUNT} covariances not usable: {COUNT} {kind.replace("_", " ")}' \
        in capsys.readouterr().out


def test_poses_without_covariance(tmp_path, capsys):
    run = write_run(tmp_path / 'run', covariance_66=None, topic='/robot1/relocalizer/pose')
    result = evaluate(run, '--per-frame')
    assert result['covariance'] is None and result['frames_detail'][0]['covariance'] is None
    assert result['topics']['estimates'] == '/robot1/relocalizer/pose'
    assert 'no covariance on this topic' in capsys.readouterr().out


def test_every_estimate_can_be_listed(run, tmp_path):
    result = evaluate(run, '--per-frame', '--wrong-beyond', 0.005, 10, file=tmp_path / 'run.json')
    assert result['false_accepts']['count'] == 9
    rows = result['frames_detail']
    assert [row['stamp_ns'] for row in rows] == IMAGES and result['unanswered_stamps_ns'] == []
    np.testing.assert_allclose(rows[2]['position_error_m'], [0.01, 0, 0], atol=1e-9)
    np.testing.assert_allclose(rows[2]['rotation_error_rad'], [0, 0, 0.003], atol=1e-9)
    assert rows[2]['normalised_position_error'] == pytest.approx(1.0)
    assert rows[2]['latency_ms'] == pytest.approx(102.0)
    assert len(rows[2]['covariance']) == 36
    assert 'frames_detail' not in evaluate(run, file=tmp_path / 'short.json')


def test_trajectories_that_evo_reads(run, tmp_path):
    assert main(['evaluate', str(run), '--tum', str(tmp_path / 'out' / 'drive')]) == 0
    for name, errors in (('estimate', error_of), ('reference', no_error)):
        values = np.loadtxt(tmp_path / 'out' / f'drive_{name}.txt')
        assert values.shape == (COUNT, 8)
        first = (tmp_path / 'out' / f'drive_{name}.txt').read_text().split()[0]
        assert int(first.replace('.', '')) == IMAGES[0] and first[-10] == '.'
        for index, row in enumerate(values):
            expected = with_error(true_pose(IMAGES[index]), errors(index))
            np.testing.assert_allclose(row[1:4], expected[:3, 3], atol=1e-9)
            np.testing.assert_allclose(Rotation.from_quat(row[4:]).as_matrix(), expected[:3, :3],
                                       atol=1e-9)


def test_the_reference_is_interpolated_and_never_extrapolated(tmp_path, capsys):
    """Reference poses between the images, from the second image to the last but one; a gap."""
    stamps = [stamp_ns + 30_000_000 for stamp_ns in IMAGES[:-2]]
    del stamps[7:9]
    with BagWriter(tmp_path / 'run') as bag:
        add_camera(bag)
        add_estimates(bag)
        add_reference(bag, stamps, topic='/mocap/camera')
    result = evaluate(tmp_path / 'run', '--pose-is-camera')
    assert result['left_out']['images_without_reference'] == {
        'before the first pose': 1, 'after the last pose': 2, 'poses more than 0.2 s apart': 3}
    assert result['left_out']['estimates_without_reference'] == 6
    assert result['errors']['frames'] == result['errors']['frames_answered'] == COUNT - 6
    # What is judged, is judged exactly.
    assert result['errors']['p99_translation_m'] == pytest.approx(0.01, abs=1e-8)
    assert result['errors']['recall']['5cm_5deg'] == 1.0
    assert result['availability'] == 1.0
    assert '6 images have no reference and are not judged' in capsys.readouterr().out
    wide = evaluate(tmp_path / 'run', '--pose-is-camera', '--max-gap-s', 0.4)
    assert wide['errors']['frames'] == COUNT - 3


@pytest.mark.parametrize(('source', 'arguments'), [
    ('odometry', ()),
    ('poses', ('--reference-frame', 'base_link')),
    ('transforms', ('--reference-parent', 'map', '--reference-child', 'base_link')),
    ('transforms', ('--reference-parent', 'map')),
    ('unmounted', ('--reference-child', 'base_link', '--T-body-camera', 'mounting')),
])
def test_a_reference_of_the_base_of_the_robot(tmp_path, source, arguments):
    """The camera sits on a robot that drives a curve; the mounting is in /tf_static."""
    from bag_drive import T_BASE_CAMERA
    mounting = [*T_BASE_CAMERA[:3, 3], *Rotation.from_matrix(T_BASE_CAMERA[:3, :3]).as_quat()]
    with BagWriter(tmp_path / 'run') as bag:
        add_camera(bag)
        add_estimates(bag, true=camera_pose)
        if source != 'unmounted':
            add_mounting(bag)
        if source == 'odometry':
            add_odometry(bag, '/mocap/odom', frame_id='map')
        for stamp_ns in () if source == 'odometry' else pose_stamps():
            T_map_base = body_pose((stamp_ns - pose_stamps()[0]) / S)
            if source == 'poses':
                bag.add('/mocap/pose', pose_stamped(stamp_ns, T_map_base))
            else:
                bag.add('/tf', transform(stamp_ns, 'map', 'base_link', T_map_base))
    words = [word for given in arguments
             for word in (mounting if given == 'mounting' else [given])]
    errors = evaluate(tmp_path / 'run', *words)['errors']
    # Between samples 20 ms apart the curve is straight to 0.2 mm.
    assert errors['frames'] == COUNT
    assert errors['p99_translation_m'] == pytest.approx(0.01, abs=3e-4)
    assert errors['p99_rotation_deg'] == pytest.approx(np.degrees(0.003), abs=0.02)


def test_what_is_out_of_order_is_sorted_and_counted(run, tmp_path, capsys):
    ordinary = evaluate(run, file=tmp_path / 'ordinary.json')
    shuffled = [IMAGES[i] for i in np.random.default_rng(0).permutation(COUNT)]
    with BagWriter(tmp_path / 'run') as bag:
        # Recorded in the order of the stamps, each list written in another one.
        add_camera(bag)
        for stamp_ns in shuffled:
            index = IMAGES.index(stamp_ns)
            delay_ns = IMAGES[shuffled.index(stamp_ns)] - stamp_ns + 10 * S
            bag.add(REFERENCE, pose_stamped(stamp_ns, true_pose(stamp_ns)), delay_ns=delay_ns)
            pose = with_error(true_pose(stamp_ns), error_of(index))
            bag.add('/relocalizer/pose', pose_stamped(stamp_ns, pose), delay_ns=delay_ns)
        bag.add('/relocalizer/pose', pose_stamped(IMAGES[3], np.eye(4)), delay_ns=30 * S)
        bag.add('/relocalizer/pose', pose_stamped(IMAGES[3] + 1, np.eye(4)), delay_ns=30 * S)
        bag.add('/relocalizer/pose', pose_stamped(0, np.eye(4)), delay_ns=30 * S)
    result = evaluate(tmp_path / 'run')
    assert result['errors'].pop('recall') == ordinary['errors'].pop('recall')
    assert result['errors'] == pytest.approx(ordinary['errors'])
    left_out = result['left_out']
    late = sum(stamp_ns < max(shuffled[:i + 1]) for i, stamp_ns in enumerate(shuffled))
    assert late > 3 and left_out['reference'] == {
        'messages': COUNT, 'damaged': 0, 'unusable': 0, 'duplicates': 0, 'disordered': late}
    assert left_out['estimates'] == {'messages': COUNT + 3, 'damaged': 0, 'unusable': 1,
                                     'duplicates': 1, 'disordered': late + 2}
    assert left_out['estimates_of_no_image'] == 1
    assert len(result['warnings']) == 5
    assert f'note: reference: {late} came after a later stamp' in capsys.readouterr().out


def test_the_states_of_the_node_and_their_reasons(tmp_path, capsys):
    told = [(0, 'SEARCHING', 'activated'), (1, 'SEARCHING', 'activated'),
            (2, 'LOCALIZED', 'fixes_agree'), (3, 'LOST', 'no_fix'), (4, 'LOST', 'no_images')]
    with BagWriter(tmp_path / 'run') as bag:
        add_camera(bag)
        add_estimates(bag)
        add_reference(bag)
        for second, state, reason in told:
            values = {'state': state, 'state_reason': reason, 'last_refusal_text': f'at {second}'}
            for node in ('/relocalizer', '/other/relocalizer'):
                bag.add('/diagnostics', diagnostics(
                    IMAGES[0] + second * S, f'{node}: localization',
                    {**values, 'state': state if node == '/relocalizer' else 'SEARCHING'}))
            bag.add('/diagnostics', diagnostics(IMAGES[0], 'motor: left', {'state': 'on'}))
    result = evaluate(tmp_path / 'run')
    assert result['topics']['diagnostics'] == '/diagnostics'
    assert result['states'] == [
        {'since_ns': IMAGES[0] + second * S, 'state': state, 'reason': reason,
         'refusal': f'at {second}'} for second, state, reason in told if second != 1]
    assert '3.00 s  LOST: no_fix' in capsys.readouterr().out


def test_a_reference_that_the_node_sent_itself_is_noticed(tmp_path):
    run = write_run(tmp_path / 'run', errors=no_error)
    assert evaluate(run)['warnings'] == [
        'the reference is the same as the estimates: is it the node that sends it?']


def test_a_run_is_compared_with_an_earlier_one(run, tmp_path, capsys):
    first, second = tmp_path / 'first.json', tmp_path / 'second.json'
    assert main(['evaluate', str(run), '--json', str(first), '--per-frame']) == 0
    capsys.readouterr()
    assert main(['evaluate', str(run), '--json', str(second), '--against', str(first)]) == 0
    assert f'{COUNT} images with a reference' in capsys.readouterr().out
    result = json.loads(second.read_text())
    assert result['comparison']['frames_compared'] == COUNT and 'frames_detail' not in result
    assert not any(row['is_clear'] for row in result['comparison']['rows'])
    second.unlink()
    first.write_text(json.dumps({'kind': 'evaluation', 'scene': 'office', 'split': 'standard'}))
    assert main(['evaluate', str(run), '--json', str(second), '--against', str(first)]) == 2
    assert "this result is a result of kind 'recorded_run'" in capsys.readouterr().err
    assert not second.exists()
