"""`mono3d train`: one run, on Ray or in this process, or a profile of its first steps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mono3d.cli.options import OverridesArgument, RecipeArgument

if TYPE_CHECKING:
    from mono3d.config.schema import RunConfig


def train(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the run; the same name resumes it. Default: the recipe's."),
    ] = None,
    local: Annotated[
        bool,
        typer.Option("--local", help="In this process, without Ray, MLflow and S3."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")
    ] = False,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            help="Take some steps from a fresh start, say where their time goes, and stop. The run "
            "itself is left as it is.",
        ),
    ] = False,
    profile_steps: Annotated[int, typer.Option(min=1, help="Steps that --profile looks at.")] = 10,
) -> None:
    """Train a recipe, or go on with the run of this name from its last checkpoint.

    Ray is started on this machine, or joined where RAY_ADDRESS or a Ray job says so. Metrics go to
    MLFLOW_TRACKING_URI if that is set; checkpoints to cluster.storage, a folder or s3:// prefix.
    """
    from mono3d.config.load import dump_yaml, load_recipe

    config = load_recipe(recipe, overrides or [])
    run_name = name or Path(recipe).stem
    if dry_run:
        typer.echo(dump_yaml(config), nl=False)
    elif profile:
        _profile(config, run_name, steps=profile_steps, is_local=local)
    else:
        _train(config, run_name, recipe=Path(recipe).stem, is_local=local)


def _train(config: "RunConfig", run_name: str, *, recipe: str, is_local: bool) -> None:
    from mono3d.training.progress_display import ProgressDisplay  # torch takes a second

    with ProgressDisplay(epochs=config.train.epochs, metric=config.checkpoint.metric) as sink:
        if is_local:
            from mono3d.training.local import train_locally

            result = train_locally(config, name=run_name, sink=sink)
        else:
            from mono3d.training.tracked import train_tracked

            result, _ = train_tracked(config, name=run_name, sink=sink, recipe=recipe)
    typer.echo(f"run        {result.name}, {result.steps} steps")
    shown = (config.checkpoint.metric, "val/nuscenes_nds", "val/centers_depth_abs_rel")
    for metric in dict.fromkeys(shown):
        if metric in result.metrics:
            typer.echo(f"{metric:<32} {result.metrics[metric]:.4f}")
    typer.echo(f"checkpoint {result.best_checkpoint}")
    if result.run_id:
        typer.echo(f"MLflow run {result.run_id}")


def _profile(config: "RunConfig", run_name: str, *, steps: int, is_local: bool) -> None:
    from mono3d.storage.location import join, local_copy
    from mono3d.training.progress_display import Lines
    from mono3d.training.step_profile import TRACE, read_profile, tables

    if is_local:
        from mono3d.training.profiling import profile_locally

        location = profile_locally(config, name=run_name, steps=steps)
    else:
        from mono3d.training.tracked import profile_tracked

        location = profile_tracked(config, name=run_name, steps=steps, sink=Lines())
    with local_copy(location) as folder:
        Console().print(*tables(read_profile(folder)), sep="\n")
    typer.echo(f"{join(location, TRACE)}: open it in ui.perfetto.dev")
