# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages of every encoding to RGB, with the messages of rclpy and of rosbags."""

from array import array

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('cv_bridge', reason='needs cv_bridge (or pip_overlay)')

import cv2
from cv_bridge import CvBridge
from image_messages import compressed_msg, image_msg, mosaic, yuv422
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from implicit_relocalizer.localization.image_decoding import ENCODINGS, rgb_from_message
from implicit_relocalizer.localization.rejection import NoPoseError, Reason
from implicit_relocalizer.ros.image_decoding import rgb_from_msg

RGB = np.random.default_rng(4).integers(0, 256, (11, 21, 3), np.uint8)
ALPHA = np.zeros((11, 21), np.uint8)
GREY = RGB[..., 0]
RED, GREEN, BLUE = (220, 30, 60), (30, 200, 40), (20, 60, 210)


@pytest.fixture(params=['the node', 'a replay'])
def decode(request):
    """By cv_bridge, and without ROS."""
    return {'the node': rgb_from_msg, 'a replay': rgb_from_message}[request.param]


@pytest.mark.parametrize('padding', [0, 1, 3, 16, 64])
@pytest.mark.parametrize(('encoding', 'pixels', 'expected'), [
    ('rgb8', RGB, RGB),
    ('bgr8', RGB[..., ::-1], RGB),
    ('8UC3', RGB[..., ::-1], RGB),
    ('rgba8', np.dstack([RGB, ALPHA]), RGB),
    ('bgra8', np.dstack([RGB[..., ::-1], ALPHA]), RGB),
    ('rgb16', RGB.astype(np.uint16) * 257, RGB),
    ('mono8', GREY, np.dstack([GREY] * 3)),
    ('8UC1', GREY, np.dstack([GREY] * 3)),
    ('mono16', GREY.astype(np.uint16) * 257, np.dstack([GREY] * 3)),
])
def test_images_become_rgb_whatever_their_layout(encoding, pixels, expected, padding, decode):
    message = image_msg(pixels, encoding, padding)
    before = bytes(message.data)
    decoded = decode(message)
    np.testing.assert_array_equal(decoded, expected)
    assert decoded.dtype == np.uint8
    assert decoded.flags['C_CONTIGUOUS'] and decoded.flags['WRITEABLE']
    assert (message.encoding, bytes(message.data)) == (encoding, before)


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('colour', [RED, GREEN, BLUE])
@pytest.mark.parametrize(('name', 'red_at'), [
    ('bayer_rggb', (0, 0)), ('bayer_grbg', (0, 1)), ('bayer_gbrg', (1, 0)), ('bayer_bggr', (1, 1)),
])
def test_mosaics_keep_their_colours(name, red_at, colour, padding, decode):
    for bits, dtype in ((8, np.uint8), (16, np.uint16)):
        pixels = mosaic(colour, red_at, dtype) * dtype(1 if bits == 8 else 257)
        decoded = decode(image_msg(pixels, f'{name}{bits}', padding))
        assert decoded.shape == (16, 18, 3)
        np.testing.assert_array_equal(decoded[2:-2, 2:-2], np.broadcast_to(colour, (12, 14, 3)))


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('colour', [RED, GREEN, BLUE])
@pytest.mark.parametrize(('encoding', 'luma_first'), [
    ('yuv422', False), ('uyvy', False), ('yuv422_yuy2', True), ('yuyv', True)])
def test_luma_and_chroma_keep_their_colours(encoding, luma_first, colour, padding, decode):
    decoded = decode(image_msg(yuv422(colour, luma_first), encoding, padding))
    assert decoded.shape == (16, 18, 3) and decoded.flags['C_CONTIGUOUS']
    np.testing.assert_allclose(decoded, np.broadcast_to(colour, (16, 18, 3)), atol=3)


@pytest.mark.parametrize(('changes', 'text'), [
    ({'encoding': 'klingon8'}, 'klingon8.*rgb8, bgr8 or mono8'),
    ({'encoding': '32FC1', 'step': 84, 'data': array('B', bytes(84 * 11))}, '32FC1'),
    ({'encoding': '16UC1', 'step': 42, 'data': array('B', bytes(42 * 11))}, '16UC1'),
    ({'encoding': 'yuv422'}, 'yuv422.*width'),  # odd: the last pixel has half a colour
    ({'height': 12}, '693 bytes'),
    ({'height': 0}, '21x0'),
    ({'width': 0}, '0x11'),
    ({'step': 21}, "21x11 pixels in 'rgb8', in rows of 21 bytes"),
    ({'step': 0}, 'rows of 0 bytes'),
])
def test_images_that_cannot_be_decoded_say_why(changes, text, decode):
    message = image_msg(RGB, 'rgb8')
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(NoPoseError, match=text) as caught:
        decode(message)
    assert caught.value.reason is Reason.ENCODING and '\n' not in str(caught.value)


