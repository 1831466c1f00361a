"""The instructions of the Dockerfile, carried out where no container engine is.

The CPU image's stages run with the same commands in a folder that stands for the root. What needs
a container is left out: making the user and its folders.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.docker.dockerfile import (
    ROOT,
    context_files,
    fill,
    lineage,
    read_ignore,
    read_stages,
)

FOLDERS = ("opt", "build", "work", "cache")
"""Of a container's root, those that the instructions name."""
PIP_SETTINGS = os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))
TIMEOUT_S = 3000
"""Of the installation, on a machine that has other work too."""


@dataclass
class Container:
    """A folder that stands for a container's root; the base image's Python is outside of it."""

    root: Path
    python: Path
    environ: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    skipped: list[str] = field(default_factory=list)

    def here(self, text: str) -> str:
        """Paths of the container as they are on this machine."""
        folders = "|".join(FOLDERS)
        return re.sub(rf"(?<![\w./-])/({folders})\b", rf"{self.root}/\1", text)

    def carry_out(self, keyword: str, text: str, context: Path, sent: list[str]) -> None:
        match keyword:
            case "ARG":
                name, _, default = text.partition("=")
                self.args[name] = default
            case "ENV":
                self.environ |= dict(word.split("=", 1) for word in shlex.split(text))
            case "WORKDIR":
                self.directory = text
                Path(self.here(text)).mkdir(parents=True, exist_ok=True)
            case "COPY" if not text.startswith("--from="):
                self.copy(text.split(), context, sent)
            case "RUN" if text.startswith("useradd"):
                self.skipped.append(text)
            case "RUN":
                self.run(fill(text, self.args), timeout_s=TIMEOUT_S)
            case "COPY" | "LABEL" | "USER":
                self.skipped.append(f"{keyword} {text}")
            case other:
                raise AssertionError(f"a test must learn to carry out {other}")

    def copy(self, words: list[str], context: Path, sent: list[str]) -> None:
        *sources, target = words
        folder = Path(self.here(target)) if target.startswith("/") else self.working / target
        for source in sources:
            for name in sent:
                if name == source and not target.endswith("/"):
                    copied = folder
                elif name == source:
                    copied = folder / Path(name).name
                elif name.startswith(f"{source}/"):
                    copied = folder / Path(name).relative_to(source)
                else:
                    continue
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(context / name, copied)

    @property
    def working(self) -> Path:
        return Path(self.here(self.directory))

    def run(self, text: str, *, timeout_s: float = 300) -> str:
        """By the shell, with the container's environment and nothing of pytest's."""
        kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_"))}
        path = self.environ.get("PATH", "$PATH").replace(
            "$PATH", f"{self.python.parent}:/usr/bin:/bin"
        )
        environ = {
            **kept,
            "PIP_RETRIES": "1",
            "XDG_CONFIG_HOME": PIP_SETTINGS,
            "HOME": str(self.root / "work"),
            **{name: self.here(value) for name, value in (self.environ | self.args).items()},
            "PATH": self.here(path),
        }
        process = subprocess.Popen(
            ["sh", "-c", self.here(text)],
            cwd=self.working,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # pip has children of its own
            raise
        assert process.returncode == 0, f"{text}\n{output[-6000:]}"
        return output


@contextmanager
def built(target: str) -> Iterator[Container]:
    """Its build stage and then its own, in one root: a venv cannot be moved to another."""
    stages, sent = read_stages(), sorted(context_files(ROOT, read_ignore()))
    # Its tests run below the folder of pytest, which keeps several; this one is large.
    with TemporaryDirectory(prefix="mono3d-image-") as folder:
        base = Path(folder) / "base"
        subprocess.run([sys.executable, "-m", "venv", str(base)], check=True)
        root = Path(folder) / "root"
        for name in FOLDERS:
            (root / name).mkdir(parents=True)
        container = Container(root, base / "bin" / "python")
        for stage in lineage(stages, f"build-{target}"):
            for each in stage.instructions:
                container.carry_out(each.keyword, each.text, ROOT, sent)
        shutil.rmtree(root / "build")
        # Of what the build has, the image takes the environment alone.
        image = Container(root, base / "bin" / "python")
        for stage in lineage(stages, target):
            for each in stage.instructions:
                image.carry_out(each.keyword, each.text, ROOT, sent)
        yield image


@pytest.mark.image
@pytest.mark.timeout(2 * TIMEOUT_S)
def test_the_instructions_of_the_cpu_image_install_what_starts() -> None:
    with built("cpu") as image:
        assert [text.split()[0] for text in image.skipped] == ["LABEL", "useradd", "USER", "COPY"]
        assert image.directory == "/work"

        # Commands are found, run in an empty folder, and are not those of this repository.
        assert "--dry-run" in image.run("mono3d train --help")
        assert "mining:" in image.run("mono3d train demo --dry-run data.root=/work")
        assert "mining" in image.run("mono3d train demo --dry-run data.root=/work")
        home = image.run("python -c 'import mono3d; print(mono3d.__file__)'")
        assert str(image.root / "opt/venv") in home
        assert "2.60" in image.run("ray --version")
        assert "3.17" in image.run("mlflow --version")
        image.run("weed version")
        image.run("python -c 'import psycopg, mono3d.search.database'")
        image.run(
            "python -c 'import torch; assert torch.version.cuda is None; torch.ones(2).sum()'"
        )
        image.run("python /opt/probe.py 9 /; test $? -eq 1")

        # The package is whole, and nothing else of the repository is there.
        installed = next((image.root / "opt/venv/lib").glob("python3.*/site-packages"))
        data = {name for name in context_files(ROOT, read_ignore()) if name.startswith("mono3d/")}
        missing = {name for name in data if not (installed / name).exists()}
        assert not missing
        assert not (installed / "tests").exists()
        assert not [path for path in installed.iterdir() if re.match(r"(pip|nvidia)\b", path.name)]
        found = {path.name for path in image.root.iterdir()}
        assert found == {"opt", "work", "cache"}
        assert {path.name for path in (image.root / "opt").iterdir()} == {"venv", "probe.py"}
        assert not list((image.root / "opt").rglob(".git"))
