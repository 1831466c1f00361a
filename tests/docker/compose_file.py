"""docker/compose.yaml, as it is written and as docker compose reads it."""

import importlib.util
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.docker.dockerfile import DOCKER

SECRETS = {"S3_SECRET_KEY": "of-s3", "POSTGRES_PASSWORD": "of-postgres", "RAY_TOKEN": "of-ray"}
"""What a user must set, with values for tests."""


def written(name: str = "compose.yaml") -> dict[str, Any]:
    tree = yaml.safe_load((DOCKER / name).read_text())
    assert isinstance(tree, dict)
    return tree


def run_config(
    *files: Path, environ: Mapping[str, str] = SECRETS
) -> "subprocess.CompletedProcess[str]":
    """`docker compose config`, from a package that holds the program: needs no engine."""
    spec = importlib.util.find_spec("compose")
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).with_name("docker-compose")
    always = ["--project-directory", str(DOCKER), "--env-file", os.devnull]
    chosen = [word for file in files for word in ("--file", str(file))]
    return subprocess.run(
        [str(program), *always, *chosen, "config", "--format", "json"],
        env=dict(environ),
        capture_output=True,
        text=True,
        check=False,
    )


def resolved(*names: str, environ: Mapping[str, str] = SECRETS) -> dict[str, Any]:
    """What compose makes of the files: anchors, overrides and variables are through."""
    files = [DOCKER / name for name in names or ("compose.yaml",)]
    answer = run_config(*files, environ=environ)
    assert answer.returncode == 0, answer.stderr
    # It writes a dollar sign as compose files do.
    tree = json.loads(answer.stdout.replace("$$", "$"))
    assert isinstance(tree, dict)
    return tree
