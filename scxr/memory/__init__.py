"""What a training step keeps in memory, counted without a GPU.

    >>> count("barlow", backbone="resnet50", batch=256).fits(22)    # doctest: +SKIP
    246

GB is 10^9 bytes throughout, as on a price list. A card's chips come in GiB (2^30 bytes, 7 % more);
the difference is about what the CUDA context, cuDNN's workspaces and the gaps of PyTorch's
allocator take. An L4 is sold with 24 GB, keeps part of it for error correction, and shows 22 GiB:
count it as 22 GB.
"""

from scxr.memory.counting import CARDS, MemoryCount, advice, count, count_settings
from scxr.memory.grid import grid
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
]
