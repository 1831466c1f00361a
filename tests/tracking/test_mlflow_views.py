import base64
import json
import zlib

import pytest

from mono3d.tracking.mlflow_views import runs_view


def test_view_is_written_as_the_user_interface_reads_it() -> None:
    ((key, value),) = runs_view("ours", tags=["mining"], metrics=["core/mAP"]).items()
    view = json.loads(value)
    assert key == "mlflow.sharedViewState.mono3d"
    assert view["name"] == "ours"
    kind, _, packed = view["state"].partition(";")
    assert kind == "deflate"
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert state["selectedColumns"] == ["tags.`mining`", "metrics.`core/mAP`"]
    assert set(state["columnWidths"]) == set(state["selectedColumns"])


def test_a_view_that_mlflow_would_refuse_is_refused() -> None:
    names = [f"{i * 7919 % 100_003:x}" * 3 for i in range(2000)]
    with pytest.raises(ValueError, match="2000 columns are too many"):
        runs_view("wide", tags=[], metrics=names)
