"""What a training needs from this machine and its services; one function looks at one thing.

Nothing is imported before it is found, so that the checks also run where only torch is installed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from mono3d.errors import Mono3dError, ServiceError, StorageError
from mono3d.services.http_probe import can_connect
from mono3d.services.tracking_probe import UNKNOWN_VERSION, check_tracking_server
from mono3d.storage import s3
from mono3d.storage.s3_errors import without_userinfo

PYTHON_VERSIONS = ((3, 11), (3, 13))
"""First version that works and first that does not."""

_PACKAGES = {
    "ray": "training on a cluster",
    "mlflow": "tracking",
    "boto3": "checkpoints in S3",
    "nuscenes": "nuScenes data and its evaluation",
    "optuna": "search",
    "transformers": "backbones",
    "pydantic": "recipes",
}
_SERVICES_FIX = 'run `mono3d services up`, then `eval "$(mono3d services env)"`'
_RAY_TIMEOUT_S = 9.0
_GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of looking at one thing."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def check_python(running: tuple[int, int] = sys.version_info[:2]) -> Check:
    """Whether this Python is one of the versions the dependencies exist for."""
    first, end = PYTHON_VERSIONS
    shown = ".".join(map(str, running))
    if first <= running < end:
        return Check(name="Python", status="ok", detail=f"{shown} at {sys.executable}")
    return Check(
        name="Python",
        status="fail",
        detail=f"{shown} is not supported",
        fix="make the .venv with Python 3.11 or 3.12",
    )


def check_packages() -> Check:
    """Whether all packages are there; `train --local` needs the last two of the list only."""
    missing = [f"{name} ({purpose})" for name, purpose in _PACKAGES.items() if not find_spec(name)]
    if not missing:
        return Check(name="packages", status="ok", detail="all installed")
    return Check(
        name="packages",
        status="warn",
        detail=f"missing: {', '.join(missing)}",
        fix="run `pip install -e .`; `mono3d train --local` does without cluster, tracking and S3",
    )


def check_torch() -> Check:
    """PyTorch, the device it would train on, and that bf16 works there."""
    if not find_spec("torch"):
        return Check(
            name="torch", status="fail", detail="not installed", fix="run `pip install -e .`"
        )
    import torch

    from mono3d.training.precision import has_bfloat16_units

    if not torch.cuda.is_available():
        has_gpu = shutil.which("nvidia-smi") is not None
        return Check(
            name="torch",
            status="warn" if has_gpu else "ok",
            detail=f"{torch.__version__}, no usable GPU: trains on {os.cpu_count()} CPU cores",
            fix="install the CUDA build of torch that fits the driver (README)" if has_gpu else "",
        )
    device = torch.cuda.get_device_properties(0)
    gpus = f"{torch.cuda.device_count()} x {device.name}, {device.total_memory / _GIB:.0f} GiB"
    has_bf16 = has_bfloat16_units(torch.device("cuda"))
    return Check(
        name="torch",
        status="ok" if has_bf16 else "warn",
        detail=f"{torch.__version__}, {gpus}, bf16 {'works' if has_bf16 else 'is not supported'}",
        fix="" if has_bf16 else "train with train.precision=auto or float32",
    )


def check_ray(environ: Mapping[str, str]) -> Check:
    """Ray, and the cluster that RAY_ADDRESS names, if it names one."""
    if not find_spec("ray"):
        return Check(
            name="Ray", status="warn", detail="not installed", fix="run `pip install -e .`"
        )
    shown, address = version("ray"), environ.get("RAY_ADDRESS", "")
    if address in {"", "local"}:
        detail = f"{shown}, RAY_ADDRESS is not set: a training starts Ray on this machine"
        return Check(name="Ray", status="ok", detail=detail)
    if problem := _cluster_problem(address, environ):
        return Check(
            name="Ray",
            status="fail",
            detail=f"no cluster of Ray {shown} at RAY_ADDRESS={address}: {problem}",
            fix="start it (`ray start --head`), correct RAY_ADDRESS, or unset it",
        )
    return Check(name="Ray", status="ok", detail=f"{shown}, cluster at {address} answers")


def _cluster_problem(address: str, environ: Mapping[str, str]) -> str:
    """Why the cluster cannot be used; empty if it can."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.port and not can_connect(parts.hostname or "", parts.port):
        return "nobody answers there"
    if parts.scheme:  # the dashboard's or the client server's address
        return ""
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    try:
        answer = subprocess.run(
            command,
            env=environ,
            capture_output=True,
            text=True,
            timeout=_RAY_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_RAY_TIMEOUT_S:.0f} s"
    lines = answer.stderr.strip().splitlines() or ["`ray status` failed"]
    return "" if answer.returncode == 0 else lines[-1]


