"""minidl and PyTorch run every program of these tables: same values, dtypes, gradients, or errors from both."""

import itertools

import numpy as np
import pytest

import minidl

torch = pytest.importorskip("torch")
KINDS = ("float32", "float64", "int64", "int32", "uint8", "bool")
DATA = {
    "a": [[1.5, -2.0, 3.0], [0.5, 4.0, -1.0]],
    "b": [2.0, 3.0, 1.0],
    "cube": np.arange(24).reshape(2, 3, 4).tolist(),
    "ties": [[1.0, 3.0, 3.0], [2.0, 2.0, 0.0]],
    "nans": [[1.0, float("nan"), float("inf")], [-float("inf"), 0.0, -0.0]],
}


def run(library, program, grad=False, **names):
    """Evaluate under one library: (results, gradients by a and b), or the exception."""
    inputs = {}
    for name, data in DATA.items():
        dtype = library.int64 if name == "cube" else library.float64
        inputs[name] = library.tensor(data, dtype=dtype, requires_grad=grad and dtype == library.float64)
    scope = {"torch": library, "np": np, "nan": float("nan"), "inf": float("inf"), **inputs, **names}
    try:
        if "\n" in program or "; " in program:
            exec(program.replace("; ", "\n"), scope)
            y = scope["y"]
        else:
            y = eval(program, scope)
        if grad:
            y.backward(library.tensor(weights(tuple(y.shape)), dtype=library.float64))
            return plain(y), [plain(inputs[n].grad) for n in ("a", "b", "ties", "nans")]
    except Exception as error:
        return error
    return plain(y)


def weights(shape):
    return np.random.default_rng(0).standard_normal(shape)


def plain(y):
    """What the libraries must agree on: dtype, shape and values."""
    if hasattr(y, "detach"):
        values = np.asarray(y.detach())
        return str(y.dtype).removeprefix("torch."), tuple(y.shape), values
    if isinstance(y, tuple | list):
        return [plain(v) for v in y]
    return y


def assert_same(ours, theirs, what):
    if isinstance(theirs, list):
        assert isinstance(ours, list) and len(ours) == len(theirs), what
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other, what)
    elif isinstance(theirs, tuple) and len(theirs) == 3 and isinstance(theirs[2], np.ndarray):
        assert ours[:2] == theirs[:2], f"{what}: {ours[:2]} != {theirs[:2]}"
        np.testing.assert_allclose(ours[2], theirs[2], rtol=2e-7 if theirs[0] == "float32" else 1e-12, err_msg=what)
    elif isinstance(theirs, tuple):
        assert_same(list(ours), list(theirs), what)
    else:
        assert type(ours) is type(theirs), f"{what}: {ours!r} != {theirs!r}"
        assert ours == theirs or (ours != ours and theirs != theirs), f"{what}: {ours!r} != {theirs!r}"


def check(program, grad=False, **names):
    theirs, ours = run(torch, program, grad, **names), run(minidl, program, grad, **names)
    if isinstance(theirs, Exception):
        sensible = isinstance(ours, RuntimeError | ValueError | TypeError | IndexError)
        assert sensible, f"{program}: {ours!r} instead of {theirs!r}"
        if isinstance(theirs, IndexError):
            assert isinstance(ours, IndexError), f"{program}: {ours!r} instead of {theirs!r}"
        assert str(ours), program
    else:
        if isinstance(ours, Exception):
            raise AssertionError(f"{program}: PyTorch gives {theirs!r}, minidl raises") from ours
        assert_same(ours, theirs, program)


OPERATORS = ("+", "-", "*", "/", "**", "<", "<=", "==", "!=", ">", ">=")


