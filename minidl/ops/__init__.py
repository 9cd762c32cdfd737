"""The equations: one family of operations a file, each a pair of pure functions on arrays.

    f_forward(x, ..., *, options)  -> y, saved
    f_backward(dy, saved, needs)   -> one gradient per input, None where `needs` is False

The text runs on NumPy arrays, on CuPy arrays, and on Tensors (that is how second derivatives are made), so it uses
NumPy's functions and operators only, and changes no array that it was given.
"""
