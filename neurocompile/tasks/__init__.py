"""Learning tasks: data sets as events, losses, training with checkpoints, evaluation against a linear baseline (docs/tasks.md)."""

from neurocompile.tasks.data import EventData, Sample, Samples, load_data
from neurocompile.tasks.evaluate import Comparison, EvalResult, compare, evaluate
from neurocompile.tasks.numerics import Numerics
from neurocompile.tasks.sweep import SweepResult, parse_varied, sweep
from neurocompile.tasks.train import TrainResult, train

__all__ = [
    "Comparison",
    "EvalResult",
    "EventData",
    "Numerics",
    "Sample",
    "Samples",
    "SweepResult",
    "TrainResult",
    "compare",
    "evaluate",
    "load_data",
    "parse_varied",
    "sweep",
    "train",
]
