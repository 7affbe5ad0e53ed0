"""One training with a selected setting on untrusted images; one that was cut off continues."""

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sweeper.deploy.deployment import Deployment
from sweeper.deploy.kept import keep, kept
from trainers.blind import Trained, train_blind
from trainers.compute import Compute
from trainers.data.config import DataConfig
from trainers.data.image_set import ImageSet, pixels_fingerprint
from trainers.data.stored import Images
from trainers.defenses import DEFENSES
from trainers.seeding import NUMERICS, derive_seed
from trainers.storage.files import remove_tree
from trainers.storage.state_store import StateStore


@dataclass(frozen=True)
class Trainer:
    """Trains models with one setting on the same images. States and results are kept until :meth:`forget`.

    Args:
        deployment: the setting.
        data: untrusted images.
        read_as: how they were read.
        folder: below which states and results are kept.
        compute: where to compute.
        console: for progress.
        unlabelled: uint8 (M, C, H, W), for defenses that need images without labels.
        state_every_s: seconds between states.
    """

    deployment: Deployment
    data: ImageSet
    read_as: DataConfig
    folder: Path
    compute: Compute
    console: Console
    unlabelled: Images | None = None
    state_every_s: float = 60.0

    def train(self, seed: int) -> Trained:
        """Train with a seed, and keep the result; one that is kept already is returned.

        A training that was cut off continues, if data, setting, seed, numeric format and kind of device are the same.

        Raises:
            TrialError: a loss is not finite.
            OSError: states or the result cannot be written.
        """
        states = self._states(seed)
        known = kept(states)
        if known is not None:
            return known
        store = StateStore(states, self.state_every_s)
        console = self.console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("training", total=None)

            def show(stage: str, epoch: int, total: int, loss: float | None) -> None:
                text = f"{stage}, loss {loss:.3f}" if loss is not None else stage
                progress.update(task, description=text, completed=epoch, total=total)
                if not console.is_terminal and (epoch == total or epoch % max(total // 10, 1) == 0):
                    console.print(f"epoch {epoch} of {total}: {text}", highlight=False)

            trained = train_blind(self.deployment.setting, self.data, self.compute, seed, store, show, self.unlabelled)
        trained = replace(trained, model=replace(trained.model, rendering=self.read_as.rendering))
        keep(trained, states)
        store.path(0).unlink(missing_ok=True)  # the result has taken its place
        return trained

    def forget(self, seed: int) -> None:
        """Remove what is kept of the training with a seed."""
        states = self._states(seed)
        remove_tree(states)
        with suppress(OSError):  # another training's states, or other files
            states.parent.rmdir()

    def _states(self, seed: int) -> Path:
        key = derive_seed(
            seed,
            "deploy",
            NUMERICS,
            self._setting,
            self.compute.device.type,  # a CPU's generator states do not fit a GPU
            self.compute.amp,
            self.data.fingerprint,
            self._unlabelled_fingerprint,
            # a key that was added later
            *[size for size in (self.deployment.pass_images,) if size is not None],
        )
        return self.folder / "states" / f"{key:x}"

    @property
    def _setting(self) -> list[object]:
        chosen = self.deployment
        params = DEFENSES[chosen.defense].Params(**chosen.params)
        return [chosen.defense, params.changed(), chosen.model.changed(), chosen.augment.changed()]

    @cached_property
    def _unlabelled_fingerprint(self) -> str | None:
        return None if self.unlabelled is None else pixels_fingerprint(self.unlabelled)