def check_mlflow(environ: Mapping[str, str]) -> Check:
    """The tracking server that MLFLOW_TRACKING_URI names."""
    uri = environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        detail = "MLFLOW_TRACKING_URI is not set: nothing would be tracked"
        return Check(name="MLflow", status="warn", detail=detail, fix=_SERVICES_FIX)
    try:
        server = check_tracking_server(uri)
    except ServiceError as error:
        return _failed("MLflow", error)
    detail = f"server {server} at {without_userinfo(uri)}"
    client = version("mlflow") if find_spec("mlflow") else server
    if server != UNKNOWN_VERSION and server.split(".")[0] != client.split(".")[0]:
        return Check(
            name="MLflow",
            status="warn",
            detail=f"{detail}, client {client}",
            fix="use a server of the client's major version",
        )
    return Check(name="MLflow", status="ok", detail=detail)


def check_s3(environ: Mapping[str, str], uri: str) -> Check:
    """Whether an object can be written, read and deleted below `uri`."""
    if not environ.get("AWS_ENDPOINT_URL") and not environ.get("AWS_ACCESS_KEY_ID"):
        detail = "AWS_ENDPOINT_URL and AWS_ACCESS_KEY_ID are not set: no S3 to write to"
        return Check(name="S3", status="warn", detail=detail, fix=_SERVICES_FIX)
    try:
        client = s3.connect(environ, hasty=True)
        s3.check_access(uri, client=client)
    except StorageError as error:
        return _failed("S3", error)
    detail = f"{uri} at {without_userinfo(client.meta.endpoint_url)}: written, read and deleted"
    return Check(name="S3", status="ok", detail=detail)


def _failed(name: str, error: Mono3dError) -> Check:
    """Messages of services and storage say what to do after a semicolon."""
    detail, _, fix = str(error).partition("; ")
    return Check(name=name, status="fail", detail=detail, fix=fix)


def check_disk(directory: Path) -> Check:
    """Room for data, checkpoints and the embedded S3 server, which stops writing below 1 GiB."""
    free_gib = shutil.disk_usage(directory).free / _GIB
    detail = f"{free_gib:.1f} GiB free in {directory.resolve()}"
    if free_gib >= 5:
        return Check(name="disk", status="ok", detail=detail)
    return Check(
        name="disk",
        status="fail" if free_gib < 1 else "warn",
        detail=detail,
        fix="free at least 5 GiB; old runs lie in runs/",
    )


def check_shared_memory(directory: Path = Path("/dev/shm")) -> Check:  # noqa: S108 (only looked at)
    """Shared memory, in which Ray and the loader's processes hand over arrays."""
    if not directory.is_dir():
        return Check(name="shared mem", status="ok", detail="not a Linux machine")
    total_gib = shutil.disk_usage(directory).total / _GIB
    detail = f"{total_gib:.1f} GiB in {directory}"
    if total_gib >= 1:
        return Check(name="shared mem", status="ok", detail=detail)
    fix = "in a container: start it with --shm-size=4g"
    return Check(name="shared mem", status="warn", detail=detail, fix=fix)


def check_data(environ: Mapping[str, str]) -> Check:
    """The folder with real frames, which only tests need: recipes name theirs in data.root."""
    folder = environ.get("MONO3D_REAL_DATA", "")
    if not folder:
        detail = "MONO3D_REAL_DATA is not set: tests on real frames are skipped"
        return Check(name="real data", status="ok", detail=detail)
    if Path(folder).is_dir():
        return Check(name="real data", status="ok", detail=f"MONO3D_REAL_DATA={folder}")
    detail = f"MONO3D_REAL_DATA={folder} is not a folder"
    return Check(name="real data", status="fail", detail=detail, fix="correct or unset it")
