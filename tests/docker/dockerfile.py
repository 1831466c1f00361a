"""Reads a Dockerfile and its .dockerignore, as far as ours use their languages."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"


@dataclass(frozen=True)
class Instruction:
    keyword: str
    text: str


@dataclass(frozen=True)
class Stage:
    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def texts(self, keyword: str) -> list[str]:
        return [each.text for each in self.instructions if each.keyword == keyword]


def fill(text: str, values: Mapping[str, str]) -> str:
    """With the values of ${NAME}; what is unknown stays for the shell."""
    return re.sub(r"\$\{(\w+)\}", lambda match: values.get(match[1], match[0]), text)


def read_stages(path: Path = DOCKER / "Dockerfile") -> dict[str, Stage]:
    """Its stages by name, in order, with the global build arguments filled into each FROM."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    logical = "\n".join(lines).replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    defaults: dict[str, str] = {}
    stage: Stage | None = None
    for line in filter(str.strip, logical.splitlines()):
        keyword, _, text = line.strip().partition(" ")
        text = re.sub(r"\s+", " ", text).strip()
        if keyword == "FROM":
            base, _, name = text.partition(" AS ")
            stage = stages[name] = Stage(fill(base, defaults), name)
        elif stage is None:
            name, _, default = text.partition("=")
            defaults[name] = default
        else:
            stage.instructions.append(Instruction(keyword, text))
    return stages


def lineage(stages: Mapping[str, Stage], name: str) -> list[Stage]:
    """The stage and those it is built on, the lowest first."""
    stage = stages[name]
    return [*(lineage(stages, stage.base) if stage.base in stages else []), stage]


def read_ignore(path: Path = DOCKER / "Dockerfile.dockerignore") -> list[str]:
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def is_sent(name: str, patterns: list[str]) -> bool:
    """Whether a file is in the context: the last pattern that fits it or a parent decides."""
    sent = True
    path = PurePosixPath(name)
    names = [str(path), *(str(parent) for parent in path.parents if str(parent) != ".")]
    for pattern in patterns:
        plain = pattern.removeprefix("!").removeprefix("**/")
        tails = [part.name for part in map(PurePosixPath, names)] if "**/" in pattern else names
        if any(fnmatchcase(each, plain) for each in tails):
            sent = pattern.startswith("!")
    return sent


def context_files(root: Path, patterns: list[str]) -> Iterator[str]:
    """Names of all files below a folder that a build gets to see."""
    kept = [pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")]
    waiting = [root]
    while waiting:
        for path in waiting.pop().iterdir():
            name = path.relative_to(root).as_posix()
            if not path.is_dir():
                if is_sent(name, patterns):
                    yield name
            elif is_sent(name, patterns) or any(each.startswith(f"{name}/") for each in kept):
                waiting.append(path)
