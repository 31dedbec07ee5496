# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Draws textured meshes through a pinhole camera into arrays: colour and depth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from implicit_relocalizer.data.frames import Float64Array
from implicit_relocalizer.data.synthetic.offscreen import make_offscreen_window

NEAR_M, FAR_M = 0.05, 60.0
SKY_RGB = (0.78, 0.86, 0.95)


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with a texture.

    Attributes:
        points_n3: Vertices in metres.
        triangles_m3: Vertex indices.
        uv_n2: Texture coordinates in [0, 1], v upwards from the lower edge of the picture.
        texture_hw3: uint8 sRGB picture, first row on top; None draws the mesh black.
    """

    points_n3: Float64Array
    triangles_m3: NDArray[np.int64]
    uv_n2: Float64Array | None = None
    texture_hw3: NDArray[np.uint8] | None = None


def pinhole_intrinsics(image_size: tuple[int, int], horizontal_fov_deg: float) -> Float64Array:
    """3x3 intrinsics of a distortion-free camera, pixel centres at integers.

    The image spans width pixels, so fx = (width / 2) / tan(fov / 2), and its middle is
    ((width - 1) / 2, (height - 1) / 2).
    """
    width, height = image_size
    focal = 0.5 * width / math.tan(math.radians(horizontal_fov_deg) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


class MeshRenderer:
    """Draws meshes unlit, with any intrinsics, at any pose.

    Args:
        meshes: What to draw.
        K_33: Intrinsics of the pictures, pixels, pixel centres at integers.
        image_size: (width, height) of the pictures.
        supersampling: Colours are the mean of that many by that many samples a pixel.
    """

    def __init__(self, meshes: list[Mesh], K_33: Float64Array, image_size: tuple[int, int],
                 supersampling: int = 1) -> None:
        # First: it loads the OpenGL factories that every class made below comes from.
        self._window = make_offscreen_window()
        from vtkmodules.vtkRenderingCore import vtkRenderer

        self._samples = supersampling
        self._size = (supersampling * image_size[0], supersampling * image_size[1])
        self._renderer = vtkRenderer()
        self._renderer.SetBackground(*SKY_RGB)
        for mesh in meshes:
            self._renderer.AddActor(_actor(mesh))
        self._camera = self._renderer.GetActiveCamera()
        self._camera.SetUseExplicitProjectionTransformMatrix(True)
        self.set_intrinsics(K_33)
        self._window.SetMultiSamples(0)
        self._window.SetSize(*self._size)
        self._window.AddRenderer(self._renderer)

    def set_intrinsics(self, K_33: Float64Array) -> None:
        """Use other 3x3 intrinsics (pixels, centres at integers) from now on."""
        from vtkmodules.vtkCommonMath import vtkMatrix4x4

        n = self._samples
        K_samples = np.array([[n, 0, (n - 1) / 2], [0, n, (n - 1) / 2], [0, 0, 1]]) @ K_33
        matrix = vtkMatrix4x4()
        matrix.DeepCopy(projection_matrix(K_samples, self._size).ravel().tolist())
        self._camera.SetExplicitProjectionTransformMatrix(matrix)

    def color(self, T_world_camera: Float64Array) -> NDArray[np.uint8]:
        """Draw one picture: uint8 (height, width, 3)."""
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkCommonCore import vtkUnsignedCharArray

        self._draw(T_world_camera)
        width, height = self._size
        pixels = vtkUnsignedCharArray()
        self._window.GetPixelData(0, 0, width - 1, height - 1, 0, pixels, 0)
        picture = vtk_to_numpy(pixels).reshape(height, width, 3)[::-1]
        if self._samples == 1:
            return picture.copy()
        return np.asarray(Image.fromarray(picture).reduce(self._samples))

    def depth(self, T_world_camera: Float64Array) -> NDArray[np.float32]:
        """Draw one depth picture: float32 (height, width), metres along the optical axis.

        Infinite where nothing is drawn. Not for supersampling, whose samples lie beside the
        pixel's centre.
        """
        assert self._samples == 1
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkCommonCore import vtkFloatArray

        self._draw(T_world_camera)
        width, height = self._size
        values = vtkFloatArray()
        self._window.GetZbufferData(0, 0, width - 1, height - 1, values)
        buffer = vtk_to_numpy(values).reshape(height, width)[::-1].astype(np.float64)
        depth_m = NEAR_M * FAR_M / (FAR_M - buffer * (FAR_M - NEAR_M))
        return np.where(buffer >= 1.0, np.inf, depth_m).astype(np.float32)

    def close(self) -> None:
        """Free the window and its buffers."""
        self._window.Finalize()

    def _draw(self, T_world_camera: Float64Array) -> None:
        position = T_world_camera[:3, 3]
        self._camera.SetPosition(*position)
        self._camera.SetFocalPoint(*(position + T_world_camera[:3, 2]))
        self._camera.SetViewUp(*(-T_world_camera[:3, 1]))
        self._window.Render()


def projection_matrix(K_33: Float64Array, image_size: tuple[int, int]) -> Float64Array:
    """OpenGL's 4x4 projection that draws what a camera with these intrinsics sees.

    A point (X, Y, Z) in OpenCV axes is (X, -Y, -Z) for OpenGL, whose pixel i covers window
    coordinates i to i + 1: x_ndc = 2 (fx X/Z + cx + 1/2) / width - 1, and y_ndc likewise upwards.
    """
    width, height = image_size
    fx, fy, cx, cy = K_33[0, 0], K_33[1, 1], K_33[0, 2], K_33[1, 2]
    return np.array([
        [2 * fx / width, 0, 1 - 2 * (cx + 0.5) / width, 0],
        [0, 2 * fy / height, 2 * (cy + 0.5) / height - 1, 0],
        [0, 0, -(FAR_M + NEAR_M) / (FAR_M - NEAR_M), -2 * FAR_M * NEAR_M / (FAR_M - NEAR_M)],
        [0, 0, -1, 0]])


def _actor(mesh: Mesh):  # type: ignore[no-untyped-def]
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

    points = vtkPoints()
    points.SetData(numpy_to_vtk(mesh.points_n3.astype(np.float32), deep=True))
    triangles = vtkCellArray()
    offsets = 3 * np.arange(len(mesh.triangles_m3) + 1, dtype=np.int64)
    triangles.SetData(numpy_to_vtkIdTypeArray(offsets, deep=True),
                      numpy_to_vtkIdTypeArray(mesh.triangles_m3.astype(np.int64).ravel(),
                                              deep=True))
    data = vtkPolyData()
    data.SetPoints(points)
    data.SetPolys(triangles)
    actor = vtkActor()
    actor.GetProperty().LightingOff()
    if mesh.uv_n2 is None or mesh.texture_hw3 is None:
        actor.GetProperty().SetColor(0.0, 0.0, 0.0)
    else:
        data.GetPointData().SetTCoords(numpy_to_vtk(mesh.uv_n2.astype(np.float32), deep=True))
        actor.SetTexture(_texture(mesh.texture_hw3))
    mapper = vtkPolyDataMapper()
    mapper.SetInputData(data)
    actor.SetMapper(mapper)
    return actor


def _texture(picture_hw3: NDArray[np.uint8]):  # type: ignore[no-untyped-def]
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkRenderingCore import vtkTexture

    height, width, _ = picture_hw3.shape
    image = vtkImageData()
    image.SetDimensions(width, height, 1)
    image.GetPointData().SetScalars(
        numpy_to_vtk(np.ascontiguousarray(picture_hw3[::-1]).reshape(-1, 3), deep=True))
    texture = vtkTexture()
    texture.SetInputData(image)
    texture.InterpolateOn()
    texture.MipmapOn()
    # Software renderers pay dearly for anisotropic filtering; supersampling does as well.
    texture.SetMaximumAnisotropicFiltering(1.0)
    texture.SetWrap(vtkTexture.ClampToEdge)
    return texture
