"""A trigger image of the user's own."""

from pathlib import Path

from torch import Tensor

from trainers.data.decode import decode
from trainers.errors import ConfigError


def absolute(path: str | None) -> str | None:
    """The path as any process of this machine can open it: workers have working folders of their own."""
    return None if path is None else str(Path(path).expanduser().absolute())


def load_pattern(path: str, channels: int, size: int) -> Tensor:
    """Read a trigger image and resize it: uint8 (channels, size, size).

    Raises:
        ConfigError: the file cannot be read, is no image, or has colour where the data has none.
    """
    file = Path(path).expanduser()
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"The trigger image {path} cannot be read: {error.strerror}.") from error
    pattern = decode([(path, content)], size)[0]
    if pattern.shape[0] > channels:
        raise ConfigError(f"The trigger image {path} has colour, but the data has one channel.")
    return pattern.expand(channels, -1, -1).clone()
