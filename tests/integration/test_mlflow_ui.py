"""Two real runs, compared in MLflow's pages by a real browser, as a user would.

`MONO3D_SCREENSHOTS=folder` keeps pictures of what the browser saw.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from mono3d.config.load import load_recipe
from mono3d.tracking.mlflow_views import COMPARED_TAGS, VIEW_KEY
from mono3d.training.progress import NoDisplay
from mono3d.training.ray_session import ray_session
from mono3d.training.run_record import RunResult
from mono3d.training.tracked import train_tracked
from tests.support.kitti_folder import write_kitti

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.services,
    pytest.mark.ray,
    # Ray Data, which Ray Train sets up, warns of its own settings.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="chromium or chromedriver is not there (Debian: chromium, chromium-driver)",
    ),
]

MINING = {
    "with-gmm": ("mining.kind=gmm", "mining.warmup_epochs=0", "mining.ramp_epochs=0"),
    # Six steps with other weights differ by less than the page shows; another start does not.
    "without-mining": ("mining.kind=none", "seed=1"),
}
"""Runs by name, and what they differ in."""
SEEN = (
    "core/depth_error", "depth_by_class/Car", "depth_by_class/Pedestrian", "depth_by_range/00_10m",
    "depth_by_range/50m_up",
)  # fmt: skip
"""Of what the folder holds: a car far away and a pedestrian near by."""
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def tracking_uri(stack: Mapping[str, str]) -> str:
    return stack["MLFLOW_TRACKING_URI"]


@pytest.fixture(scope="module")
def runs(
    stack: Mapping[str, str], tracking_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Run]:
    """What MLflow knows of two runs that were trained side by side, by their names."""
    folder = tmp_path_factory.mktemp("compared")
    root = write_kitti(folder / "kitti")
    shrunk = (
        f"data.root={root}", "train.epochs=2", "train.batch_size=1", "evaluation.every_epochs=1",
        "evaluation.at_start=true", "train.log_every_steps=2", "input.image_height_px=64",
        "input.image_width_px=192", "model.backbone.width=16", "model.channels=8",
        "cluster.cpus_per_worker=1", "tracking.experiment=compared",
    )  # fmt: skip

    def train(name: str) -> RunResult:
        config = load_recipe("kitti_overfit", [*shrunk, *MINING[name]])
        result, _ = train_tracked(
            config, name=name, sink=NoDisplay(), recipe="kitti_overfit", exports_network=False
        )
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in stack.items():
            patch.setenv(name, value)
        cluster = load_recipe("kitti_overfit", shrunk).cluster
        with ray_session(cluster, has_dashboard=False), ThreadPoolExecutor(2) as threads:
            results = list(threads.map(train, MINING))
    client = MlflowClient(tracking_uri)
    return {result.name: client.get_run(str(result.run_id)) for result in results}


class Browser:
    """A window on one MLflow server."""

    def __init__(self, driver: Chrome, tracking_uri: str, pictures: Path) -> None:
        self._driver = driver
        self._tracking_uri = tracking_uri
        self._pictures = pictures

    def open(self, page: str) -> None:
        """Load a page anew: going from hash to hash would keep parts of the last one."""
        self._driver.get("about:blank")
        self._driver.get(f"{self._tracking_uri}/#{page}")

    def wait_for(self, *texts: str) -> str:
        """All text of the page, once it has these."""

        def has_all() -> bool:
            return all(text in self.text for text in texts)

        self._wait(has_all, f"{texts} in the page")
        return self.text

    def find(self, xpath: str) -> WebElement:
        """The first element, once there is one."""
        self._wait(lambda: self._driver.find_elements(By.XPATH, xpath), xpath)
        return self._driver.find_elements(By.XPATH, xpath)[0]

    def click(self, xpath: str) -> None:
        """Click, once it can be clicked."""
        self._wait(lambda: self._clicked(xpath), f"a click on {xpath}")

    def scroll_to(self, xpath: str, *, to: str = "start") -> None:
        self._driver.execute_script(
            "arguments[0].scrollIntoView({block: arguments[1]})", self.find(xpath), to
        )

    def picture(self, name: str) -> None:
        self._driver.save_screenshot(str(self._pictures / f"{name}.png"))

    @property
    def text(self) -> str:
        return str(self._driver.execute_script("return document.body.innerText"))

    def _clicked(self, xpath: str) -> bool:
        # Selenium refuses while something lies above the element, or React replaces it.
        try:
            self._driver.find_element(By.XPATH, xpath).click()
        except Exception:
            return False
        return True

    def _wait(self, condition: Callable[[], object], what: str) -> None:
        try:
            WebDriverWait(self._driver, PATIENCE_S).until(lambda _: condition())
        except TimeoutException:
            self.picture("timed_out")
            pytest.fail(f"waited in vain for {what}; the page says:\n{self.text[:3000]}")


@pytest.fixture(scope="module")
def browser(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    pictures = Path(os.environ.get("MONO3D_SCREENSHOTS") or tmp_path_factory.mktemp("pictures"))
    pictures.mkdir(parents=True, exist_ok=True)
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--window-size=1600,1400",
    ):  # fmt: skip
        options.add_argument(argument)
    driver = Chrome(options=options, service=Service(str(DRIVER)))
    # As somebody who has closed the assistant, which takes a third of the window at first, and
    # has chosen "Model training".
    choices = {
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
        "mlflow.workflowType_v1": '"machine_learning"',
    }
    for key, value in choices.items():
        source = f"localStorage.setItem({key!r}, {value!r})"
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    try:
        yield Browser(driver, tracking_uri, pictures)
    finally:
        driver.quit()


def experiment_page(run: Run, **query: str) -> str:
    options = "&".join(f"{key}={value}" for key, value in query.items())
    return f"/experiments/{run.info.experiment_id}/runs?{options}"


def row_of(name: str) -> str:
    return f"//*[@role='row'][.//a[normalize-space()='{name}']]"


def columns(text: str) -> list[str]:
    """Names of the runs on the page of a comparison, from left to right."""
    row = text[text.index("Run Name:") : text.index("Start Time:")].removeprefix("Run Name:")
    return row.split()


def compared_metrics(text: str) -> dict[str, tuple[float, ...]]:
    """Values of metrics on that page, where names and values are two tables side by side."""
    shown = text[text.index("\nMetrics\n") : text.index("\nArtifacts\n")].splitlines()
    names = [line for line in shown if "/" in line]
    values = [float(line) for line in shown[shown.index(names[-1]) + 1 :]]
    return dict(zip(names, zip(values[::2], values[1::2], strict=True), strict=True))


def test_two_runs_are_compared(browser: Browser, runs: Mapping[str, Run]) -> None:
    browser.open(experiment_page(next(iter(runs.values()))))
    browser.wait_for(*runs)
    browser.picture("runs")
    for name in runs:
        browser.click(f"{row_of(name)}//input[contains(@class, 'ag-checkbox-input')]")
    browser.click("//button[normalize-space()='Compare']")
    text = browser.wait_for("Comparing 2 Runs", *runs, *SEEN)
    browser.picture("comparison_top")
    browser.scroll_to("//*[normalize-space(text())='Metrics']")
    browser.picture("comparison_metrics")
    browser.scroll_to("//*[normalize-space(text())='Tags']", to="center")
    browser.picture("comparison_tags")
    assert set(columns(text)) == set(runs)
    shown = compared_metrics(text)
    for metric in SEEN:
        logged = [runs[name].data.metrics[metric] for name in columns(text)]
        assert shown[metric] == pytest.approx(logged, rel=1e-3, abs=6e-4), metric
    # Or the page could show one run twice.
    assert len(set(shown["core/depth_error"])) == 2


def test_charts_begin_with_what_is_looked_at_first(
    browser: Browser, runs: Mapping[str, Run]
) -> None:
    browser.open(experiment_page(runs["with-gmm"], compareRunsMode="CHART"))
    sections = ("core", "depth_by_class", "depth_by_range", "loss", "mining", "train", "val")
    text = browser.wait_for("core/depth_error", *sections, *runs)
    browser.picture("charts_top")
    titles = [line for line in text.splitlines() if line in sections]
    assert titles == list(sections)
    browser.scroll_to("//*[normalize-space(text())='depth_by_range']")
    browser.wait_for("depth_by_range/00_10m", "depth_by_range/50m_up")
    browser.picture("charts_by_range")


def test_a_page_of_a_run_says_what_it_is_and_how_good(
    browser: Browser, runs: Mapping[str, Run]
) -> None:
    run = runs["with-gmm"]
    browser.open(f"/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")
    depth_error = run.data.metrics["core/depth_error"]
    tags = ("recipe", "kitti_overfit", "mining", "gmm", "distillation", "detector", "center")
    browser.wait_for(f"depth error {depth_error:.3g}", "Recipe kitti_overfit: center", *tags)
    browser.picture("run")
    browser.click("//button[normalize-space()='Show more']")
    browser.wait_for(f"mono3d evaluate {run.info.run_id}")
    browser.picture("run_description")


def test_the_view_of_the_menu_has_the_tags_as_columns(
    browser: Browser, runs: Mapping[str, Run]
) -> None:
    browser.open(experiment_page(runs["with-gmm"]))
    browser.wait_for(*runs)
    browser.click("//button[normalize-space()='Views']")
    browser.click("//*[@role='menuitem' or @role='option'][contains(., 'mono3d')]")
    text = browser.wait_for("core/depth_error", *COMPARED_TAGS)
    browser.picture("view")
    assert text.count("kitti_overfit") == len(runs)
    browser.open(experiment_page(runs["with-gmm"], viewStateShareKey=VIEW_KEY))
    browser.wait_for("core/depth_error", *COMPARED_TAGS)
