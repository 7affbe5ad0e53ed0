"""Logs a trained model to MLflow: a run, the model with its signature, and an alias in the registry."""

import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

import trainers
from sweeper.deploy.deployment import Deployment
from sweeper.deploy.replicates import FILE as REPLICATES
from sweeper.deploy.train import Deployed, doubtful_classes
from sweeper.run_folder.provenance import package_versions
from sweeper.tracking.store import experiment_id, shorten, without_secret
from trainers.data.findings import FILE as FINDINGS
from trainers.errors import ConfigError
from trainers.storage.saved_model import DESCRIPTION, WEIGHTS

ALIAS = "selected"
NEEDED = ("torch", "torchvision", "timm", "safetensors", "numpy", "scikit-learn", "pyarrow", "pillow")


@dataclass(frozen=True)
class Registered:
    """A model in MLflow's registry.

    Args:
        name: of the model.
        version: of it.
        selected: whether this version has the alias ``selected``.
    """

    name: str
    version: str
    selected: bool


def track_model(uri: str, deployment: Deployment, deployed: Deployed, data: dict[str, Any]) -> Registered:
    """Log a training as an MLflow run with its model, and give the new version the alias ``selected``.

    A version that may not know a class (most of its images are suspicious) does not get the alias: whoever loads the
    alias goes on with the version before it. The model is logged as code and files, not as a pickle;
    ``mlflow.pyfunc.load_model`` takes it from there.

    Args:
        uri: of the tracking store.
        deployment: the setting.
        deployed: results of the training.
        data: parameters that describe the training data.

    Raises:
        ConfigError: the store fails.
    """
    name = str(deployment.source.get("sweep", "deployed"))
    channels, height, width = deployed.trained.model.image_shape
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, channels, height, width), "images")]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, len(deployed.trained.model.class_names)))]),
    )
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        mlflow.set_tracking_uri(uri)
        beside = deployed.folder.resolve().parent
        mlflow.set_experiment(experiment_id=experiment_id(mlflow.MlflowClient(tracking_uri=uri), name, beside))
        with mlflow.start_run(run_name=deployed.folder.resolve().name, tags={"role": "deployment"}):
            mlflow.log_params(data | {f"defense.{key}": value for key, value in deployment.params.items()})
            mlflow.set_tags({"defense": deployment.defense, "config_id": str(deployment.source.get("config_id", ""))})
            for epoch, loss in enumerate(deployed.trained.losses, start=1):
                if loss is not None:
                    mlflow.log_metric("loss", loss, step=epoch)
            if deployed.review is not None:
                share = float((deployed.review["verdict"] == "suspicious").mean())
                mlflow.log_metric("suspicious_share", share)
            if deployed.replicates is not None:
                models = {"models": float(len(deployed.replicates.seeds))}
                mlflow.log_metrics(models | deployed.replicates.agreement.figures())
            for file in ("report.md", "suspicious.png", "suspicious.parquet", REPLICATES, FINDINGS):
                if (deployed.folder / file).exists():
                    mlflow.log_artifact(str(deployed.folder / file))
            # MLflow warns that type hints are missing, whatever filters are set; it would take them for a schema.
            with tempfile.TemporaryDirectory(prefix="sweeper-code-") as scratch, warnings.catch_warnings(record=True):
                info = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                    artifacts={part: str(deployed.folder / part) for part in (WEIGHTS, DESCRIPTION)},
                    code_paths=[str(_code(Path(scratch)))],
                    pip_requirements=[f"{package}=={number}" for package, number in package_versions(NEEDED).items()],
                    signature=signature,
                    input_example=np.zeros((1, channels, height, width), np.uint8),  # never one of the user's images
                    registered_model_name=name,
                )
        version = str(info.registered_model_version)
        selected = deployed.review is None or not doubtful_classes(deployed.review)
        if selected:
            mlflow.MlflowClient(tracking_uri=uri).set_registered_model_alias(name, ALIAS, version)
    except Exception as error:
        raise ConfigError(f"The tracking store {without_secret(uri)} failed: {shorten(error)}") from error
    return Registered(name, version, selected)


def _code(scratch: Path) -> Path:
    """A copy of the code that a model needs to run anywhere: ``trainers``, without compiled files."""
    source = Path(trainers.__file__).parent
    return Path(shutil.copytree(source, scratch / "trainers", ignore=shutil.ignore_patterns("__pycache__")))
