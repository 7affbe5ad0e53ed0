"""What is said of the agreement of replicates: a section of the report, and lines for the screen."""

from sweeper.deploy.agreement import OverPairs
from sweeper.deploy.replicates import FILE, Replicates

_ON_PREDICTIONS = (
    "Nothing here was measured against the truth. No image was known to be clean or poisoned.",
    "Agreement is no evidence that there is no backdoor. All models learned from the same images with the same "
    "setting, and an attack that succeeds against one of them often succeeds against all: models that agree may agree "
    "on a backdoor.",
    "The predictions are of the images that the models were trained on. On new images models may agree less.",
)
_ON_VERDICTS = (
    "Where the models differ in which images are suspicious, the verdict depends on chance. Do not rely on the verdict "
    "of a single model there.",
    "An image that all models mark is better evidence than one that a single model marks. It may still be a clean "
    "image that is hard to learn.",
)


def agreement_section(replicates: Replicates, images: int) -> list[str]:
    """Lines of Markdown on how far the models agree, and on what that shows.

    Args:
        replicates: the models.
        images: how many images they were trained on.
    """
    found, trained = replicates.agreement, len(replicates.seeds)
    lines = [
        f"## Agreement of {_models(trained)}",
        "",
        f"Models with the same setting were trained on the same images, with the seeds {_listed(replicates.seeds)}. "
        f"The model handed out is that of seed {replicates.chosen}{_why(replicates)}. All figures are of the {images} "
        "training images, without augmentation; no other images were used. "
        f"`{FILE}` has what each model says of each image.",
        "",
    ]
    for seed, reason in replicates.failures.items():
        lines += [f"**The training with seed {seed} failed, and counts nowhere:** `{reason.replace('`', chr(39))}`", ""]
    if found.same_class is None or found.kappa is None:
        return [*lines, "There is no second model to compare it with.", ""]
    lines += ["| of two models | mean over pairs | lowest pair |", "|---|---|---|"]
    lines.append(_row("same predicted class", found.same_class, ".1%"))
    lines.append(_row("same predicted class beyond chance (Cohen's kappa)", found.kappa, ".2f"))
    if found.jaccard is not None:
        lines.append(_row("overlap of suspicious images (Jaccard index)", found.jaccard, ".2f"))
    lines.append("")
    if found.marked_by_all is not None:
        lines += [
            f"Images that are suspicious to all {trained} models: {found.marked_by_all}; to at least one: "
            f"{found.marked_by_any}.",
            "",
        ]
    if found.low:
        lines += [f"**Agreement is low ({'; '.join(found.low)}; the bars are rules of thumb).**", ""]
    sentences = _ON_PREDICTIONS if found.jaccard is None else (*_ON_PREDICTIONS, *_ON_VERDICTS)
    return [*lines, "What this shows, and what it does not:", "", *(f"- {text}" for text in sentences), ""]


def agreement_lines(replicates: Replicates) -> list[str]:
    """Lines for the screen: how many trainings failed, how far the models agree, and which one was handed out."""
    found, failed = replicates.agreement, len(replicates.failures)
    lines = [f"{failed} of {replicates.asked} trainings failed; the report says why."] if failed else []
    if found.same_class is None or found.kappa is None:
        return [*lines, f"Only the model of seed {replicates.chosen} was trained: nothing to compare it with."]
    parts = [f"same class for {found.same_class.mean:.1%} of the images (kappa {found.kappa.mean:.2f})"]
    if found.jaccard is not None:
        parts.append(f"suspicious images overlap by {found.jaccard.mean:.2f} (Jaccard)")
    lines.append(f"{_models(len(replicates.seeds))} agree in the mean of pairs: {', '.join(parts)}.")
    if found.low:
        lines.append(f"Agreement is low ({'; '.join(found.low)}): the result depends on the seed.")
    return [*lines, f"The model handed out is that of seed {replicates.chosen}{_why(replicates)}."]


def _why(replicates: Replicates) -> str:
    """Why this model was handed out, after its seed."""
    if len(replicates.seeds) > 2:
        return ", whose predictions agree most with those of the others"
    return ", the first: two models are equally near to each other" if len(replicates.seeds) == 2 else ""


def _models(count: int) -> str:
    return f"{count} model{'' if count == 1 else 's'}"


def _listed(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds))


def _row(name: str, pairs: OverPairs, form: str) -> str:
    return f"| {name} | {pairs.mean:{form}} | {pairs.lowest:{form}} |"
