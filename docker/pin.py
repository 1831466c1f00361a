"""Writes requirements.txt: the packages of the images at the versions of this environment.

    make install TORCH=cpu && make test && .venv/bin/python docker/pin.py

It follows what pyproject.toml asks for through the metadata of what is installed. torch is left
out: each image has a build of its own, by the Dockerfile. So is what only its CUDA build needs,
which is why this wants the CPU build.
"""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DOCKER = Path(__file__).parent
EXTRAS = ("postgresql",)
HEADER = """\
# Everything in the images but torch. Written by docker/pin.py, do not edit.
"""


def main() -> None:
    """Write the file."""
    if not distribution("torch").version.endswith("+cpu"):
        sys.exit(
            "this environment has another build of torch than the CPU's: make install TORCH=cpu"
        )
    pins = sorted(f"{name}=={version}\n" for name, version in closure(asked_for()).items())
    (DOCKER / "requirements.txt").write_text(HEADER + "".join(pins))


def asked_for() -> list[Requirement]:
    """What pyproject.toml lists for the images."""
    project = tomllib.loads((DOCKER.parent / "pyproject.toml").read_text())["project"]
    extras = [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]
    return [Requirement(line) for line in (*project["dependencies"], *extras)]


def closure(requirements: list[Requirement]) -> dict[str, str]:
    """Versions by name of all that the requirements lead to, torch left out."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{name} is not installed: make install")
        if name != "torch":
            versions[name] = found.version
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += _needed(found.requires or [], extra)
    return versions


def _needed(lines: list[str], extra: str) -> list[Requirement]:
    needed = [Requirement(line) for line in lines]
    return [
        each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})
    ]


if __name__ == "__main__":
    main()
