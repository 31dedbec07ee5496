# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Every registered encoder, and what the gradient descriptor promises."""

import re
from pathlib import Path

import pytest
import torch
import torchvision
from box_room import smooth_noise
from torchvision.ops import StochasticDepth

from implicit_relocalizer.network.encoders import (
    Encoder,
    build_encoder,
    cell_centres,
    encoder_names,
    register_encoder,
)
from implicit_relocalizer.network.keypoints import at_keypoints
from implicit_relocalizer.network.pretrained import PretrainedWeightsError

NAMES = encoder_names()
LEARNED = [name for name in NAMES if name != 'gradient_descriptor']
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
    assert {'gradient_descriptor', 'resnet18', 'resnet34', 'mobilenet_v3_large',
            'efficientnet_b0', 'swin_t'} <= set(NAMES)


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


def test_points_of_bytes_are_those_of_the_same_image_in_unit_range(encoder):
    images = (255.0 * texture(64, 96)).round().to(torch.uint8)
    for sampler in (encoder, at_keypoints(encoder)):
        with torch.no_grad():
            actual, expected = sampler.sample(images), sampler.sample(images / 255.0)
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)


def test_each_image_of_a_batch_is_encoded_alone(encoder):
    images = torch.cat([texture(64, 96), texture(64, 96, 1)])
    with torch.no_grad():
        torch.testing.assert_close(encoder(images)[1:], encoder(images[1:]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', LEARNED)
def test_gradients_reach_every_weight_of_the_learned_encoders(name):
    torch.manual_seed(0)
    net = build_encoder(name).train()
    for module in net.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0  # else it leaves blocks out at random
    net(torch.cat([texture(64, 96), texture(64, 96, 1)])).square().mean().backward()
    idle = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle
    assert all(p.grad.isfinite().all() for p in net.parameters())


def imagenet_file(name: str, folder: Path) -> Path:
    """Where torch hub caches torchvision's default weights of a network."""
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    path = folder / 'hub' / 'checkpoints' / url.rsplit('/', 1)[-1]
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize('name', LEARNED)
def test_pretrained_weights_come_from_the_cache_of_torch_hub(name, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    torch.manual_seed(1)
    net = torchvision.models.get_model(name)
    torch.save(net.state_dict(), imagenet_file(name, tmp_path))
    torch.manual_seed(2)
    learned = torch.cat([p.detach().flatten() for p in build_encoder(name, True).stages[0]
                         .parameters()])
    expected = torch.cat([p.detach().flatten() for p in net.parameters()])[:len(learned)]
    assert torch.equal(learned, expected)


def test_without_network_and_cache_the_file_and_its_place_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')  # where nobody answers
    with pytest.raises(PretrainedWeightsError, match=(
            rf'downloaded from https://\S+resnet34-b627a593\.pth .*put it into '
            rf'{re.escape(str(tmp_path))}/hub/checkpoints .*encoder\.pretrained=false')):
        build_encoder('resnet34', pretrained=True)


@pytest.mark.parametrize(('content', 'reason'), [
    (b'', 'cannot be read'), (b'cut off', 'cannot be read'),
    ('resnet18', 'holds the weights of another network')])
def test_a_damaged_or_foreign_weights_file_is_named(tmp_path, monkeypatch, content, reason):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    path = imagenet_file('resnet34', tmp_path)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(torchvision.models.get_model(content).state_dict(), path)
    with pytest.raises(PretrainedWeightsError, match=rf'resnet34-b627a593\.pth: {reason}'):
        build_encoder('resnet34', pretrained=True)


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
