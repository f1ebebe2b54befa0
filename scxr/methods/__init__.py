"""Pretraining methods by name: one file a method, readable from top to bottom.

A new method is a file with a `Method` in it and a line here; the loop, the command line and the
tests find it by its name.
"""

from scxr.methods.barlow import BarlowTwins
from scxr.methods.base import Method, Settings
from scxr.methods.dino import DINO
from scxr.methods.moco import MoCo
from scxr.methods.spark import SparK
from scxr.methods.vicreg import VICReg

METHODS: dict[str, type[Method]] = {m.name: m for m in (MoCo, BarlowTwins, VICReg, DINO, SparK)}

__all__ = ["METHODS", "Method", "Settings"]
