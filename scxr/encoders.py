"""The networks that survive pretraining: pictures in, features out.

An `Encoder` takes pictures in [0, 1] and normalises them inside, with constants that are saved
with its weights. Pretraining, evaluation, monitoring and Grad-CAM therefore cannot disagree about
normalisation, and no augmentation can run after it by mistake.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.client import HTTPException
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scxr.errors import InputError, first_line
from scxr.fetching import Unavailable, patience
from scxr.seeds import seed_for
from scxr.vit import VITS, VisionTransformer

RESNETS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048}
BACKBONES = (*RESNETS, *VITS)
STEMS = ("imagenet", "no-maxpool")


class Encoder(nn.Module):
    """A one-channel stem, four stages, and no classifier: a ResNet (He et al. 2015,
    arXiv:1512.03385), or a Vision Transformer in the same shape (`scxr.vit`).

    Attributes:
        config: what `build_encoder` needs to make the same network again.
        mean, std: the normalisation constants, scalars.
        trunk: torchvision's ResNet, or a `VisionTransformer`; its stages are `trunk.layer1` to
            `trunk.layer4`, what comes before them is the stem.
        feature_dim: width of the pooled features.
        image_size: height and width of the pictures it is meant to see, pixels.
        checkpointing: keep only what passes between the stages' blocks for the backward pass, and
            compute the rest again there (`recomputed`). A way to train, no part of the network:
            outputs, gradients and saved weights are the same with it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, *, image_size: int, mean: float, std: float, stem: str) -> None:
        super().__init__()
        if name not in BACKBONES:
            raise InputError(f"Unknown backbone {name!r}: choose from {', '.join(BACKBONES)}.")
        self.config: dict[str, Any] = {
            "name": name,
            "image_size": image_size,
            "mean": mean,
            "std": std,
            "stem": stem,
        }
        self.name, self.image_size = name, image_size
        self.feature_dim = VITS[name][0] if name in VITS else RESNETS[name]
        self.checkpointing = False
        self.trunk: Any = (
            VisionTransformer(name, image_size=image_size, stem=stem)
            if name in VITS
            else _resnet(name, stem)
        )
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> the same, centred and scaled with the encoder's constants."""
        return (images - self.mean) / self.std

    def stages(self, images: Tensor, *, normalised: bool = False) -> list[Tensor]:
        """Feature maps after the four stages, shallow to deep, each (B, C, h, w).

        Args:
            images: (B, 1, H, W), in [0, 1] unless `normalised`.
        """
        x = images if normalised else self.normalise(images)
        x = self.run(self.stem, x)
        maps = []
        for stage in self.residual_stages():
            if self.recomputes:
                for block in stage:
                    x = self.run(block, x)
            else:  # as one module, so that hooks on a stage see its map
                x = stage(x)
            maps.append(x)
        return maps

    def stem_parts(self) -> list[nn.Module]:
        """What comes before the stages, in order."""
        return list(takewhile(lambda m: m is not self.trunk.layer1, self.trunk.children()))

    def residual_stages(self) -> list[nn.Sequential]:
        """The four stages, shallow to deep; each is a sequence of blocks with shortcuts."""
        trunk = self.trunk
        return [trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4]

    @property
    def recomputes(self) -> bool:
        """Whether a pass at this moment would be checkpointed."""
        return self.checkpointing and torch.is_grad_enabled()

    def run(self, part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`part(x)`, for a part of this network; checkpointed where the encoder is."""
        return recomputed(part, x, owner=self) if self.recomputes else part(x)

    def stem(self, x: Tensor) -> Tensor:
        """Normalised pictures (B, 1, H, W) -> what enters the first stage."""
        for part in self.stem_parts():
            x = part(x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> (B, feature_dim): the last stage, averaged over positions."""
        return self.stages(images)[-1].mean(dim=(2, 3))


def _resnet(name: str, stem: str) -> nn.Module:
    """torchvision's ResNet for one channel, without a classifier."""
    if stem not in STEMS:
        raise InputError(f"Unknown stem {stem!r}: choose from {', '.join(STEMS)}.")
    trunk = getattr(torchvision.models, name)(weights=None)
    trunk.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")
    if stem == "no-maxpool":  # keeps small pictures from shrinking to 2 x 2
        trunk.maxpool = nn.Identity()
    trunk.fc = nn.Identity()
    return trunk


def recomputed(part: Callable[[Tensor], Tensor], x: Tensor, *, owner: nn.Module) -> Tensor:
    """`part(x)`, of which only `x` is kept: the backward pass computes the rest a second time.

    Activation checkpointing (Chen et al. 2016, arXiv:1604.06174). A second pass would move batch
    norm's running statistics a second time, so it works on copies of the buffers.

    Args:
        owner: the module whose buffers `part` may change.
    """
    return checkpoint(
        part,
        x,
        use_reentrant=False,
        preserve_rng_state=False,  # nothing in these networks is random
        context_fn=lambda: (nullcontext(), _buffers_untouched(owner)),
    )


@contextmanager
def _buffers_untouched(module: nn.Module) -> Iterator[None]:
    """Inside, `module` works on copies of its buffers; afterwards it has its own again."""
    own = [(part, dict(part._buffers)) for part in module.modules() if part._buffers]
    for part, buffers in own:
        part._buffers.update({k: None if b is None else b.clone() for k, b in buffers.items()})
    try:
        yield
    finally:
        for part, buffers in own:
            part._buffers.update(buffers)


def build_encoder(
    name: str,
    *,
    image_size: int,
    mean: float,
    std: float,
    stem: str = "imagenet",
    seed: int = 0,
) -> Encoder:
    """A freshly initialised encoder; the same `seed` gives the same weights.

    Args:
        name: one of `BACKBONES`.
        image_size: height and width of its pictures, pixels.
        mean, std: of the pixels it will see, in [0, 1]; they become part of the network.
        stem: of a ResNet, "imagenet" (stride 4) or "no-maxpool" (stride 2, for small pictures); of
            a Vision Transformer, see `scxr.vit.patch_size`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "encoder"))
        return Encoder(name, image_size=image_size, mean=mean, std=std, stem=stem)


def imagenet_encoder(
    name: str, *, image_size: int, mean: float, std: float, weights: Path | None = None
) -> Encoder:
    """ImageNet weights (torchvision's IMAGENET1K_V1), the three input channels summed into one.

    Summing the filters over colour is what a grey picture copied into three channels computes
    (timm's `adapt_input_conv` does the same).

    Args:
        weights: a file with torchvision's state dict (.pth or .safetensors); fetched when None.

    Raises:
        InputError: the weights cannot be fetched, or the file does not fit the backbone.
    """
    if name in VITS:
        raise InputError(
            f"There are no ImageNet weights for {name}, which has no class token and positions of "
            f"its own: choose from {', '.join(RESNETS)}."
        )
    encoder = build_encoder(name, image_size=image_size, mean=mean, std=std)
    state = _imagenet_state(name) if weights is None else read_weights(weights)
    try:
        state = {k: v for k, v in state.items() if not k.startswith("fc.")}
        state["conv1.weight"] = state["conv1.weight"].sum(dim=1, keepdim=True)
        encoder.trunk.load_state_dict(state)
    except (AttributeError, IndexError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{weights} does not hold the weights of torchvision's {name}: use the state dict of "
            f"that very network."
        ) from error
    return encoder


def _imagenet_state(name: str) -> dict[str, Tensor]:
    try:
        weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        with patience():
            return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError, HTTPException) as error:
        raise Unavailable(
            f"The ImageNet weights of {name} cannot be fetched from here ({error}): leave this "
            f"init out, or give a downloaded file with --imagenet-weights FILE."
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors from a .safetensors or .pth file; never runs code that a file might carry."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no weights file at {path}.")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own message advises to run the file's code
        raise InputError(
            f"{path} cannot be read as weights: it is damaged or holds more than tensors, and such "
            f"a file could run code; save a network's state_dict() instead."
        ) from error
    except Exception as error:
        raise InputError(f"{path} cannot be read as weights: {first_line(error)}.") from error


def read_encoder(path: Path) -> Encoder:
    """The encoder saved in `path` (encoder.safetensors of a run), frozen and in eval mode."""
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {})["config"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        encoder = build_encoder(**config)
        encoder.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} is not an encoder that scxr saved ({error}); give a finished run's folder."
        ) from error
    return freeze(encoder)


def freeze(encoder: Encoder) -> Encoder:
    """Evaluation mode, no gradients: batch norm uses the statistics that training left."""
    return encoder.eval().requires_grad_(False)


def resize(images: Tensor, size: int) -> Tensor:
    """(B, 1, H, W) -> (B, 1, size, size), antialiased bilinear; unchanged where it fits."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
