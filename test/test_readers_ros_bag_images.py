# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages of every encoding become the picture that was in front of the camera."""

import io

import cv2
import numpy as np
import pytest
from bag_writer import compressed_image, jpeg, raw_image
from PIL import Image

from implicit_relocalizer.data.readers.bag_images import (
    ENCODINGS,
    ImageMessageError,
    encode_image,
    shows_a_scene,
)

WIDTH, HEIGHT = 38, 26  # no multiple of four, so that padding mistakes shear the picture


@pytest.fixture(scope='module')
def rgb():
    """Smooth, and another colour in every corner: swapped channels or axes show."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    return (20 + 200 * np.stack([x, y, (1 - x) * (1 - y)], -1)).astype(np.uint8)


def grey(rgb):
    return np.asarray(Image.fromarray(rgb).convert('L'))


def mosaic(rgb, pattern):
    """A Bayer image: the pattern is read row by row, as in the name of the ROS encoding."""
    pixels = np.empty(rgb.shape[:2], np.uint8)
    for index, colour in enumerate(pattern):
        row, column = divmod(index, 2)
        pixels[row::2, column::2] = rgb[row::2, column::2, 'rgb'.index(colour)]
    return pixels


def yuv(rgb, order):
    """YUV 4:2:2, BT.601 with limited range, as cameras and OpenCV have it."""
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    planes = {'y': 16 + 0.257 * r + 0.504 * g + 0.098 * b,
              'u': 128 - 0.148 * r - 0.291 * g + 0.439 * b,
              'v': 128 + 0.439 * r - 0.368 * g - 0.071 * b}
    packed = np.empty((*rgb.shape[:2], 2))
    for column in (0, 1):
        for slot in (0, 1):
            name = order[2 * column + slot]
            values = planes[name]
            if name != 'y':
                values = (values + np.roll(values, -1, axis=1)) / 2
                values = np.roll(values, column, axis=1)
            packed[:, column::2, slot] = values[:, column::2]
    return packed.round().astype(np.uint8)


def decoded(message):
    encoded = encode_image(message)
    image = Image.open(io.BytesIO(encoded.data))
    assert image.size == encoded.size == (WIDTH, HEIGHT)
    return np.asarray(image.convert('RGB')).astype(int)


def with_alpha(pixels):
    return np.dstack([pixels, np.full(pixels.shape[:2], 9, pixels.dtype)])


EXACT = {
    'rgb8': lambda p: p, 'bgr8': lambda p: p[..., ::-1], '8UC3': lambda p: p[..., ::-1],
    'rgba8': with_alpha, 'bgra8': lambda p: with_alpha(p[..., ::-1]),
    'rgb16': lambda p: p.astype(np.uint16) * 257,
    'bgr16': lambda p: p[..., ::-1].astype(np.uint16) * 257,
    'rgba16': lambda p: with_alpha(p.astype(np.uint16) * 257),
    'bgra16': lambda p: with_alpha(p[..., ::-1].astype(np.uint16) * 257)}
CLOSE = {**{f'bayer_{p}8': (lambda pixels, p=p: mosaic(pixels, p))
            for p in ('rggb', 'bggr', 'gbrg', 'grbg')},
         **{f'bayer_{p}16': (lambda pixels, p=p: mosaic(pixels, p).astype(np.uint16) * 257)
            for p in ('rggb', 'bggr', 'gbrg', 'grbg')},
         'yuv422': lambda p: yuv(p, 'uyvy'), 'uyvy': lambda p: yuv(p, 'uyvy'),
         'yuv422_yuy2': lambda p: yuv(p, 'yuyv'), 'yuyv': lambda p: yuv(p, 'yuyv')}
GREY = {'mono8': grey, '8UC1': grey, 'mono16': lambda p: grey(p).astype(np.uint16) * 257}


def test_every_encoding_is_tested():
    assert {*EXACT, *CLOSE, *GREY} == set(ENCODINGS)


@pytest.mark.parametrize('padding', [0, 2, 10])
@pytest.mark.parametrize('encoding', [*EXACT, *GREY])
def test_raw_images_are_kept_exactly(rgb, encoding, padding):
    expected = rgb if encoding in EXACT else np.repeat(grey(rgb)[..., None], 3, -1)
    pixels = {**EXACT, **GREY}[encoding](rgb)
    np.testing.assert_array_equal(decoded(raw_image(1, pixels, encoding, padding)), expected)


@pytest.mark.parametrize('encoding', CLOSE)
def test_mosaics_and_yuv_come_near_the_colours(rgb, encoding):
    image = decoded(raw_image(1, CLOSE[encoding](rgb), encoding, padding=6))
    difference = np.abs(image - rgb)[3:-3, 3:-3]
    assert difference.max() <= 8, difference.max(axis=(0, 1))


def test_the_last_row_may_lack_its_padding(rgb):
    message = raw_image(1, rgb, 'rgb8', padding=5)
    message.data = message.data[:-5]
    np.testing.assert_array_equal(decoded(message), rgb)


@pytest.mark.parametrize(('change', 'reason'), [
    ({'encoding': '32FC1'}, "encoding '32FC1' is none of .*bayer_rggb8.*rgb8"),
    ({'encoding': 'rgba8'}, 'too few for 38x26 pixels in rgba8'),
    ({'height': HEIGHT + 1}, 'too few for 38x27 pixels'),
    ({'width': 0}, 'too few for 0x26'),
    ({'step': 3 * WIDTH - 1}, 'rows of 113 are too few')])
def test_raw_images_that_contradict_themselves_are_refused(rgb, change, reason):
    message = raw_image(1, rgb)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageMessageError, match=reason):
        encode_image(message)


def test_big_endian_matters_for_16_bits_alone(rgb):
    np.testing.assert_array_equal(decoded(raw_image(1, rgb, 'rgb8', is_bigendian=True)), rgb)
    sixteen = grey(rgb).astype(np.uint16)
    with pytest.raises(ImageMessageError, match='big-endian mono16 images are not supported'):
        encode_image(raw_image(1, sixteen, 'mono16', is_bigendian=True))


def test_yuv_of_an_odd_width_is_refused(rgb):
    with pytest.raises(ImageMessageError, match='cannot be converted'):
        encode_image(raw_image(1, np.zeros((HEIGHT, 37, 2), np.uint8), 'yuyv'))


@pytest.mark.parametrize('image_format', ['jpeg', 'rgb8; jpeg compressed bgr8', 'jpg', ''])
def test_compressed_images_are_kept_byte_by_byte(rgb, image_format):
    data = jpeg(rgb)
    encoded = encode_image(compressed_image(1, data, image_format))
    assert encoded.data == data and encoded.size == (WIDTH, HEIGHT)


def png(pixels):
    return cv2.imencode('.png', pixels)[1].tobytes()


def test_compressed_images_that_mean_something_else_are_converted(rgb):
    # OpenCV's writer takes blue first, so these bytes hold what their format says.
    swapped = compressed_image(1, png(rgb), 'rgb8; png compressed rgb8')
    np.testing.assert_array_equal(decoded(swapped), rgb)
    sixteen = compressed_image(1, png(grey(rgb).astype(np.uint16) * 257),
                               'mono16; png compressed ')
    np.testing.assert_array_equal(decoded(sixteen)[..., 1], grey(rgb))
    for image_format in ('bayer_grbg8; png compressed bayer_grbg8',
                         'bayer_grbg8; png compressed '):
        bayer = compressed_image(1, png(mosaic(rgb, 'grbg')), image_format)
        assert np.abs(decoded(bayer) - rgb)[3:-3, 3:-3].max() <= 8


@pytest.mark.parametrize(('data', 'reason'), [
    (b'', 'no JPEG, PNG'), (b'not an image at all', 'no JPEG, PNG'),
    ('half a jpeg', 'cut off or damaged'), ('half a png', 'cut off or damaged')])
def test_damaged_compressed_images_are_refused(rgb, data, reason):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole = {'half a jpeg': jpeg(noise), 'half a png': png(noise)}
    data = whole[data][:len(whole[data]) // 2] if data in whole else data
    with pytest.raises(ImageMessageError, match=reason):
        encode_image(compressed_image(1, data))


def test_depth_is_no_picture(rgb):
    assert shows_a_scene(raw_image(1, rgb)) and shows_a_scene(compressed_image(1, jpeg(rgb)))
    assert not shows_a_scene(raw_image(1, grey(rgb).astype(np.uint16), '16UC1'))
    assert not shows_a_scene(compressed_image(1, b'', '16UC1; compressedDepth png'))
