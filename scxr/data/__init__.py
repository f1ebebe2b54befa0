"""From a folder of radiographs (or the phantom) to a store, a batch and an episode."""

from scxr.data.opening import open_data, phantom_store
from scxr.data.store import RadiographStore, StoreWriter

__all__ = ["RadiographStore", "StoreWriter", "open_data", "phantom_store"]
