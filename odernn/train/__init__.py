"""Training: a configuration and a task become a run folder with a trained model."""

from ._build import build_model as build_model
from ._build import first_cell as first_cell
from ._config import FORMAT as FORMAT
from ._config import Config as Config
from ._evaluate import evaluate as evaluate
from ._evaluate import predict as predict
from ._keep import keep_certified as keep_certified
from ._loop import Interrupted as Interrupted
from ._run import RunResult as RunResult
from ._run import fit as fit
from ._run import get_task as get_task
