# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Image encodings, strides and byte orders against the documented behaviour of cv_bridge."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='sensor_msgs is not installed')
pytest.importorskip(
    'cv_bridge', reason='cv_bridge is not installed: pip_overlay/README.md says how'
)

from cv_bridge import CvBridge, CvBridgeError
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

WIDTH, HEIGHT = 5, 3
RNG = np.random.default_rng(0)


def image_message(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    """A message of the pixels, each row followed by some bytes that are not pixels."""
    rows = pixels.reshape(pixels.shape[0], -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xEE)
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    message.step = padded.shape[1]
    message.data.frombytes(padded.tobytes())
    return message


def random_pixels(dtype: str, channels: int) -> np.ndarray:
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    return RNG.integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize('padding', [0, 3, 16])
@pytest.mark.parametrize(
    ('encoding', 'dtype', 'channels'),
    [
        ('rgb8', 'uint8', 3),
        ('bgr8', 'uint8', 3),
        ('rgba8', 'uint8', 4),
        ('bgra8', 'uint8', 4),
        ('mono8', 'uint8', 1),
        ('mono16', 'uint16', 1),
        ('bayer_rggb8', 'uint8', 1),
        ('bayer_gbrg16', 'uint16', 1),
        ('yuv422', 'uint8', 2),
        ('yuv422_yuy2', 'uint8', 2),
        ('8UC1', 'uint8', 1),
        ('8UC3', 'uint8', 3),
        ('16UC1', 'uint16', 1),
        ('32FC1', 'float32', 1),
    ],
)
def test_passthrough_gives_the_pixels_of_padded_rows(
    encoding: str, dtype: str, channels: int, padding: int
) -> None:
    pixels = random_pixels(dtype, channels)
    image = CvBridge().imgmsg_to_cv2(image_message(pixels, encoding, padding))
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize('encoding', ['rgb8', 'mono16', '32FC1', '8UC2'])
def test_message_and_back(encoding: str) -> None:
    bridge = CvBridge()
    dtype, channels = bridge.encoding_to_dtype_with_channels(encoding)
    pixels = random_pixels(dtype, channels)
    header = Header(frame_id='camera')
    message = bridge.cv2_to_imgmsg(pixels, encoding, header=header)
    assert (message.width, message.height, message.header.frame_id) == (WIDTH, HEIGHT, 'camera')
    assert message.step == WIDTH * channels * np.dtype(dtype).itemsize
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message), pixels)


def test_encoding_of_an_unnamed_image_is_its_type() -> None:
    bridge = CvBridge()
    assert bridge.cv2_to_imgmsg(random_pixels('uint8', 3)).encoding == '8UC3'
    assert bridge.cv2_to_imgmsg(random_pixels('float32', 1)).encoding == '32FC1'


def test_color_conversions() -> None:
    bridge = CvBridge()
    rgb = random_pixels('uint8', 3)
    message = image_message(rgb, 'rgb8', padding=1)
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message, 'bgr8'), rgb[..., ::-1])
    rgba = bridge.imgmsg_to_cv2(message, 'rgba8')
    np.testing.assert_array_equal(rgba[..., :3], rgb)
    assert (rgba[..., 3] == 255).all()
    grey = bridge.imgmsg_to_cv2(message, 'mono8')
    np.testing.assert_allclose(grey, rgb @ [0.299, 0.587, 0.114], atol=1.0)
    three_greys = bridge.imgmsg_to_cv2(image_message(grey, 'mono8'), 'rgb8')
    np.testing.assert_array_equal(three_greys, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize('target_bits', [8, 16])
@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('target', ['mono', 'rgb', 'bgr', 'rgba', 'bgra'])
@pytest.mark.parametrize('source', ['mono', 'rgb', 'bgr', 'rgba', 'bgra'])
def test_every_pair_of_display_formats_agrees_on_white(
    source: str, bits: int, target: str, target_bits: int
) -> None:
    bridge = CvBridge()
    dtype, channels = bridge.encoding_to_dtype_with_channels(f'{source}{bits}')
    pixels = np.full((2, 3, channels), np.iinfo(dtype).max, dtype)
    message = image_message(pixels, f'{source}{bits}')
    converted = bridge.imgmsg_to_cv2(message, f'{target}{target_bits}')
    target_dtype, target_channels = bridge.encoding_to_dtype_with_channels(
        f'{target}{target_bits}'
    )
    assert converted.dtype == np.dtype(target_dtype)
    assert converted.shape == ((2, 3) if target_channels == 1 else (2, 3, target_channels))
    assert (converted == np.iinfo(target_dtype).max).all()


@pytest.mark.parametrize(
    ('encoding', 'corner'),
    [('rggb', (0, 0)), ('grbg', (0, 1)), ('gbrg', (1, 0)), ('bggr', (1, 1))],
)
def test_bayer_names_the_first_four_pixels(encoding: str, corner: tuple[int, int]) -> None:
    mosaic = np.zeros((8, 8), np.uint8)
    mosaic[corner[0] :: 2, corner[1] :: 2] = 200  # only the red pixels see light
    message = image_message(mosaic, f'bayer_{encoding}8')
    inner = CvBridge().imgmsg_to_cv2(message, 'rgb8')[2:-2, 2:-2]
    assert (inner[..., 0] == 200).all() and not inner[..., 1:].any()


@pytest.mark.parametrize(('encoding', 'luma'), [('yuv422', 1), ('yuv422_yuy2', 0)])
def test_yuv422_is_uyvy_and_yuy2_is_yuyv(encoding: str, luma: int) -> None:
    pixels = np.full((4, 4, 2), 128, np.uint8)  # no chroma
    pixels[..., luma] = 235  # white in video range
    white = CvBridge().imgmsg_to_cv2(image_message(pixels, encoding), 'rgb8')
    assert white.shape == (4, 4, 3) and (white >= 254).all()
    grey = CvBridge().imgmsg_to_cv2(image_message(pixels, encoding), 'mono8')
    np.testing.assert_array_equal(grey, pixels[..., luma])


def test_depths_are_scaled_to_each_other() -> None:
    bridge = CvBridge()
    deep = image_message(np.array([[0, 257, 65535, 300]], np.uint16), 'mono16')
    shallow = bridge.imgmsg_to_cv2(deep, 'mono8')
    assert shallow.dtype == np.uint8
    np.testing.assert_array_equal(shallow, [[0, 1, 255, 1]])
    back = bridge.imgmsg_to_cv2(image_message(shallow, 'mono8'), 'mono16')
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, [[0, 257, 65535, 257]])


