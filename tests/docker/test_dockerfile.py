"""The Dockerfile, as far as it can be checked without building it."""

import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docker.dockerfile import (
    DOCKER,
    ROOT,
    context_files,
    lineage,
    read_ignore,
    read_stages,
)

TARGETS = ("cpu", "gpu")


def test_hadolint_finds_nothing_and_no_rule_is_ignored() -> None:
    program = Path(sysconfig.get_path("scripts")) / "hadolint"
    flags = ["--disable-ignore-pragma", "--failure-threshold=style", "--no-color"]
    command = [str(program), "--config=/dev/null", *flags, str(DOCKER / "Dockerfile")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, ""), answer.stdout + answer.stderr


def test_hadolint_does_find_faults(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN pip install torch\n")
    program = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    assert program is not None
    answer = subprocess.run([program, str(bad)], capture_output=True, text=True, check=False)
    assert {"DL3007", "DL3013"} <= set(re.findall(r"DL\d+", answer.stdout))


def test_every_stage_stands_on_another_or_on_an_exact_release() -> None:
    stages = read_stages()
    bases = {stage.base for stage in stages.values()} - stages.keys()
    assert bases
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base) for base in bases)


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_ends_as_a_user_without_rights_and_has_no_entry_point(target: str) -> None:
    found = [each for stage in lineage(read_stages(), target) for each in stage.instructions]
    assert [each.text for each in found if each.keyword == "USER"] == ["1000:1000"]
    assert not {"ENTRYPOINT", "CMD", "ADD", "VOLUME"} & {each.keyword for each in found}


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_gets_the_environment_and_the_probe_alone(target: str) -> None:
    copies = [text for stage in lineage(read_stages(), target) for text in stage.texts("COPY")]
    assert copies == [
        "docker/probe.py /opt/probe.py",
        f"--from=build-{target} /opt/venv /opt/venv",
    ]


def test_images_are_labelled() -> None:
    (labels,) = read_stages()["runtime"].texts("LABEL")
    names = re.findall(r"org\.opencontainers\.image\.(\w+)=", labels)
    assert names == ["title", "description", "licenses", "revision"]


def test_no_secret_is_asked_for_while_building() -> None:
    for stage in read_stages().values():
        for text in (*stage.texts("ARG"), *stage.texts("ENV"), *stage.texts("RUN")):
            assert not re.search(r"KEY|SECRET|TOKEN|PASSWORD|--mount", text, re.IGNORECASE)


def test_the_images_have_the_torch_of_the_makefile_each_in_its_own_build() -> None:
    stages = read_stages()
    (version,) = re.findall(r"^TORCH_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.M)
    for target, wanted in (("cpu", '"torch==${TORCH_VERSION}+cpu"'), ("gpu", '"torch===${TORCH_')):
        stage = stages[f"build-{target}"]
        assert f"TORCH_VERSION={version}" in stage.texts("ARG")
        assert [text for text in stage.texts("RUN") if wanted in text]


def test_pip_chooses_nothing_but_what_cuda_needs() -> None:
    for stage in read_stages().values():
        for text in stage.texts("RUN"):
            for command in re.findall(r"python install[^&]*", text):
                assert "--no-deps" in command or "-c requirements.txt" in command


def pins() -> dict[str, str]:
    lines = (DOCKER / "requirements.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    versions = dict(pairs)
    assert len(versions) == len(pairs)
    return versions


def test_every_requirement_of_the_project_is_pinned_within_its_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["postgresql"]]
    versions = pins()
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        if name != "torch":
            assert requirement.specifier.contains(versions[name]), requirement


def test_builds_of_torch_and_what_only_tests_need_are_not_pinned() -> None:
    unwanted = re.compile(r"torch|mono3d|nvidia.*|cuda.*|triton|pytest.*|mypy|ruff|hadolint.*")
    assert not [name for name in pins() if unwanted.fullmatch(name)]


def test_a_build_sees_the_code_and_nothing_else(tmp_path: Path) -> None:
    sent = {
        "mono3d/data/nuscenes.py", "mono3d/recipes/demo.yaml", "pyproject.toml", "README.md",
        "LICENSE", "docker/requirements.txt", "docker/probe.py",
    }  # fmt: skip
    kept_back = {
        ".git/config", ".venv/bin/python", "data/images.bin", "runs/demo/weights",
        "tests/test_docs.py", "docker/.env", "docker/compose.yaml", "mono3d.egg-info/PKG-INFO",
        "mono3d/__pycache__/data.pyc", "mono3d/data/__pycache__/x.nbc", "docs/mlflow.md",
    }  # fmt: skip
    for name in sent | kept_back:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert set(context_files(tmp_path, read_ignore())) == sent


def test_what_the_stages_copy_is_in_the_context() -> None:
    sent = set(context_files(ROOT, read_ignore()))
    folders = {name.split("/")[0] for name in sent}
    assert folders == {"mono3d", "docker", "pyproject.toml", "README.md", "LICENSE"}
    for stage in read_stages().values():
        for text in stage.texts("COPY"):
            if not text.startswith("--from"):
                assert set(text.split()[:-1]) <= sent | folders
