"""Classes with their names in tables, labels and pages."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from sweeper.analysis.attackers import attackers
from sweeper.analysis.breaking_points import breaking_points
from sweeper.analysis.frontier import environments, hypervolumes, points
from sweeper.analysis.sweep_metrics import _suffix
from sweeper.cli import screen
from sweeper.cli.tables import print_frontier
from sweeper.deploy.bounds import Bounds
from sweeper.deploy.select import select_setting
from sweeper.report.page import rewrite_report
from sweeper.report.summary import caveats
from sweeper.run_folder.class_columns import names_of, with_class_columns
from sweeper.run_folder.folder import RunFolder
from tests.sweeper.small import (
    DATA,
    ONE_SETTING,
    control_row,
    finish,
    make_objectives,
    record_of,
    row_with,
    spec_with,
    sweep_with,
    write_rows,
)
from trainers.defenses import DEFENSES

NAMES = ["cat", "[red]dog", "<b>owl", *"defghij"]
SEARCHED = [{"attack": "badnets", "target": {"categorical": [0, 1, 2]}}]


def sweep(**changes: Any) -> dict[str, Any]:
    return sweep_with(**changes) | {"data": DATA | {"class_names": NAMES}}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A sweep over three targets, with the table of an older version."""
    made = RunFolder.create(tmp_path / "run")
    made.write_sweep(sweep(scenarios=SEARCHED))
    params = {f"param.defense.{key}": value for key, value in DEFENSES["vab"].Params().as_dict().items()}
    rows = [row_with(f"t000{n}", "one", target=n, val_asr=0.1 * n, **params) for n in range(3)]
    write_rows(made, [*(control_row(trial=f"c000{n}", target=n) for n in range(3)), *rows])
    return made


def test_a_number_has_its_name() -> None:
    values = [1, 1.0, (0, 3), [2], "[0, 1]", None, float("nan"), pd.NA, 10, "damaged"]
    assert [names_of(value, NAMES) for value in values] == [
        "[red]dog", "[red]dog", "cat, d", "<b>owl", "cat, [red]dog", None, None, None, None, None,
    ]  # fmt: skip


def test_the_table_holds_names_beside_numbers(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    tact = {"attack": "tact", "target": 2, "source": 4, "cover_classes": [0, 9]}
    aimless = {"attack": "badnets", "labels": "all_to_all"}
    spec = spec_with(scenarios=[tact, aimless])
    folder.write_sweep(sweep(scenarios=[tact, aimless]))
    folder.write_tables([finish(record_of(spec=spec))], {})
    written = pd.read_parquet(folder.trials).astype(object).replace(np.nan, None)
    assert written["class.target"].tolist() == ["<b>owl", None]
    assert written["class.source"].tolist() == ["e", None]
    assert written["class.cover_classes"].tolist() == ["cat, j", None]
    assert written["target"].tolist()[0] == 2


def test_an_older_table_gets_the_names_when_it_is_read(folder: RunFolder) -> None:
    assert "class.target" not in pd.read_parquet(folder.trials)
    assert folder.read_trials()["class.target"].tolist() == [*NAMES[:3], *NAMES[:3]]


def test_without_names_there_are_no_columns() -> None:
    frame = pd.DataFrame([row_with(target=1)])
    assert list(with_class_columns(frame, ())) == list(frame)


def test_labels_of_environments_and_attackers_have_names(folder: RunFolder) -> None:
    frame = folder.read_trials()
    trials = frame[frame["role"] == "trial"]
    assert environments(trials).tolist() == ["target=0 (cat)", "target=1 ([red]dog)", "target=2 (<b>owl)"]
    assert environments(trials.drop(columns="class.target")).tolist() == ["target=0", "target=1", "target=2"]
    objectives = make_objectives(("val_asr", "maximize"), ("poison_rate", "minimize"))
    spec = spec_with(defense=ONE_SETTING, scenarios=SEARCHED, objectives=objectives)
    assert set(attackers(frame, spec)["target"]) == {"0 (cat)", "1 ([red]dog)", "2 (<b>owl)"}
    several = pd.concat([frame, frame.assign(poison_rate=0.2)])
    assert {point.scenario for point in breaking_points(several)} == {
        "badnets, target=0 (cat)", "badnets, target=1 ([red]dog)", "badnets, target=2 (<b>owl)",
    }  # fmt: skip


def test_names_are_no_markup_on_the_screen(folder: RunFolder) -> None:
    frame = folder.read_trials()
    table = points(frame)
    assert not screen.console._markup
    out = io.StringIO()
    print_frontier(Console(file=out, width=200, markup=False), frame, table, hypervolumes(table))
    assert "Frontier at target=1 ([red]dog) (hypervolume 0.760)" in out.getvalue()


def test_a_high_floor_names_the_class(folder: RunFolder) -> None:
    frame = folder.read_trials().assign(asr_floor=0.9)
    one = frame[frame["target"] == 1]
    assert any("as the target class, 1 ([red]dog), without any trigger" in text for text in caveats(points(one), one))
    assert any("as the target class without any trigger" in text for text in caveats(points(frame), frame))


def test_a_metric_keeps_the_number_where_mlflow_allows_no_more() -> None:
    assert _suffix("blend, target=1 ([red]dög/x)") == "/blend target 1 reddgx"
    assert _suffix("poison_rate=0.05") == "/poison_rate 0.05"
    assert _suffix("") == ""


def test_the_page_shows_names(folder: RunFolder) -> None:
    text = rewrite_report(folder).read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert (data["class_params"], data["class_names"]) == (["target"], NAMES)
    assert [point["params"]["target"] for point in data["points"]] == [0, 1, 2], "numbers sort as numbers"
    assert "target 0 (cat) or 1 ([red]dog) or 2 (&lt;b&gt;owl) in badnets" in text


def test_the_evidence_of_a_setting_names_the_class(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.deploy.select.attach", lambda *_: False)
    selected = select_setting(folder, Bounds(max_asr=0.5))
    assert selected.classes == "target 0 (cat) or 1 ([red]dog) or 2 (<b>owl) in badnets"
    content = yaml.safe_load(folder.deploy.read_text(encoding="utf-8"))
    assert [(row["target"], row["class.target"]) for row in content["evidence"]] == list(enumerate(NAMES[:3]))
    assert content["chosen_for"]["environment"] in {f"target={n} ({name})" for n, name in enumerate(NAMES)}
