"""Benchmarks: cells compared on tasks, with equal budgets for tuning and equal sizes."""

from ._bench import bench as bench
from ._plan import Plan as Plan
from ._summary import BenchResult as BenchResult
