"""`python -m scxr.memory`: count `grid()` anew and write the table that `shipped_grid` reads."""

from __future__ import annotations

from scxr.memory.grid import SHIPPED, grid

if __name__ == "__main__":
    grid().to_csv(SHIPPED, index=False)
