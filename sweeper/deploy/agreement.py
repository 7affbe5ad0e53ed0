"""How far models agree that were trained alike: on their predictions, and on which samples are suspicious."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LOW_KAPPA = 0.8
"""Below this mean kappa, agreement on predictions is called low. A rule of thumb: a kappa above 0.8 is "almost perfect"
in Landis and Koch, The measurement of observer agreement for categorical data (1977)."""
LOW_JACCARD = 0.5
"""Below this mean Jaccard index, agreement on suspicious samples is called low. A rule of thumb: two models then have
less than half of what either marks in common."""
_SAME_TO = 12
"""Digits to which means are compared, so that rounding breaks no tie."""


@dataclass(frozen=True)
class OverPairs:
    """A measure of two models, over all pairs of models.

    Args:
        mean: over pairs.
        lowest: of all pairs.
    """

    mean: float
    lowest: float


@dataclass(frozen=True)
class Agreement:
    """How far models agree. Measures of pairs are null for a single model.

    Args:
        same_class: share of samples with the same predicted class.
        kappa: Cohen's kappa of the predicted classes, agreement beyond chance.
        jaccard: Jaccard index of the suspicious samples; null if the defense marks none.
        marked_by_all: samples that every model marks as suspicious; null likewise.
        marked_by_any: samples that at least one model marks as suspicious; null likewise.
        nearest: number of the model that is nearest to the others, from 0.
    """

    same_class: OverPairs | None
    kappa: OverPairs | None
    jaccard: OverPairs | None
    marked_by_all: int | None
    marked_by_any: int | None
    nearest: int

    @property
    def low(self) -> list[str]:
        """What is below its bar, with figure and bar; empty if agreement is not low."""
        bars = (("kappa", self.kappa, LOW_KAPPA), ("Jaccard", self.jaccard, LOW_JACCARD))
        return [f"{name} {pairs.mean:.2f}, below {bar}" for name, pairs, bar in bars if pairs and pairs.mean < bar]

    def figures(self) -> dict[str, float]:
        """All figures by name, for MLflow; those that are null are left out."""
        measures = {"agreement": self.same_class, "kappa": self.kappa, "jaccard": self.jaccard}
        found: dict[str, float] = {}
        for name, pairs in measures.items():
            if pairs is not None:
                found |= {f"{name}_mean": pairs.mean, f"{name}_min": pairs.lowest}
        if self.marked_by_all is not None and self.marked_by_any is not None:
            found |= {"marked_by_all": self.marked_by_all, "marked_by_any": self.marked_by_any}
        return found


def agreement(predictions: np.ndarray, marks: np.ndarray | None) -> Agreement:
    """How far models agree, and which is nearest to the others.

    Args:
        predictions: int (M, N), the class that each model predicts for each sample; at least one of each.
        marks: bool (M, N), whether each model marks each sample as suspicious; null if the defense marks none.
    """
    same_class = pair_matrix(predictions, same_class_share)
    jaccard = None if marks is None else pair_matrix(marks, jaccard_index)
    return Agreement(
        same_class=over_pairs(same_class),
        kappa=over_pairs(pair_matrix(predictions, cohens_kappa)),
        jaccard=None if jaccard is None else over_pairs(jaccard),
        marked_by_all=None if marks is None else int(marks.all(0).sum()),
        marked_by_any=None if marks is None else int(marks.any(0).sum()),
        nearest=nearest(same_class, jaccard),
    )


def jaccard_index(one: np.ndarray, other: np.ndarray) -> float:
    """Size of the intersection over size of the union; 1 if both sets are empty.

    Args:
        one, other: bool (N,), whether each sample is in the set.
    """
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def same_class_share(one: np.ndarray, other: np.ndarray) -> float:
    """Share of samples for which two models predict the same class.

    Args:
        one, other: int (N,), predicted classes.
    """
    return float((one == other).mean())


def cohens_kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Agreement of two models' predictions beyond chance (Cohen's kappa): 1 if all are the same, 0 as by chance.

    Where both predict one and the same class for all samples, kappa is 0/0; here it is 1, since they do agree.

    Args:
        one, other: int (N,), predicted classes.
    """
    # scikit-learn takes two seconds to import, which every command would pay.
    from sklearn.metrics import cohen_kappa_score

    return 1.0 if (one == other).all() else float(cohen_kappa_score(one, other))


def suspicious_share(marks: np.ndarray) -> np.ndarray:
    """Share of the models that mark each sample as suspicious: float (N,).

    Args:
        marks: bool (M, N), by model and sample.
    """
    share: np.ndarray = marks.mean(0)
    return share


def pair_matrix(rows: np.ndarray, measure: Callable[[np.ndarray, np.ndarray], float]) -> np.ndarray:
    """A symmetric measure of each pair of models: float (M, M), with 1 on the diagonal.

    Args:
        rows: (M, N), one row per model.
        measure: of two rows.
    """
    matrix = np.eye(len(rows))
    for i, j in zip(*np.triu_indices(len(rows), 1), strict=True):
        matrix[i, j] = matrix[j, i] = measure(rows[i], rows[j])
    return matrix


def over_pairs(matrix: np.ndarray) -> OverPairs | None:
    """Mean and minimum over all pairs of two different models; null if there is no pair.

    Args:
        matrix: float (M, M), from :func:`pair_matrix`.
    """
    values = matrix[np.triu_indices(len(matrix), 1)].tolist()
    return OverPairs(math.fsum(values) / len(values), min(values)) if values else None


def nearest(same_class: np.ndarray, jaccard: np.ndarray | None) -> int:
    """The model nearest to the others (the medoid): whose predictions agree most with theirs in the mean.

    Of several, the one whose suspicious samples overlap most with those of the others; of several again, the first.

    Args:
        same_class: float (M, M), share of samples with the same predicted class.
        jaccard: float (M, M), overlap of the suspicious samples; null if the defense marks none.

    Returns:
        Its number, from 0.
    """
    matrices = [same_class] if jaccard is None else [same_class, jaccard]
    # Each model's 1 with itself is in all of these means alike, so it moves none before another.
    means = [[round(math.fsum(row) / len(row), _SAME_TO) for row in matrix.tolist()] for matrix in matrices]
    return max(range(len(same_class)), key=lambda model: [mean[model] for mean in means])
