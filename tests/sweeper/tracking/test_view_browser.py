"""The saved view of a sweep in MLflow's UI, in a headless Chromium: its format is MLflow's own, and may change."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from sweeper.run_folder.folder import RunFolder
from sweeper.tracking import ui
from sweeper.tracking.sweep_run import Tracker
from sweeper.tracking.view import link_to_view
from tests.servers import PATIENCE_S
from tests.sweeper.small import finish, fresh_store, record_of, sweep_with

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1280, "height": 1300})
        browser.close()


def tracked(uri: str, path: Path, trials: int) -> None:
    """A sweep in the store: its own run, a control, and trials."""
    sweep = sweep_with(path.name)
    tracker = Tracker(uri, RunFolder(path), sweep, lambda *_: [])
    control = finish(record_of("c0000", "control"), val_asr=1.0)
    for record in (control, *(finish(record_of(f"t{n:04d}"), val_acc=0.9 - n / 10) for n in range(trials))):
        tracker.trial_ended(record, record.rows({}))
    tracker.sweep_ended([], {}, "FINISHED")
    assert tracker.behind == []


@pytest.mark.long
def test_the_link_opens_charts_of_one_sweeps_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Page
) -> None:
    monkeypatch.setattr(ui, "SECONDS_TO_START", PATIENCE_S)
    uri = fresh_store(tmp_path / "mlflow.db")
    tracked(uri, tmp_path / "one", 3)
    tracked(uri, tmp_path / "other", 2)
    with ui.serve_mlflow(uri, 0) as address:
        link = link_to_view(uri, sweep_with("one"), address)
        assert link is not None
        page.goto(link, timeout=PATIENCE_S * 1000)
        scatter = page.locator(".js-plotly-plot")
        expect(scatter.locator(".xtitle")).to_have_text("final/val_asr_excess", timeout=PATIENCE_S * 1000)
        expect(scatter.locator(".ytitle")).to_have_text("final/val_acc")
        expect(scatter.locator(".scatterlayer .point")).to_have_count(3)  # neither the parent nor the control
        for parameter in ("defense.threshold", "defense.mixing"):  # of the parallel coordinates
            expect(page.locator("svg").get_by_text(parameter, exact=True)).to_be_visible(timeout=PATIENCE_S * 1000)
        # MLflow's menu of saved views names it by the run folder.
        expect(page.locator('[data-component-id="mlflow.experiment_page.saved_views.trigger"]')).to_have_text("one")
