"""The `mono3d` command. A user's error is one line on stderr and exit code 2, never a traceback.

What it says of errors passes through `redact`.
"""

import logging
import sys
import traceback

import typer

from mono3d.cli import data, metrics, services, studies
from mono3d.cli.demo import demo
from mono3d.cli.doctor import doctor
from mono3d.cli.evaluate import evaluate
from mono3d.cli.predict import predict
from mono3d.cli.pseudo_label import pseudo_label
from mono3d.cli.study import study
from mono3d.cli.submit import submit
from mono3d.cli.train import train
from mono3d.cli.tune import tune
from mono3d.errors import Mono3dError
from mono3d.tracking.redact import redact

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
app.command(rich_help_panel="Runs")(submit)
app.add_typer(metrics.app, name="metrics", rich_help_panel="Runs")
app.add_typer(data.app, name="data", rich_help_panel="Data")
app.add_typer(services.app, name="services", rich_help_panel="This machine")
app.command(rich_help_panel="This machine")(doctor)


def main() -> None:
    """Run the command line; the exit code is 2 for what the user can mend."""
    handler = logging.StreamHandler()
    handler.setFormatter(_SafeLines("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        app()
    except Mono3dError as error:
        # Notes are advice to who gave the command; whoever writes errors down leaves them out.
        line = "; ".join([f"mono3d: {error}", *getattr(error, "__notes__", ())])
        typer.echo(redact(line), err=True)
        sys.exit(2)
    except Exception:  # a fault of ours; what libraries say of it may have credentials in it
        typer.echo(redact(traceback.format_exc()), err=True, nl=False)
        sys.exit(1)


class _SafeLines(logging.Formatter):
    """Log lines, of libraries too, with credentials hidden."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


if __name__ == "__main__":
    main()