def test_the_last_row_may_lack_its_padding(decode):
    message = image_msg(RGB, 'rgb8', padding=5)
    message.data = message.data[:-5]
    np.testing.assert_array_equal(decode(message), RGB)
    message.data = message.data[:-1]
    with pytest.raises(NoPoseError, match='742 bytes'):
        decode(message)


@pytest.mark.parametrize('encoding', ['mono16', 'rgb16', 'bayer_rggb16'])
def test_big_endian_numbers_are_refused(encoding, decode):
    channels = 3 if encoding == 'rgb16' else 1
    message = image_msg(np.zeros((4, 4 * channels), np.uint16), encoding)
    message.width, message.is_bigendian = 4, 1
    with pytest.raises(NoPoseError, match=f"big-endian image in encoding '{encoding}'") as caught:
        decode(message)
    assert caught.value.reason is Reason.BIG_ENDIAN
    assert caught.value.reason.value == 'image_big_endian'


def test_single_bytes_have_no_order(decode):
    for encoding, pixels in (('rgb8', RGB), ('bgr8', RGB[..., ::-1])):
        message = image_msg(pixels, encoding, padding=3)
        message.is_bigendian = 1
        np.testing.assert_array_equal(decode(message), RGB)


BGR = np.full((16, 18, 3), RED[::-1], np.uint8)


@pytest.mark.parametrize(('image_format', 'extension', 'pixels'), [
    ('rgb8; jpeg compressed bgr8', '.jpg', BGR),
    ('bgr8; jpeg compressed bgr8', '.jpg', BGR),
    ('yuv422_yuy2; jpeg compressed bgr8', '.jpg', BGR),
    ('jpeg', '.jpg', BGR),
    ('', '.jpg', BGR),
    ('rgb8; jpeg compressed rgb8', '.jpg', BGR[..., ::-1]),
    ('rgb8; png compressed bgr8', '.png', BGR),
    ('rgb16; png compressed bgr16', '.png', BGR.astype(np.uint16) * 257),
    ('png', '.png', np.dstack([BGR, BGR[..., 0]])),
    ('bayer_grbg8; png compressed ', '.png', mosaic(RED, (0, 1))),
    ('bayer_grbg16; png compressed ', '.png', mosaic(RED, (0, 1), np.uint16) * np.uint16(257)),
    ('bayer_grbg8; png compressed bayer_grbg8', '.png', mosaic(RED, (0, 1))),
])
def test_a_red_image_stays_red_however_it_was_compressed(image_format, extension, pixels, decode):
    decoded = decode(compressed_msg(pixels, image_format, extension))
    assert decoded.shape == (16, 18, 3) and decoded.dtype == np.uint8
    assert decoded.flags['C_CONTIGUOUS'] and decoded.flags['WRITEABLE']
    np.testing.assert_allclose(decoded[2:-2, 2:-2], np.broadcast_to(RED, (12, 14, 3)), atol=3)


@pytest.mark.parametrize(('image_format', 'extension', 'pixels'), [
    ('mono8; jpeg compressed mono8', '.jpg', np.full((8, 8), 90, np.uint8)),
    ('jpeg', '.jpg', np.full((8, 8), 90, np.uint8)),
    ('bayer_rggb8; jpeg compressed mono8', '.jpg', np.full((8, 8), 90, np.uint8)),
    ('mono8; png compressed ', '.png', np.full((8, 8), 90, np.uint8)),
    ('mono16; png compressed ', '.png', np.full((8, 8), 90 * 257, np.uint16)),
])
def test_compressed_grey_is_grey(image_format, extension, pixels, decode):
    decoded = decode(compressed_msg(pixels, image_format, extension))
    np.testing.assert_allclose(decoded, np.full((8, 8, 3), 90), atol=1)


def test_png_loses_nothing(decode):
    message = compressed_msg(RGB[..., ::-1], 'rgb8; png compressed bgr8', '.png')
    np.testing.assert_array_equal(decode(message), RGB)


