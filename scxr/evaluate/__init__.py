"""From a pretrained encoder to an honest number: features, probe, fine-tuning, statistics."""

from scxr.evaluate.experiment import SHOTS, draw_experiment
from scxr.evaluate.features import PixelEncoder, extract
from scxr.evaluate.finetune import evaluate_finetune, finetune_scores
from scxr.evaluate.heads import Classifier, LinearHead
from scxr.evaluate.inits import load_inits
from scxr.evaluate.overview import Evaluation, evaluate, run_evaluation
from scxr.evaluate.probe import evaluate_probe, fit_head, probe_scores
from scxr.evaluate.recipes import FinetuneSettings, settings_for
from scxr.evaluate.results import compare, summarise
from scxr.evaluate.scaling import LabelsNeeded, ScalingFit, fit_scaling
from scxr.evaluate.statistics import auc, holm

__all__ = [
    "SHOTS",
    "Classifier",
    "Evaluation",
    "FinetuneSettings",
    "LabelsNeeded",
    "LinearHead",
    "PixelEncoder",
    "ScalingFit",
    "auc",
    "compare",
    "draw_experiment",
    "evaluate",
    "evaluate_finetune",
    "evaluate_probe",
    "extract",
    "finetune_scores",
    "fit_head",
    "fit_scaling",
    "holm",
    "load_inits",
    "probe_scores",
    "run_evaluation",
    "settings_for",
    "summarise",
]
