"""From a folder of radiographs (or the phantom) to a store, a batch and an episode."""

from scxr.data.store import RadiographStore, StoreWriter

__all__ = ["RadiographStore", "StoreWriter"]
