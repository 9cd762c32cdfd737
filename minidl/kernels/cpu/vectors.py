"""Vectors in generated code: a value of the LLVM builder with + - *, so that what is emitted reads like the formula."""

import llvmlite.ir as ir
from numba.core import cgutils

from minidl.kernels.cpu.jit import VECTOR_BYTES

__all__ = ["I8", "I32", "I64", "Emitter", "Vector", "data", "loop", "where"]

I8, I32, I64 = map(ir.IntType, (8, 32, 64))
FLAGS = ("contract",)  # a product and a sum may become one fma


class Vector:
    """A vector while code is emitted; numbers in a formula become vectors of that number."""

    def __init__(self, emitter, value):
        self.emitter, self.value = emitter, value

    def _binary(self, name, other, swapped=False):
        operands = self.value, as_vector(other, self.emitter).value
        value = getattr(self.emitter.builder, name)(*(operands[::-1] if swapped else operands), flags=FLAGS)
        return Vector(self.emitter, value)

    def __add__(self, other):
        return self._binary("fadd", other)

    def __sub__(self, other):
        return self._binary("fsub", other)

    def __mul__(self, other):
        return self._binary("fmul", other)

    def __truediv__(self, other):
        return self._binary("fdiv", other)

    def __rsub__(self, number):
        return self._binary("fsub", number, swapped=True)

    def __rtruediv__(self, number):
        return self._binary("fdiv", number, swapped=True)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return Vector(self.emitter, self.emitter.builder.fneg(self.value))

    def __lt__(self, other):
        return self._compare("<", other)

    def __gt__(self, other):
        return self._compare(">", other)

    def __le__(self, other):
        return self._compare("<=", other)

    def _compare(self, order, other):
        """What `where` chooses by: no order holds for NaN."""
        return self.emitter.builder.fcmp_ordered(order, self.value, as_vector(other, self.emitter).value)


def as_vector(x, emitter):
    return x if isinstance(x, Vector) else emitter.constant(x)


def where(condition, x, y):
    """x where the condition holds, else y; one of them is a Vector."""
    emitter = (x if isinstance(x, Vector) else y).emitter
    return Vector(emitter, emitter.builder.select(condition, as_vector(x, emitter).value, as_vector(y, emitter).value))


class Emitter:
    """Loads and stores of vectors of one dtype (or, with lanes 1, of single numbers) in the function being built."""

    def __init__(self, builder, scalar, lanes=None):
        self.builder, self.scalar = builder, scalar
        self.itemsize = 8 if isinstance(scalar, ir.DoubleType) else 4
        self.lanes = VECTOR_BYTES // self.itemsize if lanes is None else lanes
        self.type = scalar if self.lanes == 1 else ir.VectorType(scalar, self.lanes)
        self.zero = ir.Constant(self.type, 0.0 if self.lanes == 1 else [0.0] * self.lanes)

    def constant(self, number):
        return Vector(self, ir.Constant(self.type, number if self.lanes == 1 else [float(number)] * self.lanes))

    def pointer(self, base, offset):
        return self.builder.bitcast(self.builder.gep(base, [offset]), self.type.as_pointer())

    def load(self, base, offset):
        value = self.builder.load(self.pointer(base, offset))
        value.align = self.itemsize
        return value

    def store(self, value, base, offset):
        self.builder.store(value, self.pointer(base, offset)).align = self.itemsize

    def splat(self, value):
        """One number in every lane."""
        if self.lanes == 1:
            return value
        one = self.builder.insert_element(ir.Constant(self.type, ir.Undefined), value, I32(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))

    def fma(self):
        """The function a b + c with one rounding."""
        kind = f"f{8 * self.itemsize}" if self.lanes == 1 else f"v{self.lanes}f{8 * self.itemsize}"
        signature = ir.FunctionType(self.type, [self.type] * 3)
        return cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.fma.{kind}")


def loop(builder, count, start, body):
    """Emit `values = body(i, values)` for i in range(count), from the values `start`; the last values."""
    before, head, inside, behind = builder.block, *(builder.append_basic_block() for _ in range(3))
    builder.branch(head)
    builder.position_at_end(head)
    i, values = builder.phi(I64), [builder.phi(value.type) for value in start]
    builder.cbranch(builder.icmp_signed("<", i, count), inside, behind)
    builder.position_at_end(inside)
    after = body(i, values)
    following = builder.add(i, I64(1))
    for phi, first, later in ((i, I64(0), following), *zip(values, start, after, strict=True)):
        phi.add_incoming(first, before)
        phi.add_incoming(later, builder.block)
    builder.branch(head)
    builder.position_at_end(behind)
    return values


def data(context, builder, kind, array, offset=None):
    """The address of an array's element `offset`, in numbers of its dtype."""
    start = context.make_array(kind)(context, builder, array).data
    return start if offset is None else builder.gep(start, [offset])