@pytest.mark.parametrize("operator", OPERATORS)
def test_dtypes_of_every_pair(operator):
    """Extended, zero-dimensional, Python and NumPy operands, in every dtype, on both sides."""
    operands = []
    for kind in KINDS:
        values = "[1, 0, 1]" if kind == "bool" else "[1, 2, 3]"
        operands += [f"torch.tensor({values}, dtype=torch.{kind})", f"torch.tensor(2, dtype=torch.{kind})"]
    scalars = ["True", "2", "2.5", "0.1"]
    for x, y in itertools.chain(itertools.product(operands, operands + scalars), itertools.product(scalars, operands)):
        if operator == "**" and y == "True" and "bool" in x:
            continue  # refused, as bool ** bool is; PyTorch returns a copy here
        with np.errstate(all="ignore"):
            check(f"{x} {operator} {y}")


# NumPy's scalars on the right act as Python's numbers (on the left, NumPy's own operators come first).
@pytest.mark.parametrize("scalar", ["np.float64(0.1)", "np.float32(0.1)", "np.int64(3)", "np.bool_(True)"])
@pytest.mark.parametrize("operator", ["+", "*", "/", "==", "<"])
def test_numpy_scalars_raise_no_precision(scalar, operator):
    for kind in ("float32", "float64", "int64", "bool"):
        number = scalar.replace("np.bool_(True)", "True")
        ours = run(minidl, f"torch.tensor([0, 1, 3], dtype=torch.{kind}) {operator} {scalar}")
        if "float" in scalar:
            number = repr(float(eval(scalar)))
        elif "int" in scalar:
            number = "3"
        theirs = run(torch, f"torch.tensor([0, 1, 3], dtype=torch.{kind}) {operator} {number}")
        assert_same(ours, theirs, f"{kind} {operator} {scalar}")


