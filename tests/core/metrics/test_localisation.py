from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sadcl_core.metrics.localisation import box_cover, box_energy, highest_points, pointing_hit, points_in_boxes

NONE = np.zeros((0, 4))
RNG = np.random.default_rng(0)


@st.composite
def box_lists(draw: st.DrawFn, most: int = 4) -> np.ndarray:
    """Boxes (m, 4) of which some reach beyond the border, some are points or lines, some lie outside."""
    sides = arrays(np.float64, (draw(st.integers(0, most)), 2, 2), elements=st.floats(-0.5, 1.5, width=16))
    return np.sort(draw(sides), axis=1).reshape(-1, 4)


def cover_by_inclusion_and_exclusion(boxes: np.ndarray, h: int, w: int) -> np.ndarray:
    """The area of a union as sums of the areas of intersections, cell by cell."""
    cover = np.zeros((h, w))
    for row, column in np.ndindex(h, w):
        cell = (column / w, row / h, (column + 1) / w, (row + 1) / h)
        for count in range(1, len(boxes) + 1):
            for chosen in itertools.combinations(boxes, count):
                left, top = (max(box[side] for box in (cell, *chosen)) for side in (0, 1))
                right, bottom = (min(box[side] for box in (cell, *chosen)) for side in (2, 3))
                area = max(right - left, 0) * max(bottom - top, 0)
                cover[row, column] -= (-1) ** count * area * h * w
    return cover