@pytest.mark.parametrize('extension', ['.jpg', '.png'])
@pytest.mark.parametrize('damage', [
    lambda data: data[:len(data) // 2], lambda data: data[:-2], lambda data: data[:10],
    lambda data: b'', lambda data: b'no image at all',
    lambda data: bytes(reversed(data))])
def test_damaged_data_is_refused_by_the_format_it_was_announced_with(extension, damage, decode):
    message = compressed_msg(cv2.GaussianBlur(RGB, (0, 0), 2), 'bgr8; some compressed', extension)
    message.data = array('B', damage(bytes(message.data)))
    with pytest.raises(NoPoseError, match=r"format 'bgr8; some compressed'.*whole JPEG") as caught:
        decode(message)
    assert caught.value.reason is Reason.ENCODING


def test_a_cut_jpeg_is_seen_without_the_help_of_opencv(monkeypatch, decode):
    """Not fooled by the end of a thumbnail inside, nor by bytes behind the image."""
    whole = bytes(compressed_msg(BGR, 'jpeg', '.jpg').data)
    thumbnail = b'\xff\xe1' + (2 + len(whole)).to_bytes(2, 'big') + whole
    with_thumbnail = whole[:2] + thumbnail + whole[2:]
    for data, is_whole in ((whole, True), (whole + bytes(100), True), (with_thumbnail, True),
                           (whole[:-2], False), (with_thumbnail[:-2], False)):
        message = CompressedImage(format='jpeg', data=array('B', data))
        if is_whole:
            assert decode(message).shape == BGR.shape
        else:
            with monkeypatch.context() as patch:  # OpenCV 4.6 fills up with grey what is missing
                patch.setattr(cv2, 'imdecode', lambda *_: BGR)
                with pytest.raises(NoPoseError, match='cut off'):
                    decode(message)


@pytest.mark.parametrize('image_format', [
    '16UC1; compressedDepth png', '16UC1; png compressed ', '32FC1; compressedDepth png'])
def test_compressed_depth_is_no_picture(image_format, decode):
    message = compressed_msg(np.full((8, 8), 900, np.uint16), image_format, '.png')
    with pytest.raises(NoPoseError, match='is depth'):
        decode(message)


def test_bags_and_cameras_show_the_same(decode):
    """What the node sees is what a map learned from a bag of it was made of."""
    bag_images = pytest.importorskip('implicit_relocalizer.data.readers.bag_images')
    smooth = cv2.GaussianBlur(RGB, (0, 0), 2)
    for message in (image_msg(RGB, 'rgb8', 5), image_msg(mosaic(RED, (0, 1)), 'bayer_grbg8', 3),
                    image_msg(GREY, '8UC1'), image_msg(yuv422(BLUE, True), 'yuv422_yuy2'),
                    compressed_msg(smooth, 'rgb8; jpeg compressed bgr8', '.jpg'),
                    compressed_msg(smooth, 'rgb8; jpeg compressed rgb8', '.jpg')):
        learned = cv2.imdecode(np.frombuffer(bag_images.encode_image(message).data, np.uint8),
                               cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(decode(message), learned[..., ::-1])


def noise_msg(encoding: str, padding: int = 0) -> Image:
    """Any values in any channel, where rounding and clipping would differ if they could."""
    channels, bits, _ = ENCODINGS[encoding]
    dtype = np.uint16 if bits == 16 else np.uint8
    pixels = np.random.default_rng(7).integers(0, 2 ** bits, (16, 18, channels), dtype)
    return image_msg(pixels, encoding, padding)


@pytest.mark.parametrize('encoding', sorted(set(ENCODINGS) - {'8UC1', '8UC3'}))
def test_pixels_are_those_of_cv_bridge(encoding, decode):
    message = noise_msg(encoding)
    np.testing.assert_array_equal(decode(message),
                                  CvBridge().imgmsg_to_cv2(message, 'rgb8'))


def test_an_rgb8_message_is_looked_at_and_not_copied(decode):
    message = image_msg(RGB, 'rgb8')
    decoded = decode(message)
    assert np.shares_memory(decoded, np.frombuffer(message.data, np.uint8))
    assert decoded.flags['WRITEABLE']  # torch takes no other


def of_a_bag(message: Image | CompressedImage) -> object:
    """The same message as rosbags reads it, without ROS."""
    stores = pytest.importorskip('rosbags.typesys', reason='needs rosbags, from the extra train')
    store = stores.get_typestore(stores.Stores.LATEST)
    return store.deserialize_cdr(serialize_message(message),
                                 f'sensor_msgs/msg/{type(message).__name__}')


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
def test_a_message_of_a_bag_has_the_same_pixels(encoding, padding, decode):
    message = noise_msg(encoding, padding)
    decoded = decode(of_a_bag(message))
    np.testing.assert_array_equal(decoded, decode(message))
    assert decoded.flags['C_CONTIGUOUS'] and decoded.flags['WRITEABLE']


@pytest.mark.parametrize(('image_format', 'extension'), [
    ('rgb8; jpeg compressed bgr8', '.jpg'), ('rgb8; jpeg compressed rgb8', '.jpg'),
    ('rgb8; png compressed bgr8', '.png'), ('png', '.png')])
def test_a_compressed_message_of_a_bag_has_the_same_pixels(image_format, extension, decode):
    message = compressed_msg(RGB[..., ::-1], image_format, extension)
    np.testing.assert_array_equal(decode(of_a_bag(message)), decode(message))


def test_a_message_of_a_bag_is_refused_with_the_same_words(decode):
    for message in (image_msg(RGB, 'klingon8'), image_msg(RGB, 'yuv422'),
                    image_msg(RGB[:, :20], 'rgb16'),
                    CompressedImage(format='jpeg', data=array('B', b'no image'))):
        refusals = []
        for given in (message, of_a_bag(message)):
            with pytest.raises(NoPoseError) as caught:
                decode(given)
            refusals.append((caught.value.reason, str(caught.value)))
        assert refusals[0] == refusals[1]
