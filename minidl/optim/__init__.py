"""Rules that change parameters by their gradients, and schedules of the learning rate."""

from minidl.optim import lr_scheduler
from minidl.optim.optimizer import Optimizer
from minidl.optim.sgd import SGD

__all__ = ["SGD", "Optimizer", "lr_scheduler"]
