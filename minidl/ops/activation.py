"""Nonlinearities, element by element. (ReLU is among the arithmetic, in elementwise.py.)"""

import math

import numpy as np

from minidl.kernels import kernel
from minidl.ops.elementwise import unbroadcast

#: Chebyshev series of ln(erfc(z) / t) + z² in t = 2 / (2 + z), for z >= 0; what is left out is below 1e-15.
ERFC = (
    *(-0.6513268598908547, 0.6419697923564902, 0.019476473204185836, -0.009561514786808632),
    *(-0.0009465953444820369, 0.00036683949785276145, 4.252332480690777e-05, -2.0278578112534242e-05),
    *(-1.6242900046470256e-06, 1.3036558355805232e-06, 1.5626441722066142e-08, -8.523809591492654e-08),
    *(6.5290544390988515e-09, 5.0593434955514685e-09, -9.913641564930322e-10, -2.2736512229318417e-10),
    *(9.646791102014962e-11, 2.394038083065756e-12, -6.886027526536277e-12, 8.944879271730368e-13),
    *(3.130921408127142e-13, -1.1270822525221733e-13, 3.8108713588528985e-16, 7.106125536922576e-15),
    -1.5230878975373303e-15,
)


@kernel
def sigmoid(x):
    """σ(x) = 1 / (1 + exp(-x)); exp sees only numbers <= 0, so nothing overflows."""
    z = np.exp(-np.absolute(x))
    return np.where(x < 0, z, 1) / (1 + z)


@kernel(y=r"\frac{1}{1 + e^{-x}}")
def sigmoid_forward(x):
    y = sigmoid(x)
    return y, y


@kernel(dx=r"dy \cdot y \cdot (1 - y)")
def sigmoid_backward(dy, y, needs):
    return (dy * y * (1 - y),)


@kernel(y=r"\tanh(x)")
def tanh_forward(x):
    y = np.tanh(x)
    return y, y


@kernel(dx=r"dy \cdot (1 - y^2)")
def tanh_backward(dy, y, needs):
    return (dy * (1 - y * y),)


@kernel(y="e^x - 1")
def expm1_forward(x):
    """y = exp(x) - 1, exact also near 0."""
    y = np.expm1(x)
    return y, y


@kernel(dx=r"dy \cdot (y + 1)")
def expm1_backward(dy, y, needs):
    return (dy * (y + 1),)


@kernel
def erf(x):
    """erf(x) = 2/√π ∫_0^x exp(-z²) dz = 1 - erfc(x), and erf(-x) = -erf(x)."""
    z = np.absolute(x)
    t = 2 / (2 + z)
    u, b, after = 4 * t - 2, 0 * t, 0 * t  # Clenshaw's sum of the series
    for coefficient in ERFC[:0:-1]:
        b, after = u * b - after + coefficient, b
    erfc = t * np.exp(0.5 * u * b - after + ERFC[0] - z * z)
    return np.where(x < 0, erfc - 1, 1 - erfc)


@kernel(y=r"\frac{2}{\sqrt{\pi}} \int_0^x e^{-z^2} dz")
def erf_forward(x):
    return erf(x), x


@kernel(dx=r"dy \cdot \frac{2}{\sqrt{\pi}} e^{-x^2}")
def erf_backward(dy, x, needs):
    return (dy * (2 / math.sqrt(math.pi)) * np.exp(-x * x),)


@kernel
def softplus(x, beta=1.0, threshold=math.inf):
    """y = ln(1 + exp(βx)) / β, and x where βx > threshold (there they differ by less than exp(-threshold) / β)."""
    z = beta * x
    return np.where(z > threshold, x, (np.maximum(z, 0) + np.log1p(np.exp(-np.absolute(z)))) / beta)


@kernel(y=r"\frac{1}{beta} \ln(1 + e^{beta \cdot x})")
def softplus_forward(x, *, beta, threshold):
    return softplus(x, beta, threshold), (x, beta, threshold)


@kernel(dx=r"dy \cdot \sigma(beta \cdot x)")
def softplus_backward(dy, saved, needs):
    x, beta, threshold = saved
    return (np.where(beta * x > threshold, dy, dy * sigmoid(beta * x)),)


@kernel(y=r"\max(x, 0) + slope \cdot \min(x, 0)")
def leaky_relu_forward(x, slope):
    """y = x where x > 0, else slope x (Maas et al. 2013; slope learned: PReLU, He et al. 2015, arXiv 1502.01852)."""
    return np.where(x > 0, x, slope * x), (x, slope)


