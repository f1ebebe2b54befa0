"""What a training step keeps in memory, counted without a GPU.

    >>> count("barlow", backbone="resnet50", batch=256).fits(22)    # doctest: +SKIP
    243

GB is 10^9 bytes throughout, as in the series. A card's chips come in GiB (2^30 bytes, 7 % more);
the difference leaves room for what is not counted: the CUDA context, cuDNN's workspaces and the
gaps of PyTorch's allocator. An L4 is sold with 24 GB, keeps part of it for error correction, and
shows 22 GiB: count it as 22 GB.
"""

from scxr.memory.counting import CARDS, MemoryCount, advice, count, count_settings
from scxr.memory.grid import grid, shipped_grid
from scxr.memory.series import series_checkpointed, series_table

__all__ = [
    "CARDS",
    "MemoryCount",
    "advice",
    "count",
    "count_settings",
    "grid",
    "series_checkpointed",
    "series_table",
    "shipped_grid",
]
