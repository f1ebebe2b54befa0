"""Encoders that others published, as rivals of one's own run: what a practitioner would pick today.

- `rad-dino`: RAD-DINO (Perez-Garcia et al. 2024, arXiv:2401.10815), a ViT-B/14 that DINOv2 trained
  on chest X-rays; the class token. huggingface.co/microsoft/rad-dino, through `transformers`.
- `xrv`: TorchXRayVision's DenseNet-121 `densenet121-res224-all` (Cohen et al. 2022,
  arXiv:2111.00595), trained WITH labels on six public data sets; pixels in [-1024, 1024]. If the
  store is one of them (NIH, PadChest, CheXpert, MIMIC-CXR, OpenI, RSNA), it has seen the answers.
- `timm:NAME`: any network of `timm` with pretrained weights, for example `timm:resnet50.a1_in1k` or
  `timm:vit_base_patch14_dinov2.lvd142m`; size, interpolation, mean and std are timm's.

The libraries are optional: `pip install "scxr[public]"`. Weights come from the Hugging Face Hub and
stay in its cache. Without a network, bring them and name them, as in `rad-dino=FOLDER`, `xrv=FILE`
or `timm:NAME=FILE`:

- FOLDER holds config.json, preprocessor_config.json and model.safetensors of the repository;
- FILE is a state dict, .safetensors or .pth. Nothing unpickles a network: TorchXRayVision's own
  .pt files are pickled ones, `torch.save(network.state_dict(), FILE)` makes a FILE of theirs.

Every picture is resized whole to what the encoder was made for; no border is cropped off.
"""

from __future__ import annotations

import json
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from scxr.encoders import read_weights
from scxr.errors import InputError, first_line
from scxr.fetching import hub_file, hub_folder, library, patience, unavailable

RAD_DINO = "microsoft/rad-dino"
XRV = "torchxrayvision/densenet121-res224-all"
KINDS = ("rad-dino", "xrv", "timm:NAME")


class PublicEncoder(nn.Module):
    """Somebody else's network in the shape of an encoder: one grey channel in, features out.

    Attributes:
        name: its row in a table.
        config: what tells it from another network with the same weights.
        image_size: height and width of the pictures it takes, pixels.
        interpolation: how they are resized to that, "bilinear" or "bicubic".
        feature_dim: width of the features.
        mean, std: the published normalisation, (1, C, 1, 1), for pixels in [0, 1].
        network: (B, C, S, S) normalised -> (B, feature_dim).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        image_size: int,
        feature_dim: int,
        mean: list[float],
        std: list[float],
        interpolation: str,
        config: dict[str, Any],
    ) -> None:
        super().__init__()
        self.name, self.network = name, network
        self.image_size, self.feature_dim = image_size, feature_dim
        self.interpolation = interpolation
        self.config = {**config, "interpolation": interpolation}
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) in [0, 1] -> (B, feature_dim); the grey channel is copied to all C."""
        copies = images.expand(-1, self.mean.shape[1], -1, -1)
        return self.network((copies - self.mean) / self.std)


def is_public(init: str) -> bool:
    """Whether `init` ("xrv", "timm:resnet18=FILE", ...) names an encoder of this module."""
    kind = init.partition("=")[0]
    return kind in ("rad-dino", "xrv") or kind.startswith("timm:")


def name_and_path(init: str) -> tuple[str, Path | None]:
    """What comes before the = of an init, and the path behind it, if there is one.

    Raises:
        InputError: nothing behind the =.
    """
    name, named, path = init.partition("=")
    if named and not path:
        raise InputError(f"There is no path behind the = of {init!r}: give one, or leave = out.")
    return name, Path(path).expanduser() if named else None


def public_encoder(init: str) -> PublicEncoder:
    """The encoder that `init` names, frozen and in evaluation mode.

    Args:
        init: "rad-dino", "xrv" or "timm:NAME", each with "=PATH" behind it where the weights are
            brought; see the module.

    Raises:
        Unavailable: the library is missing, or the weights cannot be fetched from here.
        InputError: an unknown name, or files that do not hold that network's weights.
    """
    kind, files = name_and_path(init)
    if kind == "rad-dino":
        return _rad_dino(files)
    if kind == "xrv":
        return _xrv(files)
    if kind.startswith("timm:"):
        return _timm(kind, files)
    raise InputError(f"Unknown encoder {kind!r}: choose from {', '.join(KINDS)}.")


