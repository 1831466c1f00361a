"""Arguments that several commands share."""

from typing import Annotated

import typer

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or path of a YAML file.")
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PATH=VALUE]...", help="Keys to change, such as optim.lr=3e-4."),
]
