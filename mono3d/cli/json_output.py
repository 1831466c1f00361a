"""Numbers of a command in a file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from mono3d.errors import DataError

JsonOption = Annotated[Path | None, typer.Option("--json", help="Write all numbers there.")]


def write_json(path: Path, content: Any) -> None:
    """Write numbers, dataclasses among them, at once or not at all.

    Raises:
        DataError: The file cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(json.dumps(content, indent=2, default=asdict))
        part.replace(path)
    except OSError as error:
        raise DataError(f"--json {path}: cannot be written ({error.strerror})") from error
    typer.echo(f"all numbers in {path}")
