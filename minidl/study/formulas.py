r"""The equations that stand beside the texts of minidl.ops, as LaTeX for a notebook and as plain text for a terminal.

They are written in LaTeX with the names of the code for symbols, such as `dvar=r"-\frac{1}{2} inv_std^3 \sum ..."`.
"""

import re

from minidl.kernels import Kernel

__all__ = ["differentials", "latex", "latex_equation", "output_name", "plain", "symbol"]

SYMBOLS = {
    **{name: rf"\{name}" for name in ("alpha", "beta", "gamma", "Phi")},
    **{"eps": r"\varepsilon", "x_hat": r"\hat{x}", "x_bar": r"\bar{x}"},
    **{"inv_std": r"\mathrm{inv\_std}", "log_p": r"\mathrm{log\_p}", "pos_weight": r"\mathrm{pos\_weight}"},
}
COMPOUND = "|".join(f"d?{name}" for name in SYMBOLS if "_" in name)
TOKEN = re.compile(rf"\\math\w+\{{\w*\}}|\\[A-Za-z]+|\\.|\b(?:{COMPOUND})(?![A-Za-z])|[A-Za-z]+")

SIGNS = {
    **{r"\cdot": "·", r"\leq": "≤", r"\geq": "≥", r"\ldots": "…", r"\sum": "Σ", r"\int": "∫", r"\sigma": "σ"},
    **{r"\pi": "π", r"\Lambda": "Λ", r"\,": " ", r"\;": " "},
}
RAISED = str.maketrans("-0123456789T", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹ᵀ")


def symbol(name: str) -> str:
    r"""The LaTeX of a name of the code: gamma is \gamma, dx_hat is \mathrm{d}\hat{x}, weight is \mathrm{weight}."""
    if name in SYMBOLS or len(name) == 1:
        return SYMBOLS.get(name, name)
    if name[0] == "d" and (name[1:] in SYMBOLS or len(name) == 2):
        return rf"\mathrm{{d}}{symbol(name[1:])}"
    return rf"\mathrm{{{name}}}".replace("_", r"\_")


def latex(formula: str) -> str:
    """Set the names of the code as symbols."""
    return TOKEN.sub(lambda match: match[0] if match[0][0] == "\\" else symbol(match[0]), formula)


def latex_equation(name: str, formula: str, derivative: bool) -> str:
    """name = formula; a derivative dv is introduced as the derivative of the loss ℓ by v."""
    by = rf" = \frac{{\partial \ell}}{{\partial {symbol(name[1:])}}}" if derivative and name[0] == "d" else ""
    return f"{symbol(name)}{by} = {latex(formula)}"


def plain(formula: str) -> str:
    """The formula in signs that a terminal has: fractions as a / b, powers raised where they can be."""
    text = re.sub(r"\\math\w+\{(\w*)\}", r"\1", formula)
    for command, sign in SIGNS.items():
        text = re.sub(re.escape(command) + r"(?![A-Za-z])", sign, text)
    text = re.sub(r"\^([0-9T])(?!\w)", lambda match: match[1].translate(RAISED), text)
    before = None
    while before != text:  # from the innermost braces outwards
        before = text
        text = re.sub(r"\^\{(-?[0-9]+)\}", lambda match: match[1].translate(RAISED), text)
        text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", fraction, text)
        text = re.sub(r"\\sqrt\{([^{}]*)\}", lambda m: f"√{grouped(m[1])}", text)
        text = re.sub(r"([_^])\{([^{}]*)\}", lambda m: m[1] + grouped(m[2]), text)
    return re.sub(r" +", " ", text.replace("\\", "")).strip()


def fraction(match: re.Match) -> str:
    """a / b, in brackets where a factor follows."""
    text = f"{grouped(match[1])}/{grouped(match[2])}"
    return f"({text})" if re.match(r" *[\w(Σ√∫\\\\]", match.string[match.end() :]) else text


def grouped(text: str) -> str:
    return text if re.fullmatch(r"√?([\w.]+|(?<=√)\([^()]*\))", text) else f"({text})"


def output_name(backward: Kernel) -> str:
    """What the output of an operation is called: its backward text begins with the gradient by it."""
    return backward.text.__code__.co_varnames[0][1:]


def differentials(forward: Kernel) -> list[str]:
    """The names of the gradients by the inputs of a forward text: d and the input's name."""
    code = forward.text.__code__
    several = bool(code.co_flags & 0x04)  # *arrays: they come after the options
    names = code.co_varnames[: code.co_argcount]
    return [f"d{name}" for name in (*names, *code.co_varnames[code.co_argcount + code.co_kwonlyargcount :][:several])]
