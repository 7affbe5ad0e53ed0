"""What a training has found, on disk until all trainings of a command have ended."""

from pathlib import Path

from safetensors import SafetensorError

from trainers.blind import Trained
from trainers.errors import ConfigError
from trainers.storage.saved_model import load_model
from trainers.storage.state import StateError, load_state, save_state

FILE = "found.safetensors"


def keep(trained: Trained, folder: Path) -> None:
    """Write the result of a training into ``folder``.

    Raises:
        OSError: it cannot be written.
    """
    found = {"suspicion": trained.suspicion, "credible": trained.credible, "losses": trained.losses}
    save_state(folder / FILE, found)
    trained.model.save(folder)  # last, since it shows that the result is whole


def kept(folder: Path) -> Trained | None:
    """The result that :func:`keep` wrote into ``folder``; null if there is none that can be read."""
    try:
        found = load_state(folder / FILE)
        return Trained(load_model(folder), found["suspicion"], found["credible"], found["losses"])
    except (FileNotFoundError, SafetensorError, StateError, ConfigError):
        return None
