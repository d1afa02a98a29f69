"""Strict surroundings for every test: float64, strict promotion, seeds that show in failures."""

import gc
import os
import zlib

# Before anything imports matplotlib: no test needs a screen.
os.environ.setdefault("MPLBACKEND", "Agg")
# Before anything imports JAX: the tests run many small programs once, so most of their time is
# compilation, which this makes five times faster.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1",
)

import hypothesis
import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

jax.config.update("jax_enable_x64", True)
# Adding a float32 to a float64 is an error: the library has to say which it wants.
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Compiling makes the first example slow, and a run must be repeatable.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.load_profile("repeatable")

_SEED = pytest.StashKey[int]()
_finished = 0


def pytest_addoption(parser):
    parser.addoption(
        "--seed", type=int, default=0, help="moves the seed of every test that uses one (default 0)"
    )


@pytest.fixture
def seed(request) -> int:
    """An integer that belongs to this test and to `--seed`; shown if the test fails."""
    base = request.config.getoption("--seed")
    value = zlib.crc32(f"{base} {request.node.nodeid}".encode()) & 0x7FFFFFFF
    request.node.stash[_SEED] = value
    return value


@pytest.fixture
def key(seed):
    """A JAX key made from `seed`."""
    return jax.random.key(seed)


@pytest.fixture
def rng(seed) -> np.random.Generator:
    """A NumPy generator made from `seed`."""
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def _programs_are_dropped_now_and_then():
    """Every compiled program holds memory maps, and a process may have 65,530 of them (Linux)."""
    yield
    global _finished
    _finished += 1
    if _finished % 50 == 0:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="module")
def compiled_programs_are_kept(tmp_path_factory):
    """For tests most of whose runs have the same programs: compile each once."""
    changed = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in changed}
    for name, value in changed.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and _SEED in item.stash:
        base = item.config.getoption("--seed")
        report.sections.append(("seed", f"{item.stash[_SEED]} (run with --seed {base})"))
    return report
