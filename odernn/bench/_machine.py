"""What a result needs to be understood later: machine, versions and commit."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax

from .._version import __version__

_PACKAGES = ("jax", "equinox", "optax", "numpy")


@cache
def commit() -> str:
    """The commit of the package, "-dirty" behind it if files differ; "" if it is no checkout."""
    here = Path(__file__).parent
    # Installed into a folder that lies in another checkout, it is not tracked there.
    if not _git(here, "ls-files", "--error-unmatch", "../_version.py"):
        return ""
    return _git(here, "describe", "--always", "--dirty", "--exclude", "*")


def describe() -> dict[str, str]:
    """Machine, versions and commit, in words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    versions = {"Python": platform.python_version(), "odernn": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # from a folder, say
            continue
    return {
        "machine": f"{platform.system()}, {_processor()}, {cores} cores{load}",
        "device": jax.devices()[0].device_kind,
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "commit": commit() or "unknown (not a checkout)",
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; "" where there is no git or it does not know."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
