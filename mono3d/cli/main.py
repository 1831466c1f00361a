"""The `mono3d` command. A user's error is one line on stderr and exit code 2, never a traceback."""

import logging
import sys

import typer

from mono3d.cli import data, metrics, services, studies
from mono3d.cli.demo import demo
from mono3d.cli.doctor import doctor
from mono3d.cli.evaluate import evaluate
from mono3d.cli.predict import predict
from mono3d.cli.pseudo_label import pseudo_label
from mono3d.cli.study import study
from mono3d.cli.train import train
from mono3d.cli.tune import tune
from mono3d.errors import Mono3dError

app = typer.Typer(
    name="mono3d",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""Train, evaluate and compare monocular 3D detectors.

    A RECIPE is the name of a shipped one or the path of a YAML file; PATH=VALUE overrides any of
    its keys, such as `optim.lr=3e-4` or `mining.kind=none`.
    """,
)
app.command(rich_help_panel="Runs")(train)
app.command(rich_help_panel="Runs")(evaluate)
app.command(rich_help_panel="Runs")(predict)
app.command(rich_help_panel="Runs")(pseudo_label)
app.command(rich_help_panel="Runs")(study)
app.command(rich_help_panel="Runs")(tune)
app.add_typer(studies.app, name="studies", rich_help_panel="Runs")
app.command(rich_help_panel="Runs")(demo)
app.add_typer(metrics.app, name="metrics", rich_help_panel="Runs")
app.add_typer(data.app, name="data", rich_help_panel="Data")
app.add_typer(services.app, name="services", rich_help_panel="This machine")
app.command(rich_help_panel="This machine")(doctor)


def main() -> None:
    """Run the command line; the exit code is 2 for what the user can mend."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        app()
    except Mono3dError as error:
        # Notes are advice to who gave the command; whoever writes errors down leaves them out.
        typer.echo("; ".join([f"mono3d: {error}", *getattr(error, "__notes__", ())]), err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
