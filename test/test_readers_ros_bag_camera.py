# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""CameraInfo messages and calibration files become lenses."""

import numpy as np
import pytest
import yaml
from bag_writer import camera_info

from implicit_relocalizer.data.frames import SceneError
from implicit_relocalizer.data.lens import is_pinhole
from implicit_relocalizer.data.readers.bag_camera import lens_from_message, read_calibration_file

K_33 = np.array([[500.0, 0.0, 321.0], [0.0, 510.0, 237.0], [0.0, 0.0, 1.0]])
P_34 = np.array([[480.0, 0, 318, -24], [0, 480, 241, 0], [0, 0, 1, 0]])
SIZE = (640, 480)


def lens_of(*arguments, rectified=False, **options):
    return lens_from_message(camera_info(1, *arguments, **options), rectified, '/camera_info')


def test_an_undistorted_camera_is_a_pinhole_whatever_its_model_is_called():
    for model, coefficients in (('plumb_bob', (0.0,) * 5), ('', ()), ('none', ()),
                                ('made_up', (0.0, 0.0)), ('equidistant', ())):
        lens = lens_of(K_33, SIZE, model, coefficients)
        assert is_pinhole(lens) and lens.image_size == SIZE
        np.testing.assert_array_equal(lens.K_33, K_33)


@pytest.mark.parametrize(('model', 'coefficients', 'expected'), [
    ('plumb_bob', (0.1, -0.2, 0.001, 0.002, 0.05), ('opencv', (0.1, -0.2, 0.001, 0.002, 0.05))),
    ('plumb_bob', (0.1, -0.2), ('opencv', (0.1, -0.2, 0.0, 0.0))),
    ('rational_polynomial', (1, 2, 3, 4, 5, 6, 7, 8), ('opencv', (1, 2, 3, 4, 5, 6, 7, 8))),
    ('rational_polynomial', (1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0),
     ('opencv', (1, 2, 3, 4, 5, 6, 7, 8))),
    ('rational_polynomial', (1, 2, 3, 4, 5, 6), ('opencv', (1, 2, 3, 4, 5, 6, 0, 0))),
    ('equidistant', (0.1, 0.2, 0.3, 0.4), ('fisheye', (0.1, 0.2, 0.3, 0.4))),
    # The T265's driver and others
    ('fisheye', (0.1, 0.2, 0.3, 0.4, 0.0), ('fisheye', (0.1, 0.2, 0.3, 0.4))),
    ('Kannala_Brandt4', (0.1, 0.2, 0.3, 0.4), ('fisheye', (0.1, 0.2, 0.3, 0.4))),
    ('equidistant', (0.0, 0.0, 0.0, 0.0), ('fisheye', (0.0,) * 4))])
def test_distortion_models(model, coefficients, expected):
    lens = lens_of(K_33, SIZE, model, coefficients)
    assert (lens.model, lens.coefficients) == expected and not is_pinhole(lens)


@pytest.mark.parametrize(('model', 'coefficients', 'reason'), [
    ('double_sphere', (0.1, 0.2), "model 'double_sphere' is none of plumb_bob,"),
    ('rational_polynomial', (0.1,) * 12, 'only the first 8 have a meaning'),
    ('equidistant', (0.1,) * 5, 'only the first 4'),
    ('plumb_bob', (float('nan'),) * 5, 'distortion coefficients .*nan')])
def test_other_distortion_is_refused(model, coefficients, reason):
    with pytest.raises(SceneError, match='/camera_info.*' + reason):
        lens_of(K_33, SIZE, model, coefficients)


def test_region_and_binning_move_the_pixels_as_the_camera_does():
    """A pixel of the small image looks along the mean of the sensor pixels it is made of."""
    lens = lens_of(K_33, SIZE, 'plumb_bob', (0.1, 0, 0, 0, 0), binning=(2, 4),
                   roi=(40, 80, 400, 320))
    assert lens.image_size == (200, 80)
    for x, y in ((0, 0), (199, 79), (70, 30)):
        # Of the sensor pixels 2x, 2x+1 and 4y .. 4y+3 of the region the middle.
        sensor = np.array([40 + 2 * x + 0.5, 80 + 4 * y + 1.5, 1.0])
        np.testing.assert_allclose(np.linalg.solve(lens.K_33, [x, y, 1.0]),
                                   np.linalg.solve(K_33, sensor), atol=1e-12)
    assert lens.coefficients == (0.1, 0, 0, 0, 0)  # they belong to rays, not to pixels


def test_rectified_images_have_P_and_no_distortion():
    lens = lens_of(K_33, SIZE, 'plumb_bob', (0.1, 0, 0, 0, 0), rectified=True, P_34=P_34)
    assert is_pinhole(lens)
    np.testing.assert_array_equal(lens.K_33, P_34[:, :3])


@pytest.mark.parametrize('rectified', [False, True])
def test_an_uncalibrated_camera_is_named_with_the_remedy(rectified):
    with pytest.raises(SceneError, match=r'/camera_info: the camera is uncalibrated, [KP] has the '
                                         r'focal lengths 0 and 0; .*--camera-info-file'):
        lens_of(np.zeros((3, 3)), SIZE, rectified=rectified)


CALIBRATION = {
    'image_width': 640, 'image_height': 480, 'camera_name': 'narrow',
    'camera_matrix': {'rows': 3, 'cols': 3, 'data': K_33.ravel().tolist()},
    'distortion_model': 'plumb_bob',
    'distortion_coefficients': {'rows': 1, 'cols': 5, 'data': [0.1, -0.2, 0.0, 0.0, 0.0]},
    'rectification_matrix': {'rows': 3, 'cols': 3, 'data': np.eye(3).ravel().tolist()},
    'projection_matrix': {'rows': 3, 'cols': 4, 'data': P_34.ravel().tolist()}}


def test_a_file_of_camera_calibration_is_the_same(tmp_path):
    path = tmp_path / 'narrow.yaml'
    path.write_text(yaml.safe_dump(CALIBRATION))
    lens = read_calibration_file(path, False)
    np.testing.assert_array_equal(lens.K_33, K_33)
    assert (lens.image_size, lens.model) == (SIZE, 'opencv')
    assert lens.coefficients == (0.1, -0.2, 0.0, 0.0, 0.0)
    np.testing.assert_array_equal(read_calibration_file(path, True).K_33, P_34[:, :3])


@pytest.mark.parametrize(('content', 'reason'), [
    ('{a: [', 'no YAML file'), ('just text', 'not what camera_calibration writes'),
    (yaml.safe_dump({**CALIBRATION, 'camera_matrix': {'data': [1, 2]}}), 'camera_calibration'),
    (yaml.safe_dump({**CALIBRATION, 'image_width': None}), 'expected image_width')])
def test_other_files_are_refused(tmp_path, content, reason):
    path = tmp_path / 'other.yaml'
    path.write_text(content)
    with pytest.raises(SceneError, match=f'other.yaml: .*{reason}'):
        read_calibration_file(path, False)
    with pytest.raises(SceneError, match=r'absent\.yaml: no such calibration file'):
        read_calibration_file(tmp_path / 'absent.yaml', False)
