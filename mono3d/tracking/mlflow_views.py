"""A view of an experiment as MLflow's page of runs saves it; there is no public call for this.

Read from what MLflow 3.17 stores when a user saves one; `tests/integration/test_mlflow_ui.py`
opens ours in a browser.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence

VIEW_KEY = "mono3d"
"""Of the link: `/#/experiments/<id>/runs?viewStateShareKey=mono3d`."""

COMPARED_TAGS = ("recipe", "mining", "distillation", "detector", "iou_loss", "dataset")
"""What runs are told apart by, in the order of their columns."""

STUDY_TAGS = ("variant", "seed", "trial", "trial.state")
"""What the runs of a study or a search are told apart by; others do not have these."""

_TAG_PREFIX = "mlflow.sharedViewState."
_TAG_LENGTH = 5000
_NARROW_PX, _WIDE_PX = 110, 190
_WIDE_FROM = 16


def runs_view(name: str, *, tags: Sequence[str], metrics: Sequence[str]) -> dict[str, str]:
    """The experiment tag that puts a view into the menu Views: its table has these columns.

    Args:
        name: In the menu.
        tags: Of runs.
        metrics: Of runs; a column that no run has is not shown.

    Raises:
        ValueError: There are so many that MLflow would refuse the tag.
    """
    columns = {_column("tags", tag): tag for tag in tags}
    columns |= {_column("metrics", metric): metric for metric in metrics}
    state = {
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "selectedColumns": list(columns),
        "columnOrder": list(columns),
        "columnWidths": {key: _width_px(title) for key, title in columns.items()},
        "hideEmptyCharts": True,
    }
    value = json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": _packed(state)})
    if len(value) > _TAG_LENGTH:
        raise ValueError(f"view {name!r}: {len(columns)} columns are too many")
    return {f"{_TAG_PREFIX}{VIEW_KEY}": value}


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _width_px(title: str) -> int:
    return _WIDE_PX if len(title) >= _WIDE_FROM else _NARROW_PX


def _packed(state: Mapping[str, object]) -> str:
    text = json.dumps(state).encode()
    return f"deflate;{base64.b64encode(zlib.compress(text)).decode()}"
