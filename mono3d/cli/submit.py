"""`mono3d submit`: a command of mono3d as a job on a Ray cluster."""

from pathlib import Path
from typing import Annotated

import typer

RUNTIME_ENV = Path("cluster/runtime_env.yaml")


def submit(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="-- COMMAND...", help="Of mono3d: -- train RECIPE PATH=VALUE, -- tune ..."
        ),
    ],
    address: Annotated[
        str,
        typer.Option(help="Of Ray's dashboard.", envvar="RAY_API_SERVER_ADDRESS"),
    ] = "http://127.0.0.1:8265",
    job: Annotated[
        str | None,
        typer.Option("--id", help="Name of the job, used once. Default: Ray finds one."),
    ] = None,
    working_dir: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="Folder to upload, where the job starts."),
    ] = Path(),
    runtime_env: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help=f"Ray's YAML file. Default: {RUNTIME_ENV} in the folder, if it is there.",
        ),
    ] = None,
    code: Annotated[
        bool,
        typer.Option(
            "--code",
            help="Upload the folder's mono3d/ too (2 MB): it runs, not the one installed there.",
        ),
    ] = False,
    num_cpus: Annotated[
        float,
        typer.Option(
            "--entrypoint-num-cpus",
            min=0,
            help="For the command itself, beside its workers; with 0 it runs on the head.",
        ),
    ] = 0,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Show its output until it is over.")
    ] = True,
) -> None:
    """Run a command of mono3d as a job on a Ray cluster where mono3d is installed.

    The same as `ray job submit --working-dir . -- mono3d ...`, with the job's own exit code: 130
    where it was stopped. Ctrl-C ends this command and not the job.
    """
    from mono3d.training.submission import JobOrder, Jobs

    default = working_dir / RUNTIME_ENV
    jobs = Jobs(address)
    name = jobs.submit(
        JobOrder(
            command=command,
            working_dir=working_dir,
            runtime_env=runtime_env or (default if default.is_file() else None),
            uploads_code=code,
            submission_id=job,
            num_cpus=num_cpus,
        )
    )
    typer.echo(f"job {name} at {jobs.address}", err=True)
    if not wait:
        return
    try:
        end = jobs.follow(name, lambda lines: typer.echo(lines, nl=False))
    except KeyboardInterrupt:
        where = f"--address {jobs.address} {name}"
        typer.echo(
            f"\njob {name} goes on: ray job logs --follow {where}, ray job stop {where}", err=True
        )
        raise typer.Exit(130) from None
    typer.echo(f"job {name} {end.status.lower()}: {end.message}", err=True)
    raise typer.Exit(end.exit_code)