@settings(max_examples=60, deadline=None)
@given(box_lists(), st.integers(1, 4), st.integers(1, 4))
def test_cover_is_the_area_of_the_union(boxes: np.ndarray, h: int, w: int) -> None:
    np.testing.assert_allclose(box_cover(boxes, h, w), cover_by_inclusion_and_exclusion(boxes, h, w), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(box_lists(), st.integers(1, 6), st.integers(1, 6))
def test_cover_does_not_depend_on_the_order_on_copies_or_on_the_axes(boxes: np.ndarray, h: int, w: int) -> None:
    cover = box_cover(boxes, h, w)
    assert (cover >= 0).all()
    assert (cover <= 1).all()
    np.testing.assert_allclose(box_cover(np.concatenate([boxes[::-1], boxes]), h, w), cover, atol=1e-12)
    np.testing.assert_allclose(box_cover(boxes[:, [1, 0, 3, 2]], w, h), cover.T, atol=1e-12)
    mirrored = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
    np.testing.assert_allclose(box_cover(mirrored, h, w), cover[:, ::-1], atol=1e-9)
    finer = box_cover(boxes, 2 * h, 3 * w).reshape(h, 2, w, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(finer, cover, atol=1e-9)


def test_cover_against_a_drawing() -> None:
    boxes = np.array([[0.10, 0.20, 0.60, 0.70], [0.30, 0.00, 0.90, 0.50], [0.85, 0.85, 1.40, 2.00]])
    drawing = Image.new("L", (100, 100))
    for box in boxes:
        left, top, right, bottom = (round(100 * side) for side in box)
        drawing.paste(255, (left, top, min(right, 100), min(bottom, 100)))
    expected = (np.asarray(drawing) / 255).reshape(5, 20, 4, 25).mean(axis=(1, 3))
    np.testing.assert_allclose(box_cover(boxes, 5, 4), expected, atol=1e-9)


def test_cover_by_hand() -> None:
    assert (box_cover(NONE, 2, 3) == 0).all()
    assert (box_cover([[-1, -1, 2, 2]], 7, 3) == 1).all()
    np.testing.assert_allclose(box_cover([[0.3, 0.6, 0.4, 0.7]], 2, 2), [[0.0, 0.0], [0.04, 0.0]])  # smaller than a cell
    np.testing.assert_allclose(box_cover([[0, 0, 0.5, 1], [0.25, 0, 0.75, 1]], 1, 2), [[1.0, 0.5]])  # not 1.5 times
    assert (box_cover([[1.1, 0, 1.5, 1], [0.2, 0.5, 0.2, 0.9]], 4, 4) == 0).all()  # outside, and a line


@pytest.mark.parametrize("seed", range(5))
def test_the_highest_point_is_that_of_the_map_enlarged_bilinearly(seed: int) -> None:
    attention = np.random.default_rng(seed).random((3, 5))
    large = F.interpolate(torch.from_numpy(attention)[None, None], scale_factor=99, mode="bilinear")[0, 0].numpy()
    y, x = np.unravel_index(large.argmax(), large.shape)
    [[column, row]] = highest_points(attention)
    edges = {0.5 / 5, 4.5 / 5}, {0.5 / 3, 2.5 / 3}  # beyond the outermost centres the enlarged map stays as high
    assert column == pytest.approx((x + 0.5) / large.shape[1]) or column in edges[0]
    assert row == pytest.approx((y + 0.5) / large.shape[0]) or row in edges[1]
    assert large[int(row * large.shape[0]), int(column * large.shape[1])] == pytest.approx(large.max())


def test_pointing_by_hand() -> None:
    attention = np.array([[0.1, 0.2, 0.1], [0.1, 0.1, 0.4]])  # its highest cell is centred on x 5/6, y 3/4
    assert pointing_hit(attention, [[0.8, 0.7, 0.9, 0.8]]) == 1
    assert pointing_hit(attention, [[0.0, 0.0, 0.8, 1.0]]) == 0
    assert pointing_hit(attention, [[0.0, 0.0, 0.1, 0.1], [0.7, 0.5, 2.0, 3.0]]) == 1  # any of several, beyond the border
    assert pointing_hit(attention, NONE) == 0
    assert pointing_hit(attention, [[5 / 6, 0.75, 5 / 6, 0.75]]) == 1  # on the edge


def test_equally_high_cells_share_the_hit() -> None:
    left = [[0, 0, 0.5, 1]]
    assert pointing_hit(np.ones((4, 4)), left) == 0.5
    assert pointing_hit([[3, 1, 1, 3], [1, 1, 1, 3]], left) == pytest.approx(1 / 3)


def test_tolerance_is_a_circle_in_pixels() -> None:
    width, height, radius = 200, 100, 15
    tolerance = (radius / width, radius / height)
    boxes = [[0.5, 0.5, 0.6, 0.6]]  # 100..120 x 50..60 pixels
    for x, y in RNG.uniform([70, 20], [150, 90], (300, 2)):
        away = np.hypot(max(100 - x, 0, x - 120), max(50 - y, 0, y - 60))
        assert points_in_boxes([[x / width, y / height]], boxes, tolerance)[0] == (away <= radius)
    assert points_in_boxes([[0.45, 0.55], [0.55, 0.45]], boxes, (0.1, 0.0)).tolist() == [True, False]


@settings(max_examples=40, deadline=None)
@given(box_lists(), st.integers(0, 2**31))
def test_a_wider_tolerance_or_one_more_box_loses_no_hit(boxes: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    attention = rng.random((3, 4))
    hits = [pointing_hit(attention, boxes, (r, r)) for r in (0, 0.01, 0.1, 0.5)]
    assert hits == sorted(hits)
    more = np.concatenate([boxes, np.sort(rng.random((1, 2, 2)), axis=1).reshape(1, 4)])
    assert pointing_hit(attention, more) >= hits[0]
    assert box_energy(attention, box_cover(more, 3, 4)) >= box_energy(attention, box_cover(boxes, 3, 4)) - 1e-12


@settings(max_examples=40, deadline=None)
@given(box_lists(), st.integers(0, 2**31))
def test_energy_is_a_share(boxes: np.ndarray, seed: int) -> None:
    attention = np.random.default_rng(seed).random((3, 4))
    cover = box_cover(boxes, 3, 4)
    energy = box_energy(attention, cover)
    assert 0 <= energy <= 1 + 1e-12
    assert box_energy(7 * attention, cover) == pytest.approx(energy)  # of any sum
    assert box_energy(np.ones((3, 4)), cover) == pytest.approx(cover.mean())  # knows nothing
    naive = sum(attention[i, j] * cover[i, j] for i, j in np.ndindex(3, 4)) / sum(attention.flat)
    assert energy == pytest.approx(naive)


def test_energy_by_hand() -> None:
    attention = [[0.5, 0.25], [0.25, 0.0]]
    assert box_energy(attention, box_cover([[0, 0, 0.5, 0.5]], 2, 2)) == 0.5
    assert box_energy(attention, box_cover([[0, 0, 0.75, 0.5]], 2, 2)) == 0.625  # half of a cell, half of its attention
    assert box_energy(attention, box_cover([[0, 0, 1, 1]], 2, 2)) == 1
    assert box_energy(attention, box_cover(NONE, 2, 2)) == 0


def test_what_is_no_map_or_box_is_refused() -> None:
    cover = np.ones((2, 2))
    maps: list[npt.ArrayLike] = [np.ones(4), np.zeros((2, 2)), [[1.0, np.nan]], [[1.0, -1.0]], [[np.inf, 1.0]]]
    for wrong in maps:
        with pytest.raises(ValueError, match="attention"):
            box_energy(wrong, cover)
        with pytest.raises(ValueError, match="attention"):
            pointing_hit(wrong, NONE)
    with pytest.raises(ValueError, match="both be"):
        box_energy(np.ones((2, 3)), cover)
    for boxes in ([0, 0, 1, 1], [[0, 0, 1]], [[0.5, 0, 0.4, 1]], [[0, 0, np.nan, 1]]):
        with pytest.raises(ValueError, match="boxes"):
            box_cover(boxes, 2, 2)
    with pytest.raises(ValueError, match="tolerance"):
        points_in_boxes([[0.5, 0.5]], NONE, (-0.1, 0))