VALUES = """
a + b | a - b | b - a | a * b | a / b | a ** 2 | b ** a | 2 ** b | a ** 0 | a ** -1 | a ** 0.5 | -a | 1 - a | 3 / a
abs(a) | +a
a @ b | a @ a.T | a.T @ a | b @ b | a @ a | b @ a | a.matmul(b) | cube.double() @ a.T @ a | cube @ cube | cube @ 2
a[:, :2] + b | a + a[:, None] | a[None] * cube.double()[:, :2, :3] | a < b | a == a.clone() | a != b | a == None
a != None | a == "x"
(a < 0) & (b > 1) | (a < 0) | (b > 1) | ~(a < 0) | cube & 3 | cube | 8 | ~cube | (a > 0) & 1 | a & 1 | 3 & cube
cube[0] | cube[-1, 2] | cube[1, 2, 3] | cube[2] | cube[0, 0, 0, 0] | cube[:, 1:] | cube[..., 0] | cube[:, None, ::2]
cube[..., None]
cube[None] | cube[...] | cube[[0, 1]] | cube[[0, 1], [2, 0]] | cube[:, [2, 0, 0]] | cube[[0, 5]] | cube[-3:-1]
cube[5:] | cube[1:0]
cube[True] | cube[False] | cube[cube > 5] | cube[cube[:, 0, 0] > 5] | cube[:, [True, False, True]] | cube[0, ..., 1:3]
cube[1.5]
cube[torch.tensor([1, 0])] | cube[torch.tensor(1)] | cube[:, torch.tensor([[0, 1], [2, 2]])]
cube[torch.tensor([0.5])] | cube["x"]
cube[0, torch.tensor([1, 2]), ::2] | cube[torch.tensor([0, 1]), :, torch.tensor([1, 2])] | cube[np.array([1, 0])]
cube[np.int64(1)]
cube[cube[:, :2] > 5] | cube[torch.tensor([], dtype=torch.int64)] | cube[-1:, ..., -2:] | cube[torch.tensor([-1, -2])]
cube[torch.tensor([2])]
cube[torch.tensor([1, 0], dtype=torch.uint8).bool()] | cube[None, ..., None, 1] | cube[()] | cube[(0, 1)]
cube[0][1][2]
cube[range(2)] | cube[:, -1] | torch.tensor(3)[None] | torch.tensor(3)[0] | torch.tensor(3)[...] | cube[..., ..., 0]
cube.reshape(6, 4) | cube.reshape((4, 6)) | cube.reshape(-1) | cube.reshape(2, -1) | cube.reshape(-1, -1)
cube.reshape(5, 5) | cube.reshape([3, 8])
cube.view(4, -1) | cube.view(7, -1) | cube.reshape(-1, 7) | cube.reshape(-2, 3) | cube.view(24)
torch.tensor(1.0).reshape(1, 1) | torch.tensor(1.0).reshape(())
torch.zeros(0, 3).reshape(3, 0) | torch.zeros(0, 3).reshape(-1, 3) | torch.zeros(0, 3).reshape(-1, 0)
torch.tensor([1.0]).reshape(())
cube.permute(2, 0, 1) | cube.permute((0, 2, 1)) | cube.permute(0, 1) | cube.permute(0, 0, 1) | cube.permute(0, 1, 3)
cube.permute(-1, 0, 1)
cube.transpose(0, 2) | cube.transpose(-1, 0) | cube.transpose(0, 3) | cube.transpose(1, 1) | a.t() | cube.t() | b.t()
a.T | torch.tensor(1).t()
cube.flatten() | cube.flatten(1) | cube.flatten(0, 1) | cube.flatten(-2, -1) | cube.flatten(2, 1) | cube.flatten(3)
torch.tensor(1).flatten()
cube.flatten(1, 1) | torch.zeros(0, 2, 3).flatten(1) | torch.zeros(2, 0, 3).flatten() | cube.flatten(-4)
cube.flatten(0, 3)
cube[:, :1].squeeze() | cube[:, :1].squeeze(1) | cube[:, :1].squeeze(0) | cube.squeeze(3)
cube[:1, :1].squeeze((0, 1)) | cube[:1, :1].squeeze(-2)
torch.tensor(1).squeeze(0) | torch.tensor(1).squeeze() | torch.tensor(1).squeeze(1) | cube.squeeze(-4)
cube.unsqueeze(0) | cube.unsqueeze(-1) | cube.unsqueeze(3) | cube.unsqueeze(4) | cube.unsqueeze(-5)
torch.tensor(1).unsqueeze(0) | cube.unsqueeze(-4)
b.expand(2, 3) | b.expand(2, -1) | a.expand(2, 2, 3) | a.expand(3, 3) | a.expand(3) | b.expand(-1, 3)
torch.tensor(2.0).expand(3) | b.expand((4, 3))
torch.tensor([1]).expand(0) | b.expand(2, 4) | torch.tensor([[1], [2]]).expand(-1, 3)
cube.sum() | cube.sum(0) | cube.sum(-1) | cube.sum((0, 2)) | cube.sum((0, 2), keepdim=True) | cube.sum(3)
cube.sum((0, 0)) | cube.sum(()) | cube.sum(dim=1)
(a > 0).sum() | (a > 0).sum(0) | a.float().sum() | torch.tensor([1, 2], dtype=torch.uint8).sum()
torch.tensor([1], dtype=torch.int32).sum() | cube.sum(-4)
a.sum([0, 1]) | a.sum(1, True) | cube.mean() | a.mean() | a.mean(0) | a.mean((0, 1)) | a.mean(-1, keepdim=True)
a.mean(2) | a.mean(()) | (a > 0).mean()
torch.zeros(0).sum() | torch.zeros(0).mean() | torch.zeros(0, 3).sum(0) | torch.zeros(0, 3).mean(0)
torch.zeros(0, 3).sum(1) | torch.zeros(0, 3).mean(1)
torch.tensor(2.0).sum() | torch.tensor(2.0).sum(0) | torch.tensor(2.0).mean(-1) | torch.tensor(2.0).sum(1)
torch.tensor(2.0).max(0)
a.max() | a.max(0) | a.max(1) | a.max(-1, keepdim=True) | ties.max(1) | a.max(2) | a.amax() | a.amax(0)
a.amax((0, 1)) | a.amax(1, keepdim=True) | a.amax(-3)
a.argmax() | a.argmax(0) | ties.argmax(1) | ties.argmax(1, keepdim=True) | a.argmax(5) | nans.argmax() | nans.max()
nans.max(1) | nans.amax(0) | cube.max(0)
torch.zeros(0).max() | torch.zeros(0).argmax() | torch.zeros(0, 3).max(0) | torch.zeros(0, 3).max(1)
torch.zeros(0, 3).amax(1) | torch.zeros(0, 3).amax(0)
torch.zeros(0, 3).argmax(1) | torch.zeros(0, 3).argmax(0) | a.min() | a.min(0) | ties.min(1) | nans.min() | a.amin(1)
ties.argmin(1) | a.min(7) | (a > 0).max()
(a > 0).any() | (a > 0).all() | (a > 0).any(0) | (a > 0).all(1) | torch.zeros(0).any() | torch.zeros(0).all()
cube.any() | (a > 0).any(1, keepdim=True)
a.var() | a.std() | a.var(0) | a.std(1, keepdim=True) | a.var(unbiased=False) | a.var(0, unbiased=False)
nans + 1 | nans * 0 | nans / nans | nans.relu() | nans.sum() | nans.sqrt() | nans.log() | nans.exp() | nans.abs()
nans > 0 | nans == nans | nans.sum(0)
a.exp() | b.log() | b.sqrt() | a.abs() | a.relu() | cube.exp() | cube.sqrt() | cube.relu() | cube.abs() | cube.log()
(a > 0).exp() | abs(cube - 5)
a.float() | a.long() | a.int() | a.bool() | a.double() | cube.float() | a.to(torch.float32) | a.to("cpu")
cube.to(torch.uint8) | nans.bool()
a.to(7) | a.to("x") | a.to(a.float()) | a.to(dtype=torch.float32) | a.to("cpu", torch.float32) | a.to(torch.int32)
torch.cat([a, a]) | torch.cat((a, b[None]), 0) | torch.cat([a, a], dim=-1) | torch.cat([a, b]) | torch.stack([b, b])
torch.stack([b, b], 1) | torch.stack([a, b])
torch.cat([]) | torch.cat([a, cube[0, :2, :3]]) | torch.cat([a.float(), a]) | torch.stack([b, b], dim=-1)
torch.cat([a, a], 2) | torch.stack([])
torch.where(a > 0, a, b) | torch.where(a > 0, a, 0.0) | torch.where(a > 0, 1.0, 0.0) | torch.exp(a) | torch.log(b)
torch.sqrt(b) | torch.abs(a)
torch.matmul(a, b) | torch.sum(a) | torch.sum(a, 0) | torch.mean(a) | torch.sum(a, dim=1, keepdim=True)
torch.argmax(a, 1) | torch.max(a, 1)
torch.maximum(a, b) | torch.minimum(a, b) | torch.max(a, a * 2) | torch.max(a) | torch.flatten(cube, 1)
torch.relu(a)
torch.allclose(a, a + 1e-9) | torch.equal(a, a) | torch.isnan(nans) | torch.isfinite(nans) | torch.is_tensor(a)
a.item() | torch.tensor([[2.5]]).item() | torch.tensor(3).item() | torch.tensor(True).item() | a.tolist()
cube.tolist() | torch.tensor(1).tolist()
bool(torch.tensor([0.0])) | bool(a) | len(a) | len(torch.tensor(1)) | int(torch.tensor(2.7))
float(torch.tensor([2])) | int(a)
[1, 2, 3][torch.tensor(1)] | [1, 2, 3][torch.tensor(1.0)] | list(b) | list(torch.tensor(1)) | tuple(a.shape) | a.ndim
a.dim() | a.numel() | a.size(0) | tuple(a.size())
a.size(-1) | a.size(2) | a.is_leaf | a.requires_grad
a in [a] | hash(a) == hash(a) | a.shape[0] | a.shape == (2, 3) | x, y = a.shape; y = y | y = a.numpy(); y = y.sum()
np.asarray(a).sum() == 6.0
a.sigmoid() | a.tanh() | a.erf() | a.expm1() | cube.sigmoid() | torch.sigmoid(a) | torch.tanh(nans) | nans.erf()
a.clamp(-1, 2) | a.clamp(min=0) | a.clamp(max=1.5) | a.clamp() | cube.clamp(3, 7) | cube.clamp(min=2.5)
nans.clamp(-1, 1)
torch.clamp(a, 0, 1) | a.clip(0, 1) | a.floor() | a.ceil() | (a * 1.25).round() | a.sign() | a.square() | b.rsqrt()
a.softmax(1) | a.softmax(dim=0) | a.log_softmax(-1) | torch.softmax(a, 2) | a.softmax(3)
torch.log_softmax(a, dim=1)
y = a * 1; y.relu_(); y.sigmoid_(); y.tanh_(); y.clamp_(0.1, 0.6) | torch.relu_(a * 1) | (a * 2).floor_()
a.eq(b) | a.ne(a) | a.lt(b) | a.le(1) | a.gt(0) | a.ge(b) | torch.eq(a, a) | a.eq(cube)
cube.split(2) | cube.split(2, 1) | cube.split(2, dim=-1) | cube.split([1, 3], 2) | cube.split([1, 1], 2)
cube.split(5, 2) | torch.split(a, 2, dim=1) | a.split(-1) | torch.zeros(0, 3).split(2) | cube.split(1, 3)
cube.split(0)
cube.chunk(2, 1) | cube.chunk(3, 2) | cube.chunk(5, 2) | torch.chunk(a, 2, dim=1) | cube.chunk(0)
cube.chunk(2, dim=-2)
cube.unbind() | cube.unbind(1) | torch.unbind(a, dim=-1) | torch.tensor(1).unbind() | cube.narrow(1, 1, 2)
cube.narrow(2, 3, 2) | torch.narrow(cube, 0, -1, 1) | cube.narrow(2, 4, 0) | cube.narrow(2, -5, 1)
b.expand_as(a) | a.view_as(a.T) | a.reshape_as(a.T) | b.expand_as(cube) | cube.swapaxes(0, 2)
torch.swapaxes(a, 0, -1)
cube.swapdims(0, 1) | cube.movedim(0, 2) | cube.movedim(-1, 0) | cube.flip(0) | cube.flip((1, 2)) | cube.flip(-1, 0)
cube.unflatten(2, (2, 2)) | cube.unflatten(1, (-1, 1)) | cube.unflatten(1, (2, 2)) | torch.flip(a, [1])
b.repeat(2) | b.repeat(2, 3) | a.repeat(2, 1, 2) | a.repeat(2) | a.repeat(0, 1) | a.repeat((1, 2))
torch.tensor(1).repeat(3)
a.bmm(a) | a[None].bmm(a.T[None]) | torch.bmm(cube, cube.transpose(1, 2)) | a.mm(a.T) | torch.mm(a, b) | a.mm(a)
cube.bmm(cube[:1].transpose(1, 2))
a.topk(2) | a.topk(1, 0) | a.topk(2, dim=1, largest=False) | a.topk(4) | torch.topk(a, 2) | a.topk(2, 1, True, True)
a.sort() | a.sort(0, descending=True) | a.sort(1, True) | a.argsort() | a.argsort(0)
cube.sort(-1, descending=True) | nans.sort(1) | nans.sort(1, descending=True)
ties.sort(dim=1, stable=True) | ties.sort(dim=1, descending=True, stable=True) | torch.sort(a) | torch.argsort(a, 1)
a.gather(1, torch.tensor([[0, 2], [1, 1]])) | a.gather(0, torch.tensor([[1, 0, 0]])) | a.gather(1, b)
a.masked_fill(a > 0, 7) | a.masked_fill(b > 1, -1.5) | a.masked_fill(a, 1) | cube.masked_fill(cube > 3, 0)
a.prod() | a.prod(0) | a.prod(1, keepdim=True) | cube.prod(-1) | torch.tensor([2, 3]).prod() | torch.tensor([]).prod()
a.sum(axis=1) | a.mean(axis=0, keepdims=True) | a.sum(axis=(0, 1)) | a.max(axis=1) | a.argmax(axis=0)
a.sum(0, keepdims=True)
a.new_zeros(2, 3) | a.new_ones((2,)) | cube.new_full((2,), 3) | a.new_tensor([1, 2])
cube.new_zeros(2, dtype=torch.float32)
tuple(a.new_empty([2, 1]).shape) | a.type_as(cube) | a.type(torch.float32) | a.cpu() | a.is_contiguous() | a.nelement()
a.ndimension() | a.is_floating_point() | cube.is_floating_point() | a.is_cuda | a.device.type
torch.device("cuda:1").index | torch.device("cuda:1").type | torch.device("gpu") | a.to(torch.device("cpu"))
str(torch.device("cpu"))
a.to(device="cpu", dtype=torch.float32) | a.to("cpu", non_blocking=True) | a.to(b.device)
torch.zeros(2, device="cpu") | torch.ones([2, 1], dtype=torch.float64, device=torch.device("cpu"))
torch.arange(3, device="cpu")
torch.full((2,), 1.5, device="cpu") | torch.tensor([1.0], device="cpu") | tuple(torch.rand_like(a).shape)
tuple(torch.randn([2, 1], dtype=torch.float64, device="cpu").shape) | torch.randn_like(b).dtype == b.dtype
torch.bernoulli(torch.tensor([0.0, 1.0])) | torch.concat([a, a]) | isinstance(a.shape, torch.Size)
torch.tensor([1.0], dtype=torch.float).dtype == torch.float32 | torch.tensor([1], dtype=torch.long)
torch.autograd.Variable(a).is_leaf | torch.autograd.Variable(a, requires_grad=True).requires_grad
torch.nn.functional.interpolate(cube[None].float(), scale_factor=2)
torch.Tensor([1, 2.5]) | torch.Tensor((1, 2)) | torch.Tensor([[1, 2], [3, 4]]) | tuple(torch.Tensor(2, 3).shape)
torch.Tensor("a") | torch.Tensor(2, 3).dtype == torch.float32 | torch.Tensor(2.5) | torch.Tensor([[1, 2], [3]])
torch.Tensor(torch.tensor([1.0, 2.0])) | tuple(torch.Tensor().shape) | torch.Tensor([]) | torch.Tensor(-1)
torch.einsum("ij->ji", a) | torch.einsum("ij->", a) | torch.einsum("ij->i", a) | torch.einsum("ij,kj->ik", a, a)
torch.einsum("ij,j->i", a, b) | torch.einsum("ij,ij->ij", a, a) | torch.einsum("i,j->ji", b, b)
torch.einsum("i,i->", b, b)
torch.einsum("bij,bkj->bki", cube, cube) | torch.einsum("bij,bkj->b", cube, cube) | torch.einsum("ij,jk->ik", a, a)
torch.einsum("ijk->ij", a) | torch.einsum("ij->k", a)
""".strip()


