"""With what and how: store, runs, protocol, versions. Nothing here names a patient."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pandas as pd

from scxr.data.episodes import OTHER
from scxr.data.findings import tally
from scxr.data.store import RadiographStore
from scxr.evaluate import Evaluation
from scxr.runs import Run, environment

BASELINES = {
    "random": "the network with random weights",
    "random-calibrated": "random weights whose batch norm has seen the images",
    "pixels": "no network: the picture itself, made small",
    "imagenet": "trained with labels on photographs (ImageNet)",
    "rad-dino": "RAD-DINO, a public encoder of chest radiographs",
    "xrv": "TorchXRayVision's DenseNet, trained with labels of public data, perhaps with these",
}
MODES = {
    "probe": "linear probe: logistic regression on the frozen features, L2-normalised",
    "finetune": "fine-tuning: network and linear head are trained together",
}
TESTS = {
    "permutation": "from swaps of the two inits, patient by patient",
    "delong": "DeLong's, clustered by patient",
    "bootstrap": "from a bootstrap that draws the same patients for both",
}
SETTINGS = {
    "sound": "sound: the published protocol with its slips put right",
    "series": "series: the published protocol as it was run, slips included",
}


def store_facts(evaluation: Evaluation) -> dict[str, str]:
    """The images: how many, whose, of what size and kind."""
    store = evaluation.store
    told = store.summary()
    marked = [name for name in evaluation.findings if name in store.structures]
    source = told["source"]
    kind = str(source.get("kind", "unknown"))
    if kind == "phantom":
        kind = f"phantom, hospital {source.get('hospital', '?')} (simulated, no patients)"
    views = ", ".join(f"{name or 'unknown'} {count}" for name, count in told["views"].items())
    hospitals = [str(name) for name in told["hospitals"] if name]
    facts = {
        "store": store.path.name,
        "source": kind,
        "images": f"{told['images']} of {told['size']} px ({told['aspect']})",
        "patients": str(told["patients"]),
        "views": views,
    }
    if hospitals:
        facts["hospitals"] = ", ".join(hospitals)
    facts["normalisation"] = f"mean {told['mean']}, standard deviation {told['std']} of [0, 1]"
    facts["true regions"] = f"of {len(marked)} of {len(evaluation.findings)} findings"
    facts["fingerprint"] = told["fingerprint"][:16]
    return facts


def finding_counts(evaluation: Evaluation) -> pd.DataFrame:
    """Images and patients with each finding on both sides of the split (`tally`)."""
    counts = tally(evaluation.store.table).set_index("finding")
    return counts.loc[evaluation.findings].reset_index()


def run_facts(run: Run, store: RadiographStore) -> dict[str, str]:
    """One pretraining run; what its config does not say is "unknown"."""
    config = run.config
    settings, data = config.get("settings", {}), config.get("data", {})
    log = run.log("train")
    same = data.get("fingerprint") == store.fingerprint
    return {
        "run": run.name,
        "method": run.method,
        "preset": str(config.get("preset", "unknown")),
        "network": f"{settings.get('backbone', 'unknown')}, {settings.get('image_size', '?')} px",
        "steps": "unknown" if log.empty else str(int(log["step"].iloc[-1])),
        "batch": str(settings.get("batch_size", "unknown")),
        "precision": str(config.get("precision", "unknown")),
        "seed": str(config.get("seed", "unknown")),
        "pretrained on": f"{data.get('images', '?')} images" + (" of this store" if same else ""),
    }


def baseline_facts(evaluation: Evaluation) -> dict[str, str]:
    """What stands beside the runs, in words."""
    return {
        name: BASELINES.get(name, "a public encoder" if ":" in name else "an encoder")
        for name in evaluation.baselines
    }


def protocol_facts(evaluation: Evaluation) -> dict[str, str]:
    """How the few-shot experiment was made."""
    settings: dict[str, Any] = evaluation.settings
    negatives = settings["negatives"]
    facts = {
        "mode": MODES[evaluation.mode],
        "setting": SETTINGS.get(settings["setting"], settings["setting"]),
        "shots": ", ".join(str(n) for n in settings["shots"]) + " labelled images a class",
        "trials": f"{settings['trials']} draws of the labelled images, the same for every init",
        "negatives": "normal images" if negatives != OTHER else "images without these findings",
        "validation": "all images with the finding of held-out patients, and as many without it",
        "seed": str(settings["seed"]),
    }
    if evaluation.mode == "finetune":
        facts["recipe"] = "quick (for a CPU)" if settings.get("quick") else "full"
    return facts


def version_facts() -> dict[str, str]:
    """Software and machine, as a run records them."""
    told = environment()
    packages = {**told["packages"], "scikit-learn": version("scikit-learn")}
    return {
        "Python": told["python"],
        **packages,
        "device": told["device"],
        "commit": (told["commit"] or "unknown")[:12],
    }