class _ClassToken(nn.Module):
    """`transformers`' DINOv2 as a function: the class token behind the last layer norm."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(pixel_values=images).pooler_output


def _rad_dino(folder: Path | None) -> PublicEncoder:
    transformers = library("transformers", "rad-dino")
    if folder is None:
        names = ("config.json", "preprocessor_config.json", "model.safetensors")
        folder = hub_folder(RAD_DINO, *names, needed_by="rad-dino")
    elif not folder.is_dir():
        raise InputError(f"There is no folder {folder}: give the one with rad-dino's files.")
    try:
        about = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        model, loading = transformers.Dinov2Model.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        absent = set(loading["missing_keys"]) - {"embeddings.mask_token"}  # used in training alone
        if absent:  # the library would draw them at random
            raise ValueError(f"{len(absent)} weights are missing")
        size = int((about.crop_size if about.do_center_crop else about.size)["height"])
        mean, std = list(about.image_mean), list(about.image_std)
        interpolation = {2: "bilinear", 3: "bicubic"}[int(about.resample)]
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{folder} does not hold rad-dino as transformers saves it ({first_line(error)}): it "
            f"needs config.json, preprocessor_config.json and model.safetensors of {RAD_DINO}."
        ) from error
    described = json.loads(model.config.to_json_string(use_diff=False))
    for where_from in ("_name_or_path", "transformers_version"):  # tells no network from another
        described.pop(where_from, None)
    return PublicEncoder(
        "rad-dino",
        _ClassToken(model.float()),
        image_size=size,
        feature_dim=model.config.hidden_size,
        mean=mean,
        std=std,
        interpolation=interpolation,
        config={"transformers": described},
    )


class _PooledDenseNet(nn.Module):
    """The convolutions of a DenseNet, then what TorchXRayVision calls `features2`."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.features(images)).mean(dim=(2, 3))


def _xrv(file: Path | None) -> PublicEncoder:
    xrv = library("torchxrayvision", "xrv")
    if file is None:
        names = ("model.safetensors", "pytorch_model.bin", "model.pt")
        file = hub_file(XRV, *names, needed_by="xrv")
    state = read_weights(file)
    network = xrv.models.DenseNet(weights=None).features
    prefix = "features."
    try:
        kept = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        network.load_state_dict(kept)
    except (AttributeError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{file} does not hold the weights of TorchXRayVision's DenseNet-121: use the state "
            f"dict of that very network."
        ) from error
    return PublicEncoder(
        "xrv",
        _PooledDenseNet(network),
        image_size=224,
        feature_dim=1024,
        mean=[0.5],
        std=[1 / 2048],  # [0, 1] -> [-1024, 1024]
        interpolation="bilinear",
        config={"torchxrayvision": XRV},
    )


def _timm(init: str, file: Path | None) -> PublicEncoder:
    timm = library("timm", init)
    name = init.removeprefix("timm:")
    try:
        published = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        raise InputError(
            f"timm has no weights for a network called {name!r}: timm.list_models(pretrained=True) "
            f"names those it has."
        ) from error
    state = read_weights(file) if file is not None else _timm_weights(init, published)
    try:
        model = _timm_network(timm, name, published, state)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{file or init} does not hold the weights of timm's {name}: use the state dict of "
            f"that very network."
        ) from error
    data = timm.data.resolve_model_data_config(model)
    height, width = data["input_size"][1:]
    if height != width:
        raise InputError(f"{init} takes pictures of {height} x {width}: choose a square one.")
    return PublicEncoder(
        init,
        model,
        image_size=height,
        feature_dim=getattr(model, "head_hidden_size", model.num_features),
        mean=list(data["mean"]),
        std=list(data["std"]),
        interpolation="bilinear" if data["interpolation"] == "bilinear" else "bicubic",
        config={"timm": name},
    )


def _timm_network(timm: Any, name: str, published: Any, state: dict[str, Tensor]) -> Any:
    """The network without its classifier; every weight of it has to be in `state`."""
    overlay: dict[str, Any] = {"state_dict": dict(state)}
    heads = published.classifier or ()
    heads = (heads,) if isinstance(heads, str) else heads
    if not any(f"{head}.weight" in state for head in heads):
        overlay["num_classes"] = 0
    # With as many classes as the weights have timm is strict; asked for none, it would fill what
    # is missing at random.
    model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    model.pretrained_cfg.pop("state_dict", None)
    model.reset_classifier(0)
    return model


def _timm_weights(init: str, published: Any) -> dict[str, Tensor]:
    if published.hf_hub_id:
        names = ["model.safetensors", "pytorch_model.bin"]
        if published.hf_hub_filename:
            special = Path(published.hf_hub_filename)
            names = [str(special.with_suffix(".safetensors")), str(special)]
        return read_weights(hub_file(published.hf_hub_id, *names, needed_by=init))
    if not published.url:
        raise InputError(f"{init} has no published weights: choose a network that has.")
    try:
        with patience():
            return torch.hub.load_state_dict_from_url(
                published.url, progress=False, check_hash=True, weights_only=True
            )
    except (OSError, RuntimeError, HTTPException) as error:
        raise unavailable(published.url, init, error) from error
