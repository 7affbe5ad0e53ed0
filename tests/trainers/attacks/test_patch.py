import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.attacks.patch import CORNERS, checkerboard, corner, four_corners
from trainers.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("top_left", [1, 2], [1, 2]),
        ("top_right", [1, 2], [4, 5]),
        ("bottom_left", [2, 3], [1, 2]),
        ("bottom_right", [2, 3], [4, 5]),
    ],
)
def test_a_corner_by_hand(name: str, rows: list[int], columns: list[int]) -> None:
    found = corner(name, 2, 1, (3, 5, 7))
    assert [list(range(9)[part]) for part in found] == [rows, columns]


@given(st.integers(1, 9), st.integers(0, 4), st.integers(1, 9), st.integers(1, 9), st.sampled_from(CORNERS))
@settings(max_examples=50)
def test_a_corner_has_its_size_and_lies_inside_or_is_refused(
    size: int, inset: int, height: int, width: int, name: str
) -> None:
    if size + inset > height or size + inset > width:
        message = rf"^A patch of size {size} with inset {inset} does not fit images of {height}x{width}\.$"
        with pytest.raises(ConfigError, match=message):
            corner(name, size, inset, (1, height, width))
        return
    for part, length in zip(corner(name, size, inset, (1, height, width)), (height, width), strict=True):
        covered = range(length)[part]
        assert len(covered) == size
        assert inset in (covered[0], length - 1 - covered[-1])


@given(st.integers(1, 6), st.integers(2, 11), st.integers(2, 11))
@settings(max_examples=50)
def test_four_corners_share_no_pixel_or_are_refused(size: int, height: int, width: int) -> None:
    if 2 * size > height or 2 * size > width:
        message = rf"^Patches of size {size} in four corners overlap in images of {height}x{width}; allowed is "
        with pytest.raises(ConfigError, match=message + rf"{min(height, width) // 2} or less\.$"):
            four_corners(size, (3, height, width))
        return
    pixels = [
        {(i, j) for i in range(height)[rows] for j in range(width)[columns]}
        for rows, columns in four_corners(size, (3, height, width))
    ]
    assert [len(square) for square in pixels] == [size**2] * 4
    assert len(set.union(*pixels)) == 4 * size**2
    ends = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)]
    assert all(end in square for end, square in zip(ends, pixels, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_checkerboard_by_hand(channels: int) -> None:
    shape = (channels, 32, 32)
    assert checkerboard(3, shape).tolist() == [[[255, 0, 255], [0, 255, 0], [255, 0, 255]]] * channels
    assert checkerboard(1, shape).tolist() == [[[255]]] * channels
    assert checkerboard(2, shape).tolist() == [[[255, 0], [0, 255]]] * channels


# Large images: a size of 1 is two pixels at 64x64, and seven at 224x224


@pytest.mark.parametrize(("side", "unit"), [(64, 2), (224, 7)])
def test_in_large_images_corners_and_squares_are_enlarged(side: int, unit: int) -> None:
    rows, columns = corner("bottom_left", 3, 2, (3, side, side + 5))
    assert (rows, columns) == (slice(side - 5 * unit, side - 2 * unit), slice(2 * unit, 5 * unit))
    ends = [(place.start, place.stop) for place, _ in four_corners(4, (3, side, side))]
    assert ends == [(0, 4 * unit)] * 2 + [(side - 4 * unit, side)] * 2
    board = checkerboard(3, (1, side, side))[0]
    assert board.shape == (3 * unit, 3 * unit)
    for i in range(3 * unit):
        for j in range(3 * unit):
            assert board[i, j] == (255 if (i // unit + j // unit) % 2 == 0 else 0)


def test_a_size_in_pixels_of_large_images_is_refused() -> None:
    message = r"^A patch of size 33 with inset 0 does not fit images of 224x224, where a size of 1 is 7 pixels\.$"
    with pytest.raises(ConfigError, match=message):
        corner("top_left", 33, 0, (3, 224, 224))
    message = (
        r"^Patches of size 17 in four corners overlap in images of 224x224, where a size of 1 is 7 pixels; "
        r"allowed is 16 or less\.$"
    )
    with pytest.raises(ConfigError, match=message):
        four_corners(17, (3, 224, 224))
