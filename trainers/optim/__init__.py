"""How the weights of a network are trained: the same keys and the same code for every defense and the control."""

from trainers.optim.descent import Descent
from trainers.optim.params import OptimizerParams
from trainers.optim.parts import frozen_parts
from trainers.optim.rates import cosine

__all__ = ["Descent", "OptimizerParams", "cosine", "frozen_parts"]
