"""A network as a folder that `mlflow.pytorch.load_model` reads, without pickle."""

import threading
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mono3d.tracking import mlflow_environment  # noqa: F401

# isort: split
import mlflow.pytorch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

_one_saves = threading.Lock()
"""What is patched and silenced meanwhile is the whole process's, not a thread's."""


def save_model(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    folder: Path,
    metadata: Mapping[str, str],
) -> None:
    """Export `network` with `torch.export` and save it as an MLflow model (format pt2).

    What is loaded is called like the network, positionally, in the order of `inputs`, on the
    device the network is on; mappings, tuples and lists of tensors come back as such.

    Args:
        network: In evaluation mode; its forward takes tensors only.
        inputs: An example of each input by name, in the order of forward. The first axis is the
            batch and stays free when the examples have two or more samples and the network
            allows it; every other size is fixed.
        folder: Written to; must be empty or absent.
        metadata: Kept with the model.

    Raises:
        Exception: Whatever torch.export raises for a network that it cannot trace.
    """
    with _one_saves, warnings.catch_warnings():
        # Tensors that are views of one storage are saved right on the CPU, where the network is.
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        mlflow.pytorch.save_model(
            network,
            str(folder),
            input_example=tuple(inputs.values()),
            signature=ModelSignature(inputs=Schema([_spec(*item) for item in inputs.items()])),
            serialization_format="pt2",
            # Given, so that MLflow does not start a process to find them out.
            pip_requirements=[f"torch=={_torch_release()}", f"mlflow=={mlflow.__version__}"],
            metadata=dict(metadata),
        )


def _spec(name: str, example: Tensor) -> TensorSpec:
    dtype = np.dtype(str(example.dtype).removeprefix("torch."))
    return TensorSpec(dtype, (-1, *example.shape[1:]), name=name)


def _torch_release() -> str:
    """Without the build's local label (`+cpu`), which other machines may not find."""
    return str(torch.__version__).split("+")[0]