def programs(table):
    # A line holds programs separated by " | "; "(a < 0) | (b > 1)" needs that operator itself.
    table = table.replace("(a < 0) | (b > 1)", "(a < 0).__or__(b > 1)").replace("cube | 8", "cube.__or__(8)")
    return [p.strip() for line in table.splitlines() for p in line.split(" | ")]


@pytest.mark.parametrize("program", programs(VALUES))
def test_same_value_or_an_error_from_both(program):
    with np.errstate(all="ignore"):
        check(program)


GRADIENTS = """
a + b | a - b | b - a | a * b | a / b | a ** 2 | a ** 3 | b ** a | 2 ** b | a ** 0 | a ** -1 | b ** 0.5 | -a | 1 - a
3 / a
abs(a) | a * a | a + a | a[:, :2] * b[1:] | (a + a[:, None]) * b | a @ b | a @ a.T | b @ b | b @ a.T | a[None] @ a.T
a[:, None] @ a[..., None] | a[0] | a[-1, 2] | a[:, 1:] | a[..., 0] | a[:, None, ::2] | a[[0, 1, 0]] | a[a > 0]
a[:, [2, 0, 0]]
a[torch.tensor([1, 1])] | a[torch.tensor(1)] | a[[0, 1], [2, 2]] | a[[0, 0], [2, 2]] | a[()] | a[0:0].sum()
a[None, ..., None]
a[0, [1, 1, 0]] | a[[True, False]] | b[torch.tensor([[0, 1], [1, 1]])] | a[:, torch.tensor([], dtype=torch.int64)]
a.reshape(3, 2) * 2 | a.view(-1) * 2 | a.permute(1, 0) * b[:, None] | a.transpose(0, 1) @ a | a.T * 2
a.flatten() ** 2 | a.unsqueeze(0).squeeze(0) * b | b.expand(4, 3) * 2 | b.expand(2, 3) * a | a[:1].expand(3, -1) * b
a.sum() | a.sum(0) | a.sum(-1, keepdim=True) * a | a.sum((0, 1)) | a.mean() | a.mean(0) * b
a.mean((0, 1), keepdim=True) * a
a.var() | a.var(0) | a.std(1) | a.std(1, unbiased=False) | a.max() | a.max(0)[0] | ties.max(1).values
ties.max(1, keepdim=True)[0]
ties.amax(1) | ties.amax() | ties.amin(0) | ties.min(1)[0] | ties.min() | ties.amax((0, 1), keepdim=True) * a
nans.amax(1) | nans.max(1)[0] | nans.max() | nans.relu() | nans.sqrt() | nans.log() | nans.exp() | nans * nans
nans ** 2
nans / nans | nans ** 0 | nans ** -1 | nans.sum() | nans.mean(0) | 1 / nans | nans.amin(0)
a.exp() | b.log() | b.sqrt() | a.abs() | a.relu() | ties.relu() | ties.abs() | ties.sqrt() | a.exp().log() * b
a.float().double() | a.to(torch.float32).to(torch.float64) * b | a.clone() * 2 | a.detach() * a | a.data * b
a + a.detach()
torch.cat([a, a * 2]) | torch.cat([a, b[None]]) * b | torch.stack([b, b * b], 1) | torch.stack([b, b])
torch.where(a > 0, a, b) | torch.where(a > 0, a, 0.0) | torch.where(a > 0, 1.0, b) | torch.maximum(a, b)
torch.minimum(a, b * 1.0)
torch.maximum(ties, ties.detach()) | torch.max(ties, ties * 1) | torch.minimum(ties, torch.zeros_like(ties))
torch.max(nans, a)
y = a * 2; y += b; y = y * y | y = a * 2; y *= b; y = y + a | y = a + 0; y[0] = b
y = a + 0; y[:, 1] = b[:2]; y = y * y
y = a + 0; y[a > 0] = 7 | y = a + 0; y[a > 0] = b[0] | y = a + 0; y[[0, 1], [1, 2]] = b[:2] * 2; y = y * a
y = a + 0; y[1, 2] = b[0] * b[1]
y = torch.zeros(2, 3, dtype=torch.float64); y[1] = b; y = y * a
y = torch.zeros(2, 3, dtype=torch.float64); y += a; y = y * b
y = torch.zeros(2, 3, dtype=torch.float64); y.copy_(b); y[0] = 0; y = y * y | y = a * 1; y[...] = b; y = y * a
y = a * 1; y[0:0] = 5.0
y = a * 1; y.mul_(3).add_(b).sub_(1); y = y * 2 | y = a * 1; y.zero_(); y = y + a | y = a * 1; y.fill_(3.0); y = y * a
y = a * 1; y /= b
y = a * 1; y.div_(b); y -= a | y = a * 1; z = y + 0; y += 1; y = y * z
y = a * a; y = y.clone(); y[1] = y[0] + b
y = a * 1; y.retain_grad(); y.register_hook(lambda g: g * 2); y = y * b
y = a * 1; y.register_hook(lambda g: None); y = y * 3
y = a * 1; h = y.register_hook(lambda g: g * 2); h.remove(); y = y * b | a.register_hook(lambda g: g * 3); y = a * a
a.register_hook(lambda g: g * 3); a.register_hook(lambda g: g + 1); y = a * a
y = a * 1; y.register_hook(lambda g: g * 2); y = y + y
a.requires_grad_(False); y = a * b | b.requires_grad = False; y = a * b | y = a.detach().requires_grad_(); y = y * b
with torch.no_grad(): a.mul_(2); y = a * b | with torch.no_grad(): c = a * 2; y = c * b | a.data.mul_(2); y = a * a
a.grad = torch.ones_like(a); y = a * 2 | a.sum().backward(); y = a * a | a.sum().backward(); a.grad.zero_(); y = a * b
a += 1; y = a | a[0] = 1; y = a | a.zero_(); y = a | y = a * 1; y += cube | y = a * 1; y.fill_(1.0); y[5] = 1
y = a * 1; y[0] = a | y = b * 1; y += a
y = cube * 1; y += 0.5 | y = cube * 1; y /= 2 | y = (a > 0); y += 1
y = cube * 1; y += cube.to(torch.int32); y = y * a[0, 0]
y = a * 2; z = y.exp(); z += 1; y = z | y = a * 2; z = y * y; y += 1; y = z | y = a * 2; z = y.relu(); z *= 2; y = z
y = a.sqrt(); y += 1; y = y
cube.requires_grad_() | a.detach().backward() | a.detach().register_hook(print) | (a * 1).requires_grad_(False)
a.detach().retain_grad()
y = a * 1; y.requires_grad = False | a.numpy() | np.asarray(a) | y = (a * a).sum(); y.backward(); y.backward()
cube.mean()
a.sigmoid() | a.tanh() * b | a.erf() | a.expm1() | a.clamp(-1, 2) * b | ties.clamp(1, 3) | a.clamp(min=0.5)
nans.clamp(-1, 1)
a.softmax(1) | a.log_softmax(0) * b | a.square() | (a * a + 1).rsqrt() | nans.sigmoid() | nans.tanh()
y = a * 1; y.sigmoid_(); y = y * b | y = a * 1; y.relu_(); y = y * 2 | y = a * 1; y.clamp_(0, 1); y = y * b
y = a * 1; y.tanh_(); y = y * y | a.relu_(); y = a | y = a * a; z = y.sigmoid(); y.relu_(); y = z
y = a.split(2, 1); y = y[0] * b[:2] + y[1] | y = a.chunk(3, 1); y = y[0] * y[2] | y = a.unbind(1); y = y[0] * y[1]
a.narrow(1, 1, 2) * b[:2] | b.expand_as(a) * a | a.view_as(a.T) * 2 | b.repeat(2, 2) * 2 | a.repeat(2, 1, 1) * a
a.swapaxes(0, 1) * 3 | a.movedim(0, 1) @ a | a.flip(0, 1) * a | a.unflatten(1, (3, 1)) * 2
a[None].bmm(a.T[None]) | a.mm(a.T)
a.topk(2).values * b[:2] | a.sort(1, True)[0] * b | a.gather(1, torch.tensor([[0, 0], [1, 2]]))
a.masked_fill(a > 0, 2) * b
a.prod() | a.prod(0) * b | a.prod(1, keepdim=True) * a | a.mean(axis=1, keepdims=True) * b | a.sum(axis=0)
y = a.view(2, 3, 1).permute(0, 2, 1).reshape(3, 2); y = y * 2
y = a * 1; y.div_(0.8).mul_(torch.ones(2, 1, dtype=torch.float64)); y = y * a | torch.where(a.eq(b), a, a * b)
y = a.new_zeros(2, 3); y = y + a | a.type_as(a.float()).double() * b
torch.nn.functional.interpolate(a[None, None], scale_factor=2.5)
torch.nn.functional.interpolate(a[None, None], size=(3, 7))
torch.einsum("ij,kj->ik", a, a) | torch.einsum("ij,j->i", a, b) | torch.einsum("ij,ij->", a, a)
torch.einsum("i,j->ji", b, b)
torch.einsum("ij,j->j", a, b) | torch.einsum("ij->j", a) * b
""".strip()


@pytest.mark.parametrize("program", programs(GRADIENTS))
def test_same_gradients_or_an_error_from_both(program):
    with np.errstate(all="ignore"):
        check(program, grad=True)
