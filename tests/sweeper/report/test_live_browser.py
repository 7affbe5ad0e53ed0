"""The page of a running sweep in a headless Chromium."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page

import sweeper
from sweeper.report import live
from sweeper.report.server import serve_sweep
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.live import RunningTraining, write_live
from sweeper.run_folder.tables import finished
from tests.sweeper.cli.calls import write_preset
from tests.sweeper.report.watched import Watched

pytestmark = pytest.mark.browser

PATIENCE_MS = 120_000


@contextmanager
def watching(browser: Browser, folder: RunFolder) -> Iterator[Page]:
    """The page at 1280 pixels; at its end, nothing was complained of, and no other server was asked."""
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def fail(error: Error) -> None:
        complaints.append(str(error))

    with serve_sweep(folder, 0) as address, browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", listen)
        page.on("pageerror", fail)
        page.on("request", lambda request: None if request.url.startswith((address, "data:", "blob:"))
                else complaints.append(request.url))  # fmt: skip
        page.goto(address)
        page.wait_for_function("live !== null")
        yield page
    assert complaints == []


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Two trials finished, one left its race, one runs."""
    monkeypatch.setattr(live, "AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr(live, "FIGURES_SHARE", 0)
    watched = Watched(tmp_path / "run", search={"trials": 40})
    watched.controls()
    watched.trial(0, val_acc=0.9, val_asr=0.3)
    watched.trial(1, val_acc=0.8, val_asr=0.1)
    watched.race_out(watched.trial(2), 0.9)
    watched.train(watched.trial(3), ("badnets", 0), val_acc=0.7)
    return watched


def running(watched: Watched, epoch: int) -> None:
    write_live(watched.folder, [RunningTraining("t0003", "blend", 0, "10.0.0.1", epoch, "mix")])


@pytest.fixture
def page(browser: Browser, watched: Watched) -> Iterator[Page]:
    with RunFolder(watched.folder.path).lock():
        running(watched, 3)
        with watching(browser, watched.folder) as page:
            yield page


def trials(page: Page) -> str:
    return page.inner_text("#trials-text")


def wait_for(page: Page, condition: str) -> None:
    page.wait_for_function(condition)


def zoom(page: Page) -> list[float]:
    """Draw a box around a part of the chart; the ranges of its axes then."""
    page.locator("#frontier").scroll_into_view_if_needed()
    box = page.locator("#frontier .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] - 20, steps=5)
    page.mouse.up()
    page.wait_for_function("byId('frontier')._fullLayout.xaxis.range[1] < 0.8")
    return ranges(page)


def ranges(page: Page) -> list[float]:
    found: list[float] = page.evaluate(
        "[...byId('frontier')._fullLayout.xaxis.range, ...byId('frontier')._fullLayout.yaxis.range]"
    )
    return found


def test_it_says_how_the_sweep_stands(page: Page) -> None:
    assert page.inner_text("#word") == "running"
    assert trials(page) == "3 of 40 trials done"
    assert page.inner_text("#trainings-text") == "10 of 160 trainings done, 3 not needed"
    assert page.locator("#frontier .scatterlayer .points path.point").count() == 3, "two settings and the control"
    assert page.inner_text("#best").startswith(
        "Best accuracy with attack success (val_asr_excess) of at most 0.05: 0.8"
    )
    assert page.inner_text("#hosts .host").splitlines() == ["10.0.0.1 (1)", "t0003 blend, seed 0: epoch 3 (mix)"]
    assert "t0003: 1 of 4 trainings done, 1 running; so far val_acc 0.700" in page.inner_text("#open summary")
    assert page.inner_text("#reasons") == "1 × left its race: val_asr_excess is above the interest of 0.2"
    assert page.locator("#frontier .annotation-text").all_text_contents() == ["interest 0.5"]


def test_what_one_marked_zoomed_and_opened_stays_when_trials_come(page: Page, watched: Watched) -> None:
    page.locator("#open summary").click(position={"x": 5, "y": 8})
    page.locator("#ended-details summary").click()
    page.locator("#best button").first.click()
    assert page.inner_text("#marked b") == "config1"
    assert "t0001" in page.inner_text("#marked")
    before = zoom(page)
    page.evaluate("scrollTo(0, 500)")
    page.evaluate("byId('open').firstChild.dataset.same = 'yes'")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#open summary .what'))")
    selected = page.evaluate("getSelection().toString()")
    watched.trial(4, val_acc=0.85, val_asr=0.2)
    watched.race_out(watched.trial(5), 0.8)
    running(watched, 9)
    wait_for(page, "byId('trials-text').textContent.startsWith('5 of 40')")
    wait_for(page, "byId('hosts').textContent.includes('epoch 9')")
    assert page.evaluate("data.points.length") == 3
    assert ranges(page) == before
    assert page.inner_text("#marked b") == "config1"
    assert page.locator("#frontier .scatterlayer .trace").count() == 3, "frontier, control and the marked one"
    assert page.locator("#open details[open]").get_attribute("data-same") == "yes"
    assert page.evaluate("byId('ended-details').open") is True
    assert page.locator("#ended button").all_inner_texts() == ["t0005", "t0002"]
    assert page.evaluate("scrollY") == 500
    assert page.evaluate("getSelection().toString()") == selected != ""
    page.locator("#marked button").click()
    assert page.locator("#marked").is_hidden()


def test_a_click_on_a_point_marks_its_setting(page: Page) -> None:
    page.locator("#frontier").scroll_into_view_if_needed()
    page.locator("#frontier .trace.scatter .points path.point").first.click(force=True)
    wait_for(page, "marked !== null")
    assert page.inner_text("#marked b") in ("config0", "config1")


def test_the_attacker_that_one_chose_stays_chosen(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "AGAIN_AFTER_S", 0.0)
    watched = Watched(tmp_path / "run", scenarios=[{"attack": "badnets", "poison_rate": {"categorical": [0.1, 0.2]}}])

    def at(number: int, rate: float) -> None:
        record = watched.trial(number)
        assert record.config is not None
        (scenario,) = record.config.scenarios
        object.__setattr__(scenario, "poison_rate", rate)
        record.end("FINISHED")
        watched.write(record)

    at(0, 0.1)
    at(1, 0.2)
    with RunFolder(watched.folder.path).lock(), watching(browser, watched.folder) as page:
        page.select_option("#environment", "poison_rate=0.2")
        at(2, 0.2)
        wait_for(page, "data.points.length === 3")
        assert page.input_value("#environment") == "poison_rate=0.2"
        assert page.evaluate("environment") == "poison_rate=0.2"


def test_the_best_settings_are_said_again_after_an_environment_without_any(page: Page) -> None:
    first, none, again = page.evaluate(
        """() => ["a", "b", "a"].map((name) => {
            live.summary.best = { a: [{ level: 0.1, config_id: "config1", acc: 0.8 }], b: [{ level: 0.1 }] };
            environment = name;
            best();
            return byId("best").textContent;
        })"""
    )
    assert first == again
    assert first.endswith("of at most 0.1: 0.800 by config1.")
    assert none == "No setting keeps attack success (val_asr_excess) at 0.2 or below yet."


def test_a_trial_that_was_refused_cannot_be_marked(browser: Browser, watched: Watched) -> None:
    refused = watched.trial(6)
    refused.config, refused.trainings, refused.controls, refused.config_id = None, {}, {}, None
    refused.end("FAILED", "It is not valid.")
    watched.write(refused)
    with RunFolder(watched.folder.path).lock(), watching(browser, watched.folder) as page:
        page.locator("#ended-details summary").click()
        rows = page.locator("#ended tr")
        assert rows.locator("td:first-child").all_inner_texts() == ["t0006", "t0002"]
        assert rows.locator("button").all_inner_texts() == ["t0002"]


def test_what_others_wrote_is_text(browser: Browser, watched: Watched) -> None:
    record = watched.trial(6)
    record.end("FAILED", "<img src=x onerror=alert(1)>")
    watched.write(record)
    with RunFolder(watched.folder.path).lock(), watching(browser, watched.folder) as page:
        assert "<img src=x" in page.inner_text("#reasons")
        assert page.locator("#reasons img").count() == 0


def test_it_says_when_nobody_answers_and_goes_on_when_somebody_does(page: Page) -> None:
    page.evaluate("window.ask_as_before = ask; ask = async () => null")
    wait_for(page, "byId('word').textContent === 'not connected'")
    assert trials(page) == "3 of 40 trials done", "what was known stays"
    page.evaluate("ask = window.ask_as_before")
    wait_for(page, "byId('word').textContent === 'running'")


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_screen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.locator("#open summary").click(position={"x": 5, "y": 8})
    page.locator("#ended-details summary").click()
    page.locator("#best button").first.click()
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A sweep of six short trials in a process of its own."""
    preset = write_preset(tmp_path / "preset.yaml", search={"sampler": "random", "trials": 6, "workers": 1})
    environment = os.environ | {
        "PYTHONPATH": str(Path(sweeper.__file__).parents[1]), "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }  # fmt: skip
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "sweeper", "run", preset, "--out", str(tmp_path / "run")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path)
    yield process
    process.send_signal(signal.SIGCONT)
    process.terminate()
    process.wait(120)


def until(holds: Callable[[], Any], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not holds():
        assert process.poll() is None, log.read_text(encoding="utf-8")[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.ray
@pytest.mark.long
def test_a_sweep_is_watched_from_its_begin_to_its_report(
    browser: Browser, tmp_path: Path, driver: subprocess.Popen[bytes]
) -> None:
    """The driver is halted after its first trial, so that there is time to look."""
    path, log = tmp_path / "run", tmp_path / "log"
    until(lambda: (path / "trials.parquet").exists(), driver, log)
    folder = RunFolder.open(path)
    with watching(browser, folder) as page:
        assert page.inner_text("#word") == "running"
        assert trials(page) == "0 of 6 trials done"
        until(lambda: len(finished(folder.read_trials())), driver, log)
        driver.send_signal(signal.SIGSTOP)
        wait_for(page, "data.points.length > 0")
        done, address = page.evaluate("data.points.length"), page.url
        assert 0 < page.evaluate("live.trials[0]") < 6
        page.evaluate("mark(data.points[0].config_id)")
        marked = page.inner_text("#marked b")
        before = zoom(page)
        driver.send_signal(signal.SIGCONT)
        wait_for(page, f"data.points.length > {done}")
        assert page.inner_text("#marked b") == marked
        assert ranges(page) == before
        wait_for(page, "document.getElementById('settings') !== null")
        assert page.url == address
        assert page.title() == "small - robustness report"
    assert not folder.live.exists()
