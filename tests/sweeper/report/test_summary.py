"""The frontier of one sweep, and of several together."""

from pathlib import Path

import pytest

from sweeper.report import summary
from sweeper.report.summary import write_joint_frontier
from sweeper.run_folder.folder import RunFolder
from tests.sweeper.small import control_row, row_with, sweep_with, write_rows


def test_sweeps_share_a_frontier_and_only_one_alone_has_roc_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Per-sample scores lie in a sweep's own folder."""
    monkeypatch.setattr(summary, "write_roc", lambda folder, frame, title, into: into / f"roc of {title}")
    for name in ("one", "two"):
        folder = RunFolder.create(tmp_path / name)
        folder.write_sweep(sweep_with())
        write_rows(folder, [control_row(), row_with()])
    alone = write_joint_frontier([tmp_path / "one"], tmp_path / "one")
    assert [path.name for path in alone.files] == ["frontier.parquet", "frontier.png", "roc of one"]
    assert alone.table["config_id"].tolist() == ["config-t0000"]
    together = write_joint_frontier([tmp_path / "one", tmp_path / "two"], tmp_path / "new" / "both")
    assert [path.name for path in together.files] == ["frontier.parquet", "frontier.png"]
    assert all(path.parent == tmp_path / "new" / "both" and path.exists() for path in together.files)
    assert sorted(together.table["config_id"]) == ["one/config-t0000", "two/config-t0000"]
    assert together.volumes.keys() == {""}
