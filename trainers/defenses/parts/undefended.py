"""Results of control runs, for defenses that begin with the same training."""

from itertools import pairwise

from safetensors import SafetensorError

from trainers.defenses.base import Undefended
from trainers.measuring.evaluation import Measurement
from trainers.models import Network
from trainers.storage.object_store import Place
from trainers.storage.state import StateError, load_state, save_state


def keep_undefended(path: Place, network: Network, measured: list[Measurement]) -> None:
    """Write the network, and loss and seconds of each epoch, of an ordinary training."""
    passed = [0.0, *(figures.seconds for figures in measured)]
    seconds = [later - earlier for earlier, later in pairwise(passed)]
    losses = [figures.loss for figures in measured]
    save_state(path, {"network": network.state_dict(), "losses": losses, "seconds": seconds})


def find_undefended(path: Place) -> Undefended | None:
    """The result kept at ``path``; null if there is none or the file is damaged."""
    try:
        state = load_state(path)
    except (FileNotFoundError, SafetensorError, StateError):
        return None
    return Undefended(state["network"], state["losses"], state["seconds"])
