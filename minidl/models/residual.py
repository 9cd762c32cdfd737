"""What residual networks share: stages of blocks, and blocks that begin as the identity."""

from collections.abc import Sequence
from typing import Any

from minidl.nn import Bottleneck, Module, ResidualBlock, Sequential, init

__all__ = ["make_stages", "zero_last_norm"]


def make_stages(
    channels: int,
    block: type[ResidualBlock] | type[Bottleneck],
    stages: Sequence[tuple[str, int, int]],
    counts: Sequence[int],
    **options: Any,
) -> list[Sequential]:
    """Build the stages of a network; the first block of a stage has its stride and changes the channels.

    Args:
        channels: of the first stage's input.
        block: the kind of block.
        stages: (output, channels, stride) of each, as the tables list them.
        counts: number of blocks in each.
        options: of every block.
    """
    built = []
    for (_, width, stride), count in zip(stages, counts, strict=True):
        blocks = []
        for i in range(count):
            blocks.append(block(channels, width, stride if i == 0 else 1, **options))
            channels = width * block.expansion
        built.append(Sequential(*blocks))
    return built


def zero_last_norm(module: Module) -> None:
    """Set the last γ of a block to 0: with a shortcut the block begins as the identity (arXiv 1706.02677, 5.1)."""
    if isinstance(module, ResidualBlock):
        init.zeros_(module.bn2.weight)
    elif isinstance(module, Bottleneck):
        init.zeros_(module.bn3.weight)
