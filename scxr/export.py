"""An encoder for the world outside: torchvision's state dict, in a file that any code can load.

    from safetensors.torch import load_file
    from torchvision.models import resnet50

    network = resnet50()
    network.load_state_dict(load_file("encoder.safetensors"), strict=False)

What is missing is the classifier, `fc`: no pretraining here trains one.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from scxr.encoders import RESNETS, Encoder
from scxr.errors import InputError
from scxr.runs import Run, write_tensors


def torchvision_state(encoder: Encoder) -> dict[str, Tensor]:
    """Weights of an encoder under torchvision's names, for pictures of three equal channels.

    The one-channel stem becomes three equal ones of a third each, so that a grey picture copied
    into three channels gives the very features of `encoder` (up to rounding). Feed it pictures
    normalised by the encoder's own mean and std, in every channel.

    Raises:
        InputError: an encoder that torchvision has no network for.
    """
    if encoder.name not in RESNETS:
        raise InputError(
            f"The encoder is a {encoder.name}, and torchvision has no network like it (no class "
            f"token, positions for any size): load it with scxr.encoders.read_encoder instead."
        )
    if encoder.config["stem"] != "imagenet":
        raise InputError(
            f"The encoder's stem is {encoder.config['stem']!r}: torchvision's ResNets have none "
            f"like it, and would compute something else with its weights."
        )
    state = {k: v.clone() for k, v in encoder.trunk.state_dict().items()}
    state["conv1.weight"] = state["conv1.weight"].repeat(1, 3, 1, 1) / 3
    return state


def export(run: Run, out: Path) -> dict[str, str]:
    """Write a finished run's encoder to `out` (.safetensors); returns what a user must know.

    The file's metadata holds the same facts: backbone, image size, mean and std.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"{out} does not end in .safetensors: choose such a name.")
    encoder = run.encoder()
    about = {k: str(encoder.config[k]) for k in ("name", "image_size", "mean", "std")}
    about |= {"method": run.method, "note": "three equal channels, (pixels - mean) / std, no fc"}
    write_tensors(out, torchvision_state(encoder), about)
    return {"file": str(out), **about}
