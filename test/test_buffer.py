# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The buffer of stage A: which cells are kept, with which camera, and in how much memory."""

import re
from types import SimpleNamespace

import pytest
import torch
from box_room import IMAGE_SIZE, K_33, BoxRoom, sweep, write_box_room

from implicit_relocalizer.data.augmentation import ViewRange
from implicit_relocalizer.data.images import PosedImages
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.evaluation.accuracy import measure_accuracy
from implicit_relocalizer.geometry.camera import resize_intrinsics, unproject
from implicit_relocalizer.network.encoders import Encoder, build_encoder
from implicit_relocalizer.training.buffer import buffer_bytes, fill_buffer
from implicit_relocalizer.training.configuration import ConfigurationError
from implicit_relocalizer.training.configuration_file import load_configuration
from implicit_relocalizer.training.trainer import train_scene

IMAGE_COUNT = 10
VIEWS = 3
WIDE = ViewRange(roll_deg=25.0, tilt_deg=15.0, zoom=1.4, shift=0.2, brightness=0.0, contrast=0.0)


class CellMean(Encoder):
    """The mean colour of each cell: features whose place can be looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = 3

    def forward(self, images_b3hw: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images_b3hw, self.stride)


def posed_images(render) -> PosedImages:
    T_b44 = torch.stack([torch.from_numpy(T) for T in sweep(IMAGE_COUNT)])
    origin = T_b44[:, :3, 3].mean(dim=0)
    return PosedImages(torch.stack([torch.from_numpy(render(T.numpy())) for T in T_b44]),
                       torch.from_numpy(K_33).float().repeat(IMAGE_COUNT, 1, 1),
                       T_b44[:, :3, :3].float(), (T_b44[:, :3, 3] - origin).float(), origin)


@pytest.fixture(scope='module')
def images() -> PosedImages:
    room = BoxRoom()
    return posed_images(lambda T: room.render(T)[0])


@pytest.fixture(scope='module')
def directions() -> PosedImages:
    """Colours of these images are the directions in which the world is seen."""
    def render(T_world_camera):
        y, x = torch.meshgrid(torch.arange(120), torch.arange(160), indexing='ij')
        rays = unproject(torch.stack([x, y], -1).reshape(-1, 2).double(), torch.from_numpy(K_33))
        rays_world = rays @ torch.from_numpy(T_world_camera[:3, :3]).T
        unit = torch.nn.functional.normalize(rays_world, dim=1)
        return (127.5 * (unit + 1.0)).round().to(torch.uint8).reshape(120, 160, 3).numpy()
    return posed_images(render)


def fill(images, seed=0, encoder=None, view_size=IMAGE_SIZE, views=VIEWS, points=60, limits=WIDE,
         **options):
    return fill_buffer(images, encoder or CellMean(), view_size, views, points, limits,
                       torch.Generator().manual_seed(seed), torch.device('cpu'), **options)


@pytest.mark.parametrize('view_size', [IMAGE_SIZE, (80, 64)])
def test_every_cell_comes_with_the_camera_that_saw_it(directions, view_size):
    """The stored K, R and pixel give the direction that the cell's colour says."""
    buffer = fill(directions, view_size=view_size)
    batch = buffer.batch(torch.arange(len(buffer)), torch.device('cpu'))
    rays = unproject(batch.pixels_n2.unsqueeze(1), batch.K_n33).squeeze(1)
    rays_world = (batch.R_world_camera_n33 @ rays.unsqueeze(-1)).squeeze(-1)
    expected = torch.nn.functional.normalize(rays_world, dim=1)
    colour = torch.nn.functional.normalize(2.0 * batch.features_nc - 1.0, dim=1)
    degrees = torch.rad2deg(torch.arccos((colour * expected).sum(dim=1).clamp(-1, 1)))
    # a pixel is 0.4 degrees; a cell of the smaller size spans twice the angle
    assert degrees.median() < 0.3 and degrees.max() < 1.5


def test_the_first_view_of_an_image_is_its_own_camera(images):
    buffer = fill(images, views=2)
    assert buffer.K_v33.shape == (2 * IMAGE_COUNT, 3, 3)
    # views come in batches of eight images: the real ones, then their virtual ones
    real = [*range(8), 16, 17]
    torch.testing.assert_close(buffer.R_world_camera_v33[real], images.R_world_camera_b33)
    torch.testing.assert_close(buffer.t_local_camera_v3[real], images.t_local_camera_b3)
    torch.testing.assert_close(buffer.K_v33[real], images.K_b33)
    half = fill(images, views=1, view_size=(80, 64))
    torch.testing.assert_close(half.K_v33, resize_intrinsics(images.K_b33, 0.5, 64 / 120))


