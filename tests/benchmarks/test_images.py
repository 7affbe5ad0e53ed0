import pytest

from benchmarks import images


def test_places_are_compared_on_generated_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert images.main(["--small"]) == 0
    out = capsys.readouterr().out
    assert "All learned the same: yes" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith(("| device", "| memory", "| disk"))] == [
        "device", "memory", "disk"
    ]  # fmt: skip
