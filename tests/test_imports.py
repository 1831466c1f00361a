"""Every module imports, and the training core does so on a machine that holds only torch."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mono3d

MODULES = sorted(module.name for module in pkgutil.walk_packages(mono3d.__path__, prefix="mono3d."))
STUDY = ("mono3d.cli.study", "mono3d.comparison.study_runs")
"""A study in one process needs no more than the core does."""
CORE_PACKAGES = ("structures", "geometry", "codec", "data", "model", "objectives", "training")
# These are the rim: they exist to talk to what the core must not need.
RIM_MODULES = (
    "mono3d.data.nuscenes",
    "mono3d.training.worker",
    "mono3d.training.failure_callback",
    "mono3d.training.launch",
    "mono3d.training.ray_session",
    "mono3d.training.run_gauges",
    "mono3d.training.submission",
    "mono3d.training.tracked",
)
BLOCKED = ("ray", "mlflow", "nuscenes", "boto3", "botocore", "optuna")
BLOCKING_IMPORTER = """
import importlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(name + " is not on this machine")

sys.meta_path.insert(0, Blocker())
for module in {modules}:
    importlib.import_module(module)
"""


def _is_core(module: str) -> bool:
    in_core = module.split(".")[1] in CORE_PACKAGES
    return in_core and not module.startswith(RIM_MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_module_imports(module: str) -> None:
    importlib.import_module(module)


def test_the_core_imports_without_ray_mlflow_nuscenes_and_boto3() -> None:
    core = [module for module in MODULES if _is_core(module)]
    assert "mono3d.structures" in core
    program = BLOCKING_IMPORTER.format(blocked=set(BLOCKED), modules=[*core, *STUDY])
    root = Path(mono3d.__path__[0]).parent
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_import_blocker_blocks() -> None:
    program = BLOCKING_IMPORTER.format(blocked={"json"}, modules=["json.decoder"])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "json is not on this machine" in done.stderr
