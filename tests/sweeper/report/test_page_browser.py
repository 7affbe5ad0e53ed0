"""The page in a headless Chromium."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page

from sweeper.report.page import rewrite_report
from sweeper.run_folder.certificate import write_certificate
from sweeper.run_folder.folder import RunFolder
from tests.sweeper.certificates import certificate_of, setting_named, step
from tests.sweeper.report.test_page import written
from tests.sweeper.small import control_row, row_with

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty settings, two poison rates, two scenarios, three seeds; of ten settings the last was certified."""
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = [
        control_row(trial=f"c{i}", scenario=s, poison_rate=r, seed=seed, val_asr=0.98)
        for i, (s, r, seed) in enumerate((s, r, d) for s in ("badnets", "blend") for r in (0.05, 0.1) for d in range(3))
    ]
    for number in range(30):
        threshold, weight = random.uniform(0.1, 0.5), random.uniform(0, 1)
        for scenario in ("badnets", "blend"):
            for seed in range(3):
                rows.append(
                    row_with(
                        f"t{number:04d}", f"config{number}", scenario=scenario, seed=seed,
                        poison_rate=(0.05, 0.1)[number % 2],
                        val_acc=float(np.clip(0.9 - threshold / 2 + random.normal(0, 0.02), 0, 1)),
                        val_asr=float(np.clip(0.6 - threshold - weight / 5 + random.normal(0, 0.02), 0, 1)),
                        **{"param.defense.threshold": threshold, "param.defense.late_weight": weight},
                    )
                )  # fmt: skip
    folder = tmp_path_factory.mktemp("page") / "run"
    written(folder, rows)
    steps = [step(n, candidate=candidate, loss=float(n > 2)) for candidate in range(9) for n in range(5)]
    steps += [step(n, candidate=9) for n in range(40)]
    write_certificate(folder, certificate_of(steps, 9, candidates=[setting_named(f"config{n}") for n in range(10)]))
    return rewrite_report(RunFolder(folder))


@pytest.fixture
def page(browser: Browser, page_file: Path) -> Iterator[Page]:
    """The page at 1280 pixels; at its end, nothing was complained of and nothing was fetched."""
    with browser.new_context(viewport={"width": 1280, "height": 900}, offline=True) as context:
        page = context.new_page()
        complaints: list[str] = []

        def listen(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                complaints.append(message.text)

        def fail(error: Error) -> None:
            complaints.append(str(error))

        page.on("console", listen)
        page.on("pageerror", fail)
        page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:"))
                else complaints.append(request.url))  # fmt: skip
        page.goto(page_file.as_uri())
        page.wait_for_selector("#frontier .points path")
        yield page
        assert complaints == []


def rows(page: Page) -> list[str]:
    return page.locator("#settings tbody tr td:first-child").all_inner_texts()


def test_hovering_a_point_tells_its_setting(page: Page) -> None:
    page.locator("#frontier .trace.scatter .points path.point").first.hover(force=True)
    label = page.locator("#frontier .hoverlayer").text_content() or ""
    assert "config" in label
    assert "val_acc" in label
    assert "threshold" in label


