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
    assert checkerboard(3, channels).tolist() == [[[255, 0, 255], [0, 255, 0], [255, 0, 255]]] * channels
    assert checkerboard(1, channels).tolist() == [[[255]]] * channels
    assert checkerboard(2, channels).tolist() == [[[255, 0], [0, 255]]] * channels
