"""Data sets as tasks: what to learn, from which sequences, and how to score it."""

from ._csv import read_csv as read_csv
from ._digits import digits as digits
from ._dynamics import fhn as fhn
from ._dynamics import lorenz as lorenz
from ._dynamics import pendulum as pendulum
from ._forecasting import forecasting as forecasting
from ._forecasting import last_read as last_read
from ._generated import adding as adding
from ._generated import copy as copy
from ._irregular import irregular as irregular
from ._registry import get as get
from ._registry import names as names
from ._sequences import sequences as sequences
from ._task import Dataset as Dataset
from ._task import Scaling as Scaling
from ._task import Task as Task
