import pytest

from benchmarks import images


def test_places_are_compared_on_generated_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert images.main(["--small"]) == 0
    out = capsys.readouterr().out
    assert "All learned the same: yes" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith(("| device", "| memory", "| disk"))] == [
        "device", "memory", "disk"
    ]  # fmt: skip
    decoded = [line.split()[1:6:2] for line in out.splitlines() if line.startswith(("| parquet", "| folder"))]
    assert decoded == [["parquet", "1", "440"], ["parquet", "2", "440"], ["folder", "2", "120"]]
