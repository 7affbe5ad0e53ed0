"""The model that ``mlflow.pyfunc`` runs. MLflow copies this file without ``sweeper``, so it must not import that."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from trainers.storage.saved_model import WEIGHTS, load_model


class Classifier(PythonModel):
    """Predicts class probabilities of images."""

    def load_context(self, context: Any) -> None:
        """Read the weights."""
        self._model = load_model(Path(context.artifacts[WEIGHTS]))

    # MLflow takes type hints for a schema, and the signature is given already.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Probabilities, float (N, classes), of images, uint8 (N, C, H, W): an array, or the item ``images``."""
        images = model_input["images"] if isinstance(model_input, dict) else model_input
        return self._model.probabilities(torch.from_numpy(np.array(images))).numpy()


set_model(Classifier())
