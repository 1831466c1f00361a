"""Three files name a version of torch; a build they disagree on would be replaced unasked."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def test_the_torch_of_makefile_and_images_is_one_that_the_package_accepts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = map(Requirement, project["dependencies"])
    (torch,) = (each for each in requirements if each.name == "torch")
    (in_makefile,) = re.findall(
        r"^TORCH_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE
    )
    in_images = re.findall(r"TORCH_VERSION=(\S+)", (ROOT / "docker" / "Dockerfile").read_text())
    assert {in_makefile} == set(in_images)
    assert torch.specifier.contains(f"{in_makefile}+cpu")
    assert torch.specifier.contains(in_makefile)
