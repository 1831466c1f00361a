"""What a run asks of its store, and what goes wrong with stores: every pair, and nothing is lost.

A lasting fault ends in one line in bounded time; what was stored before stays whole, what was on
its way is not seen, and the same call succeeds once the fault is gone. A passing one is waited for.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mono3d.errors import StorageAwayError, StorageError
from mono3d.storage import patience, s3
from tests.support.s3_proxy import Fault, Harm, S3Proxy, s3_proxy
from tests.support.stored_run import OPERATIONS, PATIENT, Run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

FOR_EVER = 10_000
HARMS: dict[Harm, str] = {
    "closed": "the connection was cut",
    "cut": "the connection was cut",
    "silent": "no answer in time",
    "500": "the store itself failed",
    "503": "the store itself failed",
    "403": "access denied",
}


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WAITS_S", (0.02,))
    monkeypatch.setattr(s3, "_ANSWER_S", 0.4)


@pytest.fixture
def run(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    return Run(location=f"{store}/faults/{name}", local=tmp_path).begin()


@pytest.fixture
def proxy(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Between this process and the store."""
    with s3_proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fault_that_lasts(operation: str, harm: Harm, run: Run, proxy: S3Proxy) -> None:
    # A store that takes nothing more still gives.
    kinds = ("PUT", "POST", "DELETE") if harm == "403" else ("GET", "HEAD", "PUT", "POST", "DELETE")
    if harm == "403" and operation in {"find_newest", "load", "go_on"}:
        kinds = ("GET",)
    proxy.fault = Fault(harm, FOR_EVER, kinds)
    with pytest.raises(StorageError) as caught:
        OPERATIONS[operation](run)
    assert HARMS[harm] in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert isinstance(caught.value, StorageAwayError) == (harm != "403")
    assert proxy.harmed
    proxy.fault = None
    run.assert_nothing_is_lost()
    OPERATIONS[operation](run)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nobody_answers(operation: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        with pytest.raises(StorageAwayError, match="nobody answers there"):
            OPERATIONS[operation](run)
    run.assert_nothing_is_lost()
    OPERATIONS[operation](run)


@pytest.mark.parametrize("harm", [harm for harm in HARMS if harm != "403"])
@pytest.mark.parametrize("operation", PATIENT)
def test_a_fault_that_passes_is_waited_for(
    operation: str, harm: Harm, run: Run, proxy: S3Proxy
) -> None:
    proxy.fault = Fault(harm, 4)
    OPERATIONS[operation](run)
    assert proxy.harmed == 4
    assert any("trying again in" in line for line in run.lines)
    whole = run.checkpoint(1)  # that no fault of the store's makes a bad one
    assert not [line for line in run.lines if line.startswith(f"passed over: {whole}")]
    if operation != "upload":
        run.assert_nothing_is_lost()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_slow_store_is_only_slow(operation: str, run: Run, proxy: S3Proxy) -> None:
    proxy.fault = Fault("slow", FOR_EVER)
    OPERATIONS[operation](run)
    assert not [line for line in run.lines if "trying again" in line]
