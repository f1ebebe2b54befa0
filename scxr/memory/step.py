"""One training step on fake tensors: what it keeps and what it reaches, without the memory for it.

Fake tensors (`torch._subclasses.FakeTensorMode`) have shapes and types and no content. The real
method, its real networks and the real optimiser run on them; two observers look on. Saved-tensor
hooks see what autograd keeps for the backward pass, and a dispatch mode sees every tensor come and
go, and so the highest level that the step reaches.

Autocast, the optimiser and the method behave as on a GPU. Not seen: workspaces of cuDNN and
cuBLAS, the CUDA context, and the gaps of PyTorch's allocator.
"""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scxr.encoders import Encoder, build_encoder
from scxr.methods import Method, Settings
from scxr.optimisation import build_optimizer
from scxr.seeds import generator

DTYPES = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "head", "decoder", "loss", "casts")


@dataclass(frozen=True)
class Step:
    """Bytes of one step. `kept` is what autograd saves, by (stage, kind of layer)."""

    parameters: int
    gradients: int
    optimizer: int
    buffers: int
    inputs: int
    kept: dict[tuple[str, str], int]
    peak: int
    """Highest level of the forward and backward pass, with parameters, buffers and optimiser."""
    update_peak: int
    """Highest level while the weights are updated, without the batch, which is still there."""
    views: int

    @property
    def activations(self) -> int:
        """All that autograd keeps."""
        return sum(self.kept.values())

    @property
    def parts(self) -> int:
        """What can be named, together."""
        static = self.parameters + self.gradients + self.optimizer + self.buffers
        return static + self.inputs + self.activations

    @property
    def total(self) -> int:
        """What can be named, and more where the step reaches higher."""
        return max(self.parts, self.peak, self.update_peak + self.inputs)


def fake_step(
    method: type[Method], settings: Settings, precision: str, *, like: Step | None = None
) -> Step:
    """Run one step of a method on fake tensors and say what it took.

    Args:
        precision: a key of `DTYPES`.
        like: a step with another batch, whose update of the weights need not be run again.
    """
    network = _fake_method(method, settings)
    shapes = _views(network, settings)
    with FakeTensorMode():
        _fill(network)
        optimizer = build_optimizer(network, settings)
        for group in optimizer.param_groups:
            group["foreach"] = True  # what PyTorch chooses on a GPU
        with _Live(network) as live:
            size = settings.image_size
            images = torch.empty(settings.batch_size, 1, size, size)
            views = [torch.empty(settings.batch_size, *v.shape[1:], dtype=v.dtype) for v in shapes]
            inputs = live.now
            kept = _forward_backward(network, views, precision, live)
            peak, live.peak = live.peak, live.now
            if like is None:
                optimizer.step()
            update_peak = live.peak
    del images
    own = sum(_bytes(p) for p in network.parameters())
    buffers = sum(map(_bytes, network.buffers()))
    state = like.optimizer if like else _state_bytes(optimizer)
    return Step(
        parameters=own,
        gradients=sum(_bytes(p) for p in network.parameters() if p.requires_grad),
        optimizer=state,
        buffers=buffers,
        inputs=inputs,
        kept=kept,
        peak=peak + own + buffers + state,
        update_peak=like.update_peak if like else update_peak + own + buffers - inputs,
        views=sum(v.ndim == 4 for v in shapes),
    )