def test_a_box_around_points_filters_the_table_and_a_double_click_frees_it(page: Page) -> None:
    assert len(rows(page)) == 15
    page.locator("#frontier").scroll_into_view_if_needed()
    box = page.locator("#frontier .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.28, box["y"] + box["height"] - 4, steps=5)
    page.mouse.up()
    page.wait_for_function("document.querySelectorAll('#settings tbody tr').length < 15")
    assert 0 < len(rows(page)) < 15
    page.mouse.dblclick(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5)
    page.wait_for_function("document.querySelectorAll('#settings tbody tr').length === 15")


def test_words_the_frontier_box_and_the_attacker_filter_the_table(page: Page) -> None:
    page.fill("#find", "t0004")
    assert rows(page) == ["config4"]
    assert page.inner_text("#count") == "1 of 15 settings"
    page.fill("#find", "")
    page.check("#front-only")
    frontier = rows(page)
    assert 0 < len(frontier) < 15
    page.uncheck("#front-only")
    page.select_option("#environment", "poison_rate=0.1")
    assert {int(name.removeprefix("config")) % 2 for name in rows(page)} == {1}


def test_a_click_on_a_head_sorts(page: Page) -> None:
    page.click("#settings th[data-key=val_acc]")
    cells = page.locator("#settings tbody tr td:nth-child(4)")
    values = [float(text.split()[0]) for text in cells.all_inner_texts()]
    assert values == sorted(values)
    assert "±" in cells.first.inner_text()


def test_heat_maps_follow_the_chosen_parameters(page: Page) -> None:
    before = page.locator("#heat-excess").inner_text()
    page.select_option("#heat-x", "threshold")
    page.select_option("#heat-y", "late_weight")
    assert page.locator("#heat-excess").inner_text() != before
    assert page.locator("#heat-acc .hm image, #heat-acc .heatmaplayer image").count() == 1


def test_the_wealth_of_each_candidate_is_drawn_with_what_it_needs(page: Page) -> None:
    assert page.locator("#wealth .scatterlayer .trace").count() == 20
    label = page.locator("#wealth .legend .legendtext").all_text_contents()
    assert label == [f"vab config{number}" for number in range(10)]
    page.locator("#wealth .scatterlayer .points path.point").last.hover(force=True)
    assert "40 replicates, wealth 45.3" in (page.locator("#wealth .hoverlayer").text_content() or "")


def test_classes_have_their_names_and_sort_by_number(browser: Browser, tmp_path: Path) -> None:
    """Twelve targets, so that as text 10 would stand before 2; a name is no tag."""
    names = [f"kind{number}" for number in range(11)] + ["<b>owl</b>"]
    trials = [
        row_with(f"t{n:04d}", "one", target=n, val_asr=0.5, **{"param.defense.threshold": 0.2}) for n in range(12)
    ]
    controls = [control_row(trial=f"c{n:04d}", target=n) for n in range(12)]
    folder = tmp_path / "run"
    written(folder, [*controls, *trials])
    run_folder = RunFolder(folder)
    sweep = run_folder.read_sweep()
    sweep["data"]["class_names"] = names
    run_folder.write_sweep(sweep)
    rewrite_report(RunFolder(folder))
    page = browser.new_page()
    page.goto((folder / "report.html").as_uri())
    page.wait_for_selector("#settings tbody tr")
    assert page.locator("#environment option").all_inner_texts()[9:11] == ["target=9 (kind9)", "target=10 (kind10)"]
    page.select_option("#environment", "target=11 (<b>owl</b>)")
    cells = page.locator("#settings tbody tr").first.locator("td").all_inner_texts()
    assert cells[-1] == "11 (<b>owl</b>)"
    assert page.evaluate("bins(data.points.map((p) => p.params.target), 'target').names") == [
        *(f"{number} ({name})" for number, name in enumerate(names[:11])), "11 (&lt;b&gt;owl&lt;/b&gt;)",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_screen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    plots = page.locator(".plot")
    for number in range(plots.count()):
        box = plots.nth(number).bounding_box()
        assert box is not None
        assert box["width"] <= width
        assert box["height"] > 200


def test_a_long_cell_is_cut_and_whole_as_its_title(browser: Browser, tmp_path: Path) -> None:
    """One name of a class alone may be longer than a cell."""
    name = "🐱" * 30 + "x" * 40
    lost, plain = (json.dumps([[name, right, 10]]) for right in (0, 9))
    written(tmp_path / "run", [control_row(val_class_counts=plain), row_with("t0", "a", val_class_counts=lost)])
    with browser.new_context() as context:
        page = context.new_page()
        page.goto((tmp_path / "run" / "report.html").as_uri())
        cell = page.locator(f'#settings td[title="{name}"]')
        assert cell.inner_text() == "🐱" * 30 + "x" * 26 + " ..."
        assert page.locator("#settings td[title]").count() == 1
