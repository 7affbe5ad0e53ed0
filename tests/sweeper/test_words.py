from pathlib import Path

from sweeper.words import lacking


def test_of_much_that_mlflow_lacks_a_part_is_named() -> None:
    names = [f"t{number:04d}" for number in range(12)]
    assert lacking(names[:2], Path("my run")) == (
        "MLflow lacks t0000, t0001; to send what is missing: sweeper track 'my run'"
    )
    assert lacking(names, Path("run")) == (
        f"MLflow lacks {', '.join(names[:10])} and 2 more; to send what is missing: sweeper track run"
    )
