"""Colour operations of a batch of uint8 images, each image with a strength of its own.

What depends on a pixel's own value alone is a table of 256 values for each image and channel. Formulas are Pillow's
(``ImageOps``, ``ImageEnhance``), and torchvision's where these differ: fractions of a grey level are cut off.
"""

import torch
from torch import Tensor


def looked_up(images: Tensor, tables: Tensor) -> Tensor:
    """Each pixel's value replaced by that of a table.

    Args:
        images: uint8 (N, C, H, W).
        tables: uint8, broadcast to (N, C, 256).

    Returns:
        uint8 (N, C, H, W).
    """
    count, channels = images.shape[:2]
    found = tables.expand(count, channels, -1).gather(2, images.flatten(2).long())
    return found.view(images.shape)


def unchanged(device: torch.device) -> Tensor:
    """The table that changes nothing: uint8 (256,)."""
    return torch.arange(256, device=device, dtype=torch.uint8)


def brightness(factor: Tensor) -> Tensor:
    """Tables that multiply by ``factor``, float (N,): uint8 (N, 1, 256)."""
    return (unchanged(factor.device) * factor[:, None, None]).clamp_(0, 255).to(torch.uint8)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Tables that multiply the distance from the mean grey of an image by ``factor``, float (N,): uint8 (N, 1, 256)."""
    mean = _grey(images).mean((1, 2, 3))
    return _blended(unchanged(images.device), mean[:, None, None], factor[:, None, None])


def posterize(bits: int, device: torch.device) -> Tensor:
    """The table that keeps the upper ``bits`` of 8: uint8 (256,)."""
    return unchanged(device) & (256 - (1 << (8 - bits)))


def solarize(threshold: float, device: torch.device) -> Tensor:
    """The table that inverts values from ``threshold`` on: uint8 (256,)."""
    values = torch.arange(256, device=device)
    return torch.where(values >= threshold, 255 - values, values).to(torch.uint8)


def autocontrast(images: Tensor) -> Tensor:
    """Tables that spread the values of each channel over 0 to 255; one that never varies stays: uint8 (N, C, 256)."""
    values = torch.arange(256, device=images.device)
    low, high = images.flatten(2).aminmax(dim=2, keepdim=True)
    low, reach = low.long(), high.long() - low
    spread = ((values - low) * 255).div(reach.clamp(min=1), rounding_mode="floor").clamp_(0, 255)
    return torch.where(reach > 0, spread, values).to(torch.uint8)


def equalize(images: Tensor) -> Tensor:
    """Tables that make the values of each channel about equally frequent, as Pillow computes them: uint8 (N, C, 256).

    A channel whose values below its largest fill fewer than 255 pixels stays as it is.
    """
    pixels = images.flatten(2).long()
    counts = torch.zeros(*pixels.shape[:2], 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(2, pixels, torch.ones_like(pixels[:1, :1, :1]).expand_as(pixels))
    step = (pixels.shape[2] - counts.gather(2, pixels.amax(2, keepdim=True))).div(255, rounding_mode="floor")
    below = counts.cumsum(2) - counts
    found = (below + step // 2).div(step.clamp(min=1), rounding_mode="floor").clamp_(0, 255)
    return torch.where(step > 0, found, torch.arange(256, device=images.device)).to(torch.uint8)


def saturated(images: Tensor, factor: Tensor) -> Tensor:
    """Images with the distance of each pixel from its grey multiplied; grey images stay as they are.

    Args:
        images: uint8 (N, C, H, W).
        factor: float (N,).

    Returns:
        uint8 (N, C, H, W).
    """
    return _blended(images, _grey(images), factor[:, None, None, None])


def sharpened(images: Tensor, factor: Tensor) -> Tensor:
    """Images with the distance of each pixel from the blurred image multiplied; the outermost pixels stay.

    Args:
        images: uint8 (N, C, H, W).
        factor: float (N,).

    Returns:
        uint8 (N, C, H, W).
    """
    height, width = images.shape[2:]
    if min(height, width) < 3:
        return images
    # Pillow's SMOOTH: the mean of 3 x 3 pixels in which the middle one counts five times. Whole numbers sum exactly.
    whole = images.float()
    rows = whole[..., :-2, :] + whole[..., 1:-1, :] + whole[..., 2:, :]
    blurred = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * whole[..., 1:-1, 1:-1]).div_(13).round_()
    whole[..., 1:-1, 1:-1] = blurred
    return _blended(images, whole, factor[:, None, None, None])


def _grey(images: Tensor) -> Tensor:
    """Luminance as torchvision computes it, or the mean if there are not three channels: float (N, 1, H, W), whole."""
    if images.shape[1] != 3:
        return images.float().mean(1, keepdim=True).floor_()
    whole = images.float()
    return (whole[:, :1] * 0.2989 + whole[:, 1:2] * 0.587 + whole[:, 2:] * 0.114).floor_()


def _blended(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """``factor images + (1 - factor) other`` in 0 to 255, the fraction cut off: uint8.

    Written so that rounding changes nothing where the factor is 1, or both are the same.
    """
    whole = images.float()
    return (other - whole).mul_(1 - factor).add_(whole).clamp_(0, 255).to(torch.uint8)
