"""How hard is each finding of the phantom? Writes book/phantom-difficulty.csv and its summary.

Four rungs, probed on hospital B with the course's own few-shot protocol: raw pixels, a random
ResNet-18, MoCo's quick preset on hospital A without labels, and a network trained on hospital A
*with* labels, which says how much a network of this size can see at all. About five minutes on one
free core: `python scripts/phantom_difficulty.py`.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from scxr.augment import augment
from scxr.data import RadiographStore, phantom_store
from scxr.data.phantom import FINDINGS
from scxr.data.store.layout import has_finding
from scxr.encoders import Encoder, build_encoder, freeze
from scxr.evaluate.inits import load_inits
from scxr.evaluate.probe import evaluate_probe
from scxr.methods.base import QUICK_VIEWS
from scxr.pretrain import pretrain
from scxr.seeds import generator

OUT = Path(__file__).resolve().parent.parent / "book" / "phantom-difficulty.csv"
SIZE = 64
IMAGES = 4000
SEED = 0
log = logging.getLogger(__name__)


def supervised(store: RadiographStore, *, steps: int, batch: int = 128) -> Encoder:
    """A ResNet-18 that was told the findings of `store`: a ceiling for frozen features."""
    encoder = build_encoder("resnet18", image_size=SIZE, mean=store.mean, std=store.std, seed=SEED)
    head = nn.Linear(encoder.feature_dim, len(FINDINGS))
    targets = torch.stack(
        [torch.from_numpy(has_finding(store.table["findings"], name)) for name in FINDINGS], dim=1
    ).float()
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    random = generator(SEED, "supervised")
    for _ in range(steps):
        rows = torch.randint(len(store), (batch,), generator=random)
        views = augment(store.batch(rows.numpy()).float() / 255, QUICK_VIEWS, SIZE, random)
        with torch.autocast("cpu", torch.bfloat16):
            logits = head(encoder(views.to(memory_format=torch.channels_last)))
        loss = F.binary_cross_entropy_with_logits(logits.float(), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    log.info("supervised: last loss %.3f", loss.item())
    return freeze(encoder)


def main() -> None:
    """Train, probe, write the table and print its summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 20, 50])
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="of the supervised network")
    parser.add_argument(
        "--runs", nargs="*", default=["moco"], help="method, or method=JSON of settings"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    a, b = (phantom_store(name, IMAGES, size=SIZE, seed=SEED) for name in ("A", "B"))
    encoders = load_inits([], ["pixels", "random"], b)
    for text in arguments.runs:
        method, _, settings = text.partition("=")
        run = pretrain(method, a, settings=json.loads(settings or "{}"), seed=SEED)
        encoders[method] = run.encoder()
    if arguments.steps:
        encoders["supervised"] = supervised(a, steps=arguments.steps)
    results = evaluate_probe(
        encoders, b, FINDINGS, arguments.shots, arguments.trials, jobs=1, progress=False
    )
    results["images"], results["size"], results["seed"] = IMAGES, SIZE, SEED
    results["supervised_steps"] = arguments.steps
    results.round(4).to_csv(arguments.out, index=False)
    table = summary(results)
    table.to_csv(arguments.out.with_name(f"{arguments.out.stem}-summary.csv"))
    log.info("%s", table.to_string())


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Mean AUC: findings down, then their mean; inits and shots across."""
    table = results.pivot_table(
        index="finding", columns=["init", "shots"], values="auc_mean", sort=False
    )
    table.columns = [f"{init}, {shots}" for init, shots in table.columns]
    table.loc["mean"] = table.mean()
    return table.round(2)


if __name__ == "__main__":
    main()