@kernel(
    dx=r"dy \cdot (\mathbf{1}[x > 0] + slope \cdot \mathbf{1}[x \leq 0])", dslope=r"unbroadcast(dy \cdot \min(x, 0))"
)
def leaky_relu_backward(dy, saved, needs):
    x, slope = saved
    dx = np.where(x > 0, dy, slope * dy) if needs[0] else None
    dslope = unbroadcast(np.where(x > 0, 0, dy * x), slope.shape) if needs[1] else None
    return dx, dslope


@kernel(y=r"\max(x, 0) + alpha \cdot (e^{\min(x, 0)} - 1)")
def elu_forward(x, *, alpha):
    """y = x where x > 0, else α (exp(x) - 1) (Clevert et al. 2015, arXiv 1511.07289)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))), (x, alpha)


@kernel(dx=r"dy \cdot (\mathbf{1}[x > 0] + alpha \cdot e^x \cdot \mathbf{1}[x \leq 0])")
def elu_backward(dy, saved, needs):
    x, alpha = saved
    return (np.where(x <= 0, dy * alpha * np.exp(np.minimum(x, 0)), dy),)


@kernel(Phi=r"\frac{1}{2} + \frac{1}{2} erf(\frac{x}{\sqrt{2}})", y=r"x \cdot Phi")
def gelu_forward(x):
    """y = x Φ(x), Φ the distribution function of N(0, 1) (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""
    return x * (0.5 + 0.5 * erf(x / math.sqrt(2))), x


@kernel(dx=r"dy \cdot (Phi + x \cdot \frac{1}{\sqrt{2 \pi}} e^{-x^2 / 2})")
def gelu_backward(dy, x, needs):
    """dx = dy (Φ(x) + x φ(x)), φ = Φ' the density."""
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return (dy * (0.5 + 0.5 * erf(x / math.sqrt(2)) + x * density),)


@kernel(t=r"\tanh(\sqrt{2 / \pi} \cdot (x + 0.044715 x^3))", y=r"\frac{x}{2} (1 + t)")
def gelu_tanh_forward(x):
    """y = x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))): the same, approximately."""
    return 0.5 * x * (1 + np.tanh(inside_gelu(x))), x


@kernel(dx=r"dy \cdot (\frac{1}{2} (1 + t) + \frac{x}{2} (1 - t^2) \sqrt{2 / \pi} (1 + 3 \cdot 0.044715 x^2))")
def gelu_tanh_backward(dy, x, needs):
    t = np.tanh(inside_gelu(x))
    dt = (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return (dy * (0.5 * (1 + t) + 0.5 * x * dt),)


def inside_gelu(x):
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)


@kernel(y=r"x \cdot \sigma(x)")
def silu_forward(x):
    """y = x σ(x) (also "swish": Ramachandran et al. 2017, arXiv 1710.05941)."""
    return x * sigmoid(x), x


@kernel(dx=r"dy \cdot \sigma(x) \cdot (1 + x \cdot (1 - \sigma(x)))")
def silu_backward(dy, x, needs):
    s = sigmoid(x)
    return (dy * s * (1 + x * (1 - s)),)


@kernel(y=r"\min(\max(x, low), high)")
def hardtanh_forward(x, *, low, high):
    """y = x, cut off at low and high."""
    return np.minimum(np.maximum(x, low), high), (x, low, high)


@kernel(dx=r"dy \cdot \mathbf{1}[low < x < high]")
def hardtanh_backward(dy, saved, needs):
    """dx = dy inside, and 0 at the kinks."""
    x, low, high = saved
    return (np.where((x <= low) | (x >= high), 0, dy),)


@kernel(y=r"x \cdot \min(\max(\frac{x}{6} + \frac{1}{2}, 0), 1)")
def hardswish_forward(x):
    """y = x h(x), h(x) = x/6 + 1/2 cut off at 0 and 1 (Howard et al. 2019, arXiv 1905.02244)."""
    return x * np.minimum(np.maximum(x / 6 + 0.5, 0), 1), x


@kernel(dx=r"dy \cdot ((\frac{x}{3} + \frac{1}{2}) \cdot \mathbf{1}[-3 < x < 3] + \mathbf{1}[x \geq 3])")
def hardswish_backward(dy, x, needs):
    """dx = dy (x/3 + 1/2) between the kinks at -3 and 3, dy above, 0 below."""
    return (np.where(x <= -3, 0, np.where(x < 3, dy * (x / 3 + 0.5), dy)),)
