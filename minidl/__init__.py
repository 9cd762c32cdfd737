"""minidl: a deep-learning framework on NumPy, readable to the last derivative and fast on a CPU.

The names are PyTorch's: `import minidl as torch`, `import minidl.nn as nn`, `import minidl.nn.functional as F`.
"""

import numpy as _np

from minidl import autograd, creation, cuda, functions, models, nn, optim
from minidl.arguments import device
from minidl.autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minidl.compiled import compile as compile  # not in __all__, nor are float, int and bool below
from minidl.creation import *  # noqa: F403
from minidl.functions import *  # noqa: F403
from minidl.interop import load, save
from minidl.kernels import use_kernels
from minidl.kernels.algorithms import get_conv_algorithm, set_conv_algorithm
from minidl.kernels.threads import get_num_threads, set_num_threads
from minidl.random import get_rng_state, manual_seed, set_rng_state
from minidl.tensor import Tensor

__version__ = "0.1.0"

float32 = _np.dtype(_np.float32)
float64 = _np.dtype(_np.float64)
int32 = _np.dtype(_np.int32)
int64 = _np.dtype(_np.int64)
uint8 = _np.dtype(_np.uint8)
double, long = float64, int64
dtype = _np.dtype
Size = tuple  # what x.shape is
# Not in __all__, so that a star import leaves Python's own alone.
float, int, bool = float32, int32, _np.dtype(_np.bool_)

__all__ = [
    "Size",
    "Tensor",
    "autograd",
    "cuda",
    "device",
    "enable_grad",
    "float32",
    "float64",
    "get_conv_algorithm",
    "get_num_threads",
    "get_rng_state",
    "int32",
    "int64",
    "is_grad_enabled",
    "load",
    "manual_seed",
    "models",
    "nn",
    "no_grad",
    "optim",
    "save",
    "set_grad_enabled",
    "set_conv_algorithm",
    "set_num_threads",
    "set_rng_state",
    "uint8",
    "use_kernels",
]
__all__ += creation.__all__
__all__ += functions.__all__