def test_big_endian_pixels_are_swapped() -> None:
    pixels = random_pixels('uint16', 1)
    message = image_message(pixels.byteswap(), '16UC1', padding=2)
    message.is_bigendian = 1
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(message), pixels)
    of_big_endian = CvBridge().cv2_to_imgmsg(pixels.astype('>u2'), 'mono16')
    assert of_big_endian.is_bigendian == 1
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(of_big_endian), pixels)


def test_data_that_does_not_fit_is_refused() -> None:
    message = image_message(random_pixels('uint8', 3), 'rgb8', padding=4)
    short = image_message(random_pixels('uint8', 3), 'rgb8', padding=4)
    short.data = short.data[:-1]
    with pytest.raises(CvBridgeError):
        CvBridge().imgmsg_to_cv2(short)
    message.step = 3 * WIDTH - 1
    with pytest.raises(CvBridgeError, match='step'):
        CvBridge().imgmsg_to_cv2(message)


@pytest.mark.parametrize('encoding', ['rgb9', '', 'CV_8UC3'])
def test_unknown_encodings_are_named(encoding: str) -> None:
    message = image_message(random_pixels('uint8', 3), encoding)
    with pytest.raises(CvBridgeError, match=rf'\[{encoding}\]'):
        CvBridge().imgmsg_to_cv2(message)
    known = image_message(random_pixels('uint8', 3), 'rgb8')
    with pytest.raises(CvBridgeError, match=rf'\[{encoding}\]'):
        CvBridge().imgmsg_to_cv2(known, encoding)


@pytest.mark.parametrize(
    ('encoding', 'dtype', 'channels', 'desired'),
    [
        ('8UC3', 'uint8', 3, 'rgb8'),  # no colour is known
        ('32FC1', 'float32', 1, 'mono8'),
        ('rgb8', 'uint8', 3, '8UC1'),
        ('rgb8', 'uint8', 3, 'bayer_rggb8'),
        ('bayer_rggb8', 'uint8', 1, 'rgba8'),
    ],
)
def test_conversions_without_sense_are_refused(
    encoding: str, dtype: str, channels: int, desired: str
) -> None:
    message = image_message(random_pixels(dtype, channels), encoding)
    with pytest.raises(CvBridgeError):
        CvBridge().imgmsg_to_cv2(message, desired)


def test_image_of_another_type_than_its_encoding_is_refused() -> None:
    with pytest.raises(CvBridgeError, match='rgb8'):
        CvBridge().cv2_to_imgmsg(random_pixels('uint8', 1), 'rgb8')
    with pytest.raises(TypeError):
        CvBridge().cv2_to_imgmsg([[1, 2]], 'mono8')


def test_compressed_images() -> None:
    bridge = CvBridge()
    bgr = np.full((16, 16, 3), (10, 100, 200), np.uint8)
    png = bridge.cv2_to_compressed_imgmsg(bgr, 'png')
    assert png.format == 'png'
    np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(png), bgr)
    np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(png, 'rgb8'), bgr[..., ::-1])
    jpeg = bridge.compressed_imgmsg_to_cv2(bridge.cv2_to_compressed_imgmsg(bgr))
    np.testing.assert_allclose(jpeg, bgr, atol=4)


def test_broken_compressed_data_is_refused() -> None:
    message = CompressedImage(format='jpeg')
    message.data.frombytes(b'not an image')
    with pytest.raises(CvBridgeError):
        CvBridge().compressed_imgmsg_to_cv2(message, 'bgr8')
