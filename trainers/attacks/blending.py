"""Blending of a trigger into images, rounded to whole pixel values."""

from torch import Tensor


def to_pixels(values: Tensor) -> Tensor:
    """Round ``values``, halves to even, and clip them to [0, 255]: float -> uint8, of the same shape."""
    return values.round().clamp(0, 255).byte()


def blend(images: Tensor, pattern: Tensor, opacity: Tensor | float) -> Tensor:
    """Blend a pattern into images: ``(1 - opacity) * image + opacity * pattern``.

    Args:
        images: uint8 (M, C, H, W).
        pattern: uint8, broadcast against ``images``.
        opacity: in [0, 1], broadcast likewise: one number, one for each image (M, 1, 1, 1), or one for each pixel.

    Returns:
        uint8 (M, C, H, W).
    """
    pattern = pattern.to(images.device).float()
    return to_pixels((1 - opacity) * images.float() + opacity * pattern)
