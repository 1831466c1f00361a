"""`mono3d services`: the S3 server and the MLflow server on this machine."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mono3d.services.address import DEFAULT_DIRECTORY, RUNS_URI
from mono3d.services.environment import shell_lines
from mono3d.services.stack import Stack

app = typer.Typer(
    no_args_is_help=True,
    help="""Start and stop the S3 server and the MLflow server on this machine.

    Both are real servers that listen on 127.0.0.1 only and keep everything in one directory
    (runs/services): S3 objects in s3/, MLflow's database in mlflow/, their logs beside them. They
    run on after the command returns; started again they show the same runs and checkpoints.
    """,
)

DirectoryOption = Annotated[
    Path, typer.Option("--directory", "-d", file_okay=False, help="Where data, state and logs lie.")
]


@app.command()
def up(
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address the MLflow UI listens at; 127.0.0.1 unless given. MLflow has no "
            "passwords: 0.0.0.0 opens it to everyone who can reach this machine."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Port of the MLflow UI; the last one, or a free one, unless given.",
        ),
    ] = None,
) -> None:
    """Start both servers, or what of them does not run, and print the URL of the MLflow UI."""
    stack = Stack(directory)
    typer.echo("starting the S3 server and the MLflow server: 10 to 60 seconds", err=True)
    stack.start(host=host, port=port)
    for status in stack.status():
        page = _PAGES.get(status.name, "")
        typer.echo(
            f"{_TITLES[status.name]:<10} {status.address.url + page if status.address else ''}"
        )
    typer.echo(f"checkpoints below {RUNS_URI}, data and logs in {directory}")
    typer.echo(f"for this shell: {_eval_line(directory)}")
    typer.echo(f"stop: mono3d services down{_directory_option(directory)}")


@app.command()
def down(directory: DirectoryOption = DEFAULT_DIRECTORY) -> None:
    """Stop both servers; their data stay."""
    ended = Stack(directory).stop()
    names = " and ".join(_TITLES[name] for name in ended)
    typer.echo(f"stopped {names}" if ended else "nothing was running")


@app.command()
def status(directory: DirectoryOption = DEFAULT_DIRECTORY) -> None:
    """Say what runs, where, and where its log is; exit code 1 unless both are up."""
    found = Stack(directory).status()
    for service in found:
        url = service.address.url if service.address else "never started"
        pid = f"pid {service.pid}" if service.pid else ""
        typer.echo(f"{_TITLES[service.name]:<10} {service.condition:<14} {url} {pid}".rstrip())
        typer.echo(f"{'':<10} log {service.log}")
    if not all(service.is_up for service in found):
        raise typer.Exit(1)


@app.command()
def env(directory: DirectoryOption = DEFAULT_DIRECTORY) -> None:
    """Print the shell lines by which this shell's Ray, MLflow and boto3 find the servers.

    Use it as: eval "$(mono3d services env)". The lines hold the S3 secret.
    """
    typer.echo(shell_lines(Stack(directory).environment()), nl=False)


_TITLES = {"s3": "S3", "mlflow": "MLflow UI"}
_PAGES = {"mlflow": "/#/experiments?workflowType=machine_learning"}
"""What to open: without it MLflow begins as a tool for language models."""


def _directory_option(directory: Path) -> str:
    return "" if directory == DEFAULT_DIRECTORY else f" -d {shlex.quote(str(directory))}"


def _eval_line(directory: Path) -> str:
    return f'eval "$(mono3d services env{_directory_option(directory)})"'
