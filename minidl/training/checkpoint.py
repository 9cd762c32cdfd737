"""Checkpoints: everything that training needs to go on bit for bit, in one safetensors file.

    model.<name>             parameters and buffers, as in `model.state_dict()`
    optimizer.<index>.<key>  the optimiser's arrays, e.g. optimizer.3.momentum_buffer
    metadata "minidl"        one JSON object with the rest

Nothing is pickled, every array and the header carry a checksum, and a file is either whole or not there.
"""

import json
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minidl
from minidl.interop import load_file, save_file

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = 1
_KEY = "minidl"


@dataclass
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        model: name -> array.
        optimizer: the optimiser's `state_dict()`, with arrays in place of Tensors; None where none was saved.
        scheduler, loader: their `state_dict()`, or None.
        rng: the state of minidl's global generator.
        epoch: finished epochs.
        step: optimiser steps done.
        history: one dict of metrics per finished epoch.
        unfinished: running sums of the epoch that was interrupted, None at the end of an epoch.
        configuration: what the run was started with.
        version: the minidl that wrote the file.
    """

    model: dict[str, np.ndarray]
    optimizer: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None
    loader: dict[str, Any] | None = None
    rng: dict[str, Any] | None = None
    epoch: int = 0
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    unfinished: dict[str, Any] | None = None
    configuration: dict[str, Any] = field(default_factory=dict)
    version: str = ""

    def restore(self, model: Any = None, optimizer: Any = None, scheduler: Any = None, loader: Any = None) -> None:
        """Load the stored states into the given objects, and the global generator's state where an optimiser is given.

        Raises:
            ValueError: the file holds no state for an object that was given.
            KeyError, RuntimeError, ValueError: what the objects themselves raise for a state that does not fit.
        """
        for name, wanted in {"optimizer": optimizer, "scheduler": scheduler, "loader": loader}.items():
            if wanted is not None and getattr(self, name) is None:
                raise ValueError(f"restore: the checkpoint holds no {name} state")
        if model is not None:
            model.load_state_dict({name: minidl.from_numpy(array) for name, array in self.model.items()})
        if optimizer is not None:
            state = {
                index: {k: minidl.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in values.items()}
                for index, values in self.optimizer["state"].items()
            }
            optimizer.load_state_dict({**self.optimizer, "state": state})
            if self.rng is not None:
                minidl.set_rng_state(self.rng)
        if scheduler is not None:
            scheduler.load_state_dict(self.scheduler)
        if loader is not None:
            loader.load_state_dict(self.loader)


def save_checkpoint(
    path: str | os.PathLike,
    *,
    model: Any,
    optimizer: Any = None,
    scheduler: Any = None,
    loader: Any = None,
    epoch: int = 0,
    step: int = 0,
    history: list[dict[str, Any]] | None = None,
    unfinished: dict[str, Any] | None = None,
    configuration: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint, atomically: the previous file of that name stays until the new one is complete.

    Args:
        path: the file to write.
        model, optimizer, scheduler, loader: objects with a `state_dict()`; all but the model may be None.
        epoch, step, history, unfinished, configuration: see `Checkpoint`; JSON values only.

    Raises:
        TypeError: something that is neither an array nor a JSON value; the previous file is untouched.
        OSError: the file cannot be written; the previous file is untouched.
    """
    tensors = {f"model.{name}": _array(value) for name, value in model.state_dict().items()}
    position = None if loader is None else loader.state_dict()  # first: it may draw the loader's seed
    rest: dict[str, Any] = {
        "format": FORMAT,
        "version": minidl.__version__,
        "epoch": epoch,
        "step": step,
        "history": list(history or []),
        "unfinished": unfinished,
        "configuration": configuration or {},
        "rng": minidl.get_rng_state(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "loader": position,
        "optimizer": None,
    }
    if optimizer is not None:
        state = optimizer.state_dict()
        rest["optimizer"] = {**state, "state": {}}
        for index, values in state["state"].items():
            arrays = {key: _array(value) for key, value in values.items() if _is_array(value)}
            tensors |= {f"optimizer.{index}.{key}": array for key, array in arrays.items()}
            rest["optimizer"]["state"][str(index)] = {k: v for k, v in values.items() if k not in arrays}
    try:
        text = json.dumps(rest, default=_plain)
    except (TypeError, ValueError) as error:
        raise TypeError(f"save_checkpoint: {error}") from None
    save_file(tensors, path, {_KEY: text})


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint; no code from the file is run.

    Raises:
        ValueError: the file is damaged, or not a checkpoint of minidl.
        OSError: the file cannot be read (FileNotFoundError where there is none).
    """
    tensors, metadata = load_file(path, require_checksums=True)
    try:
        return _parsed(tensors, json.loads(metadata[_KEY]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        what = f"no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"load_checkpoint: {os.fspath(path)} is not a checkpoint of minidl: {what}") from None


_KINDS = {
    "epoch": int,
    "step": int,
    "history": list,
    "unfinished": dict | None,
    "configuration": dict,
    "rng": dict | None,
    "scheduler": dict | None,
    "loader": dict | None,
    "optimizer": dict | None,
    "version": str,
}


def _parsed(tensors: dict[str, np.ndarray], rest: dict[str, Any]) -> Checkpoint:
    if rest["format"] != FORMAT:
        raise ValueError(f"its format is {rest['format']!r}, this version of minidl reads {FORMAT}")
    for name, kind in _KINDS.items():
        if not isinstance(rest[name], kind):
            raise ValueError(f"{name!r} is a {type(rest[name]).__name__}")
    fields = {name: rest[name] for name in _KINDS}
    model = {name.removeprefix("model."): array for name, array in tensors.items() if name.startswith("model.")}
    if fields["optimizer"] is not None:
        state = {int(index): dict(values) for index, values in fields["optimizer"]["state"].items()}
        for name, array in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = array
        fields["optimizer"] = {**fields["optimizer"], "state": dict(sorted(state.items()))}
    return Checkpoint(model=model, **fields)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | minidl.Tensor)


def _array(value: Any) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else value.detach().numpy()


def _plain(value: Any) -> Any:
    """Turn NumPy's numbers into Python's for JSON (exact); refuse the rest by name."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r:.80} ({type(value).__name__}) is neither an array nor a JSON value")
