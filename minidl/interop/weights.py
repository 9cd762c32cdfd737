"""From a file that somebody published to a network's parameters: wrappers, prefixes and names of old files."""

import os
from collections.abc import Mapping
from typing import Any

from minidl.interop.files import load
from minidl.nn.module import IncompatibleKeys, Module
from minidl.tensor import Tensor

__all__ = ["load_weights", "state_dict_of"]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # where training scripts put the state dict
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile


def load_weights(
    model: Module,
    path: str | os.PathLike,
    strict: bool = True,
    *,
    key: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> IncompatibleKeys:
    """Load a file's weights into a network: {"state_dict": ...} is unwrapped, "module." taken off, dtypes converted.

    A BN counter `num_batches_tracked` that the file lacks (PyTorch before 0.4.1), or the network, is passed over.

    Args:
        model: the network; nothing in it is changed unless everything fits.
        path: a .safetensors, .npz, .pth, .pt or .th file.
        strict: names must agree; otherwise those that both have are loaded.
        key: the entry of the file that holds the state dict, where it is not to be guessed.
        rename: beginning of a name in the file -> beginning in the network, such as {"linear.": "fc."}.

    Returns:
        (missing_keys, unexpected_keys); both are empty with `strict`.

    Raises:
        RuntimeError: names or shapes do not agree.
        ValueError, OSError: what `minidl.load` raises; or the file holds no state dict.
    """
    try:
        state = state_dict_of(load(path), key)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith("load") else f"load_weights: {os.fspath(path)}: {text}") from None
    for old, new in (rename or {}).items():
        found = {new + name.removeprefix(old) if name.startswith(old) else name: v for name, v in state.items()}
        if len(found) != len(state):
            raise ValueError(f"load_weights: rename {old!r} to {new!r} gives two entries one name")
        state = found
    own = model.state_dict()
    counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    state = {name: v for name, v in state.items() if name in own or not name.endswith("num_batches_tracked")}
    return model.load_state_dict({**counters, **state} if strict else state, strict)


def state_dict_of(loaded: Any, key: str | None = None) -> dict[str, Tensor]:
    """Return the state dict in what `minidl.load` returned, without the wrappers that training scripts put around it.

    It is `loaded` itself where all its values are Tensors; else its entry "state_dict", "model_state_dict", "model" or
    "net"; else its only entry of that kind. "module." (DataParallel) and "_orig_mod." (torch.compile) are taken off
    where all names begin so.

    Args:
        loaded: what `minidl.load` returned.
        key: the entry that holds the state dict, instead of a guess.

    Raises:
        ValueError: there is none, or several that could be meant; KeyError: no entry `key`.
    """
    if key is not None:
        if not isinstance(loaded, Mapping) or key not in loaded:
            raise KeyError(f"state_dict_of: there is no entry {key!r}; it holds {_contents(loaded)}")
        loaded = {key: loaded[key]}
    state = loaded
    if not _is_state_dict(loaded):
        entries = loaded if isinstance(loaded, Mapping) else {}
        candidates = [name for name, value in entries.items() if _is_state_dict(value)]
        named = [name for name in WRAPPERS if name in candidates]
        if not named and len(candidates) != 1:
            what = "no state dict" if not candidates else "several state dicts (choose one by key)"
            raise ValueError(f"it holds {what}: {_contents(loaded)}")
        state = entries[(named or candidates)[0]]
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(item, Tensor) for name, item in value.items())
    )


def _contents(loaded: Any) -> str:
    if not isinstance(loaded, Mapping):
        return f"a {type(loaded).__name__}"
    shown = [f"{str(name)[:40]}: {type(value).__name__}" for name, value in list(loaded.items())[:8]]
    more = f", and {len(loaded) - 8} more" if len(loaded) > 8 else ""
    return (", ".join(shown) or "nothing") + more
