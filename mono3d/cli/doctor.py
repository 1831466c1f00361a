"""`mono3d doctor`: what works on this machine, and how to mend what does not."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from mono3d.cli import checks
from mono3d.services.address import RUNS_URI
from mono3d.tracking.redact import redact

_COLOURS = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}


def doctor(
    storage: Annotated[
        str, typer.Option(help="S3 prefix below which an object is written, read and deleted.")
    ] = RUNS_URI,
) -> None:
    """Check Python, torch, GPU, Ray, MLflow, S3, disk and data; exit code 2 if something fails.

    A warning is something that a local training does without. S3 and MLflow are looked for where
    the environment says (AWS_ENDPOINT_URL, MLFLOW_TRACKING_URI).
    """
    has_failed = False
    for check in _run(storage):
        has_failed |= check.status == "fail"
        label = typer.style(f"{check.status:<5}", fg=_COLOURS[check.status])
        typer.echo(f"{label} {check.name:<10} {redact(check.detail)}")
        if check.fix:
            typer.echo(f"{'':<16} fix: {check.fix}")
    if has_failed:
        raise typer.Exit(2)


def _run(storage: str) -> Iterator[checks.Check]:
    """One result after the other, so that slow checks do not hold back the rest."""
    yield checks.check_python()
    yield checks.check_packages()
    yield checks.check_torch()
    yield checks.check_ray(os.environ)
    yield checks.check_mlflow(os.environ)
    yield checks.check_s3(os.environ, storage)
    yield checks.check_disk(Path.cwd())
    yield checks.check_shared_memory()
    yield checks.check_data(os.environ)