def test_only_cells_that_the_real_camera_saw_wholly_are_kept(directions):
    """The corners of every kept cell project into the real image."""
    buffer = fill(directions, points=1000)
    batch = buffer.batch(torch.arange(len(buffer)), torch.device('cpu'))
    corner = torch.tensor([-3.5, 3.5])
    corners = batch.pixels_n2.unsqueeze(1) + torch.cartesian_prod(corner, corner)
    rays = unproject(corners, batch.K_n33) @ batch.R_world_camera_n33.transpose(1, 2)
    # the real camera of each view is the one at the same position
    distance = torch.cdist(batch.t_local_camera_n3, directions.t_local_camera_b3)
    camera = distance.argmin(dim=1)
    seen = rays @ directions.R_world_camera_b33[camera] @ torch.from_numpy(K_33).float().T
    seen_xy = seen[..., :2] / seen[..., 2:]
    assert (seen[..., 2] > 0).all() and seen_xy.min() > -1e-2
    assert seen_xy[..., 0].max() < 159 + 1e-2 and seen_xy[..., 1].max() < 119 + 1e-2
    kept = torch.bincount(buffer.view_m)
    assert (kept[[*range(8), 24, 25]] == 300).all(), 'of real views all'
    assert kept.min() < 250, 'the limits reach over the edge'


def test_cells_of_a_view_are_different_ones(images):
    buffer = fill(images, points=100)
    for view in range(VIEWS * IMAGE_COUNT):
        pixels = buffer.pixels_m2[buffer.view_m == view]
        assert 0 < len(pixels) <= 100
        assert len(pixels.unique(dim=0)) == len(pixels)


def test_the_seed_decides(images):
    first, same, other = fill(images, 1), fill(images, 1), fill(images, 2)
    assert torch.equal(first.features_mc, same.features_mc)
    assert torch.equal(first.pixels_m2, same.pixels_m2)
    assert torch.equal(first.K_v33, same.K_v33)
    assert not torch.equal(first.K_v33, other.K_v33)


def test_features_are_those_of_the_encoder(images):
    encoder = build_encoder('gradient_descriptor')
    buffer = fill(images, views=1, points=1000, encoder=encoder)
    expected = encoder(images.images_bhw3[:1].permute(0, 3, 1, 2) / 255.0)[0]
    for row in torch.where(buffer.view_m == 0)[0][:20]:
        x, y = ((buffer.pixels_m2[row] - 3.5) / 8).long()
        torch.testing.assert_close(buffer.features_mc[row].float(), expected[:, y, x], rtol=0,
                                   atol=1e-3)


def test_feature_statistics_give_one_unit_of_variance_on_average(images):
    buffer = fill(images, encoder=build_encoder('gradient_descriptor'))
    mean, scale = buffer.feature_statistics()
    standard = (buffer.features_mc.float() - mean) * scale
    assert standard.mean(dim=0).abs().max() < 1e-2
    assert standard.square().mean().item() == pytest.approx(1.0, abs=0.02)
    assert scale.shape == mean.shape == (384,)


def test_progress_counts_views_to_the_end(images):
    seen: list[int] = []
    fill(images, on_progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == VIEWS * IMAGE_COUNT


def test_the_promised_memory_is_the_memory_taken(images):
    encoder = build_encoder('gradient_descriptor')
    buffer = fill(images, views=1, encoder=encoder)
    taken = sum(getattr(buffer, name).nbytes for name in ('features_mc', 'pixels_m2', 'view_m'))
    assert taken == buffer_bytes(IMAGE_COUNT, 1, 60, encoder.channels)


def test_a_buffer_beyond_memory_is_refused_with_a_setting_that_fits(tmp_path, monkeypatch):
    scene = read_folder_scene(write_box_room(tmp_path / 'room', 10))
    (tmp_path / 'c.yaml').write_text(
        'input_width: 160\nmapping: {iterations: 1, views_per_image: 2, points_per_view: 300}\n')
    free = SimpleNamespace(available=2_000_000)
    monkeypatch.setattr('psutil.virtual_memory', lambda: free)

    def run(*overrides):
        config = load_configuration(tmp_path / 'c.yaml', list(overrides))
        return train_scene(scene, config, tmp_path / '_'.join(['run', *overrides]),
                           measure_accuracy, show_progress=False)
    with pytest.raises(ConfigurationError, match='2 views x 300 points') as refused:
        run()
    remedy = re.search(r'mapping\.points_per_view=\d+', str(refused.value)).group()
    assert int(remedy.split('=')[1]) > 20
    assert 'median_translation_m' in run(remedy)['test']
