"""Commands in a locale that is not UTF-8, with UTF-8 mode off."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.run_folder.folder import RunFolder
from tests.sweeper.cli.calls import image_folder, params, sweep_at, write_preset
from tests.sweeper.small import control_row, row_with, write_rows

PROGRAM = """
import sys, warnings
warnings.filterwarnings("error", category=EncodingWarning, module=r"(sweeper|trainers|search_spaces)\\b")
from search_spaces.loader import read_preset
from sweeper.cli.main import main
from trainers.data.config import DataConfig
from trainers.data.findings import Findings
from trainers.data.folder import load_folder
for words in ("report made", "frontier made", "status made", "select made --max-asr 0.15", "report made"):
    sys.argv = ["sweeper", *words.split()]
    try:
        main()
    except SystemExit as end:
        assert end.code in (0, None), (words, end.code)
print(load_folder("images", DataConfig(), Findings()).train.class_names == ("class0", "\\xc4pfel"))
print(read_preset("preset.yaml")["model"]["name"])
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A run folder, images in a class whose name is not ASCII, and a preset with a comment of that kind."""
    rows = [row_with(f"t000{n}", "a", seed=n, val_acc=0.8 + n / 100, val_asr=0.1, **params()) for n in range(2)]
    write_rows(RunFolder(sweep_at(tmp_path / "made")), [control_row(), *rows])
    image_folder(tmp_path / "images")
    for split in ("train", "test"):
        (tmp_path / "images" / split / "class1").rename(tmp_path / "images" / split / "\xc4pfel")
    write_preset(tmp_path / "preset.yaml")
    with (tmp_path / "preset.yaml").open("a", encoding="utf-8") as file:
        file.write("# \xc4pfel \xb1\n")
    return tmp_path


def test_every_command_works_and_every_file_is_utf_8(place: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "MLFLOW_TRACKING_URI": f"sqlite:///{place}/none.db"}
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", PROGRAM],
        env=environment, cwd=place, capture_output=True, encoding="ascii", timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "0.805 +- 0.007" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["True", "tiny"]
    report = (place / "made" / "report.html").read_text(encoding="utf-8")
    assert "\xb1" in report
