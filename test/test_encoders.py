# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Every registered encoder, and what the gradient descriptor promises."""

import pytest
import torch
from box_room import smooth_noise

from implicit_relocalizer.network.encoders import (
    Encoder,
    build_encoder,
    cell_centres,
    encoder_names,
    register_encoder,
)

NAMES = encoder_names()
SIZES = [(64, 96), (120, 160), (104, 200)]


def texture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return smooth_noise((height, width), torch.Generator().manual_seed(seed))[None]


@pytest.fixture(scope='module')
def descriptor() -> Encoder:
    return build_encoder('gradient_descriptor').eval()


@pytest.fixture(scope='module', params=NAMES)
def encoder(request) -> Encoder:
    torch.manual_seed(0)
    return build_encoder(request.param).eval()


def test_the_documented_encoders_are_registered():
    assert {'gradient_descriptor', 'resnet18', 'mobilenet_v3_large'} <= set(NAMES)


def test_grids_have_the_promised_shape_scripted_and_eager(encoder):
    scripted = torch.jit.script(encoder)
    for height, width in SIZES:
        images = torch.cat([texture(height, width), texture(height, width, 1)])
        with torch.no_grad():
            eager, compiled = encoder(images), scripted(images)
        stride = encoder.stride
        assert eager.shape == (2, encoder.channels, height // stride, width // stride)
        assert eager.dtype == torch.float32 and eager.isfinite().all()
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)


def test_each_image_of_a_batch_is_encoded_alone(encoder):
    images = torch.cat([texture(64, 96), texture(64, 96, 1)])
    with torch.no_grad():
        torch.testing.assert_close(encoder(images)[1:], encoder(images[1:]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', ['resnet18', 'mobilenet_v3_large'])
def test_gradients_reach_every_weight_of_the_cnns(name):
    torch.manual_seed(0)
    cnn = build_encoder(name).train()
    cnn(texture(64, 96).repeat(2, 1, 1, 1)).square().mean().backward()
    idle = [key for key, p in cnn.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle
    assert all(p.grad.isfinite().all() for p in cnn.parameters())


def test_cell_centres_are_the_middles_of_the_cells_row_by_row():
    centres = cell_centres(16, 24, 8)
    assert centres.tolist() == [[3.5, 3.5], [11.5, 3.5], [19.5, 3.5],
                                [3.5, 11.5], [11.5, 11.5], [19.5, 11.5]]
    assert cell_centres(6, 3, 3)[0].tolist() == [1.0, 1.0]


def test_the_descriptor_has_384_numbers_at_stride_8(descriptor):
    assert (descriptor.channels, descriptor.stride) == (384, 8)
    assert not list(descriptor.parameters())


def test_the_descriptor_hardly_sees_gain_and_offset(descriptor):
    images = texture(160, 160)
    original = descriptor(images)
    changed = descriptor(0.6 * images + 0.3)
    similarity = torch.nn.functional.cosine_similarity(original, changed, dim=1)
    assert similarity.min() > 0.99
    other = descriptor(texture(160, 160, 1))
    strangers = torch.nn.functional.cosine_similarity(original, other, dim=1)
    assert strangers.mean() < similarity.min() - 0.1


def test_the_descriptor_moves_with_the_image(descriptor):
    images = texture(336, 376)
    left, right = descriptor(images[..., :-8]), descriptor(images[..., 8:])
    margin = 17  # cells: the widest pooling reaches 48 + 4 * 0.6 * 32 px
    inner = left[:, :, margin:-margin, margin + 1:-margin]
    assert inner.numel() > 0
    torch.testing.assert_close(right[:, :, margin:-margin, margin:-margin - 1], inner,
                               rtol=0, atol=1e-3)
    assert (left[..., :-1] - left[..., 1:]).abs().max() > 0.05, 'the texture tells cells apart'


def test_a_descriptor_sits_on_the_centre_of_its_cell(descriptor):
    """Turning the image by half a turn turns the grid: no cell is off its centre."""
    images = texture(96, 128)
    features = descriptor(images).unflatten(1, (3, 8, 4, 4))
    turned = descriptor(images.flip(2, 3)).unflatten(1, (3, 8, 4, 4))
    expected = features.flip(3, 4, 5, 6).roll(4, dims=2)
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize('grey', [0.0, 0.5, 1.0])
def test_blank_images_have_descriptors_near_zero(descriptor, grey):
    images = torch.full((1, 3, 64, 64), grey)
    assert descriptor(images).abs().max() < 1e-3


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"encoder 'resnet81' is unknown.*resnet18"):
        build_encoder('resnet81')


def test_the_descriptor_refuses_pretrained_weights_with_the_remedy():
    with pytest.raises(ValueError, match='gradient_descriptor has no weights; set pretrained'):
        build_encoder('gradient_descriptor', pretrained=True)


def test_an_encoder_of_the_users_own_can_be_registered(monkeypatch):
    monkeypatch.setattr('implicit_relocalizer.network.encoders._BUILDERS', {})

    class Grey(Encoder):
        def __init__(self) -> None:
            super().__init__()
            self.channels = 3

        def forward(self, images_b3hw: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(images_b3hw, self.stride)

    @register_encoder('grey')
    def build_grey(pretrained: bool) -> Encoder:
        return Grey()

    assert 'grey' in encoder_names()
    assert build_encoder('grey')(texture(64, 96)).shape == (1, 3, 8, 12)
