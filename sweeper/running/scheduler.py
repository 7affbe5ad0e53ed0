"""The scheduler, which decides which trainings are stopped early."""

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from sweeper.preset.spec import SweepSpec


def make_scheduler(spec: SweepSpec, epochs: int) -> TrialScheduler:
    """The scheduler that the preset names.

    ASHA (arXiv 1810.05934) compares trainings by the objective at equal epochs; controls report no objective, so they
    are never stopped.

    Args:
        spec: the sweep; for ASHA it has one objective, one scenario and one seed.
        epochs: the most epochs of a training.
    """
    if spec.search.scheduler == "none":
        return FIFOScheduler()
    mode = "max" if spec.objectives[0].direction == "maximize" else "min"
    grace = min(spec.search.grace_epochs, epochs)
    return AsyncHyperBandScheduler(
        time_attr="epoch", metric="objective", mode=mode, grace_period=grace, max_t=max(epochs, grace) + 1
    )