def _forward_backward(
    network: Method, views: list[Tensor], precision: str, live: _Live
) -> dict[tuple[str, str], int]:
    dtype = DTYPES[precision]
    hooks = torch.autograd.graph.saved_tensors_hooks(live.pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", dtype, enabled=dtype is not None):
        terms = network(views)
    loss = torch.stack(list(terms.values())).sum()
    kept = live.kept()
    loss.backward()
    return kept


def _fake_method(method: type[Method], settings: Settings) -> Method:
    """The method's networks on the meta device: shapes only, made in no time."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        encoder = build_encoder(
            settings.backbone,
            image_size=settings.image_size,
            mean=0.5,
            std=0.25,
            stem=settings.stem,
        )
        return method(encoder, settings).train()


def _views(network: Method, settings: Settings) -> list[Tensor]:
    """What the method looks at, made of two real pictures: shapes and types are what counts."""
    pictures = torch.zeros(2, 1, settings.image_size, settings.image_size)
    return network.views(pictures, generator(0, "memory"))


def _fill(network: nn.Module) -> None:
    """Put fake tensors of the CPU in the place of meta tensors, which autocast does not know."""
    for module in network.modules():
        for name, p in module._parameters.items():
            if p is not None:
                fake = torch.empty(p.shape, dtype=p.dtype)
                module._parameters[name] = nn.Parameter(fake, requires_grad=p.requires_grad)
        for name, b in module._buffers.items():
            if b is not None:
                module._buffers[name] = torch.empty(b.shape, dtype=b.dtype)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _state_bytes(optimizer: Optimizer) -> int:
    leaves = tree_leaves(list(optimizer.state.values()))
    return sum(_bytes(leaf) for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim > 0)


class _Live(TorchDispatchMode):
    """Every storage that is alive, and which of them autograd keeps; the network's own left out.

    A storage that several tensors share counts once, and belongs to whoever kept it first.
    """

    def __init__(self, network: Method) -> None:
        super().__init__()
        own = [t.untyped_storage() for t in (*network.parameters(), *network.buffers())]
        self._own = {storage._cdata: storage for storage in own}
        self._alive: dict[int, Any] = {}
        self._kept: dict[int, tuple[str, str, int]] = {}
        self._casts: set[int] = set()
        self._stage, self._kind = "stem", "other"
        self._hooks = [h for labelled in _labelled(network) for h in self._follow(*labelled)]
        self.now = self.peak = 0

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        if func is torch.ops.aten._to_copy.default and _key(args[0]) in self._own:
            self._casts.add(_key(out))
        return out

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._own or key in self._alive:
            return

        def gone(_: Any) -> None:
            self.now -= size
            for group in (self._alive, self._kept):
                group.pop(key, None)
            self._casts.discard(key)

        self._alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)

    def pack(self, tensor: Tensor) -> Tensor:
        """To be hooked to autograd: this tensor is kept for the backward pass."""
        key = _key(tensor)
        if key not in self._own and key not in self._kept:
            stage, kind = ("casts", "weight") if key in self._casts else (self._stage, self._kind)
            self._kept[key] = (stage, kind, tensor.untyped_storage().nbytes())
        return tensor

    def kept(self) -> dict[tuple[str, str], int]:
        """Bytes kept at this moment, by (stage, kind of layer)."""
        total: Counter[tuple[str, str]] = Counter()
        for stage, kind, size in self._kept.values():
            total[stage, kind] += size
        return dict(total)

    def _follow(self, module: nn.Module, stage: str, after: str) -> list[Any]:
        """Hooks that say where in the network the step is; functions between two modules belong
        to the one before."""
        is_leaf = next(module.children(), None) is None

        def enter(*_: Any) -> None:
            self._stage = stage
            self._kind = type(module).__name__ if is_leaf else "other"

        def leave(*_: Any) -> None:
            self._stage, self._kind = after, "other"

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


def _labelled(network: Method) -> list[tuple[nn.Module, str, str]]:
    """Every part of the network, the stage it belongs to, and the stage of what comes after it."""
    labelled: list[tuple[nn.Module, str, str]] = []
    for name, child in network.named_children():
        if isinstance(child, Encoder):
            labelled.append((child, "stem", "layer4"))
            labelled += [(m, "stem", "stem") for m in child.stem_parts()]
            for layer in STAGES[1:5]:
                labelled += [(m, layer, layer) for m in getattr(child.trunk, layer).modules()]
        else:
            stage = "decoder" if name == "decoder" else "head"
            labelled += [(m, stage, "loss" if m is child else stage) for m in child.modules()]
    return labelled


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
