"""Learning tasks: data sets as events, losses, training with checkpoints, evaluation against a linear baseline (docs/tasks.md)."""

from neurocompile.tasks.data import EventData, Sample, Samples, load_data
from neurocompile.tasks.evaluate import EvalResult, evaluate
from neurocompile.tasks.train import TrainResult, train

__all__ = ["EvalResult", "EventData", "Sample", "Samples", "TrainResult", "evaluate", "load_data", "train"]
