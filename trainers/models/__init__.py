"""Networks by name."""

from trainers.models.base import ModelOutput, Network
from trainers.models.build import build_model, check_model, check_other, interpolation_of, settle
from trainers.models.config import ModelConfig, check_network
from trainers.models.families import MODELS

__all__ = [
    "MODELS", "ModelConfig", "ModelOutput", "Network", "build_model", "check_model", "check_network",
    "check_other", "interpolation_of", "settle",
]  # fmt: skip
