from pathlib import Path

import pytest

from trainers.data import DataConfig, load_data
from trainers.errors import ConfigError


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_paths_mean_the_same_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    config = DataConfig(f"{kind}:data/*.parquet", root="images")
    monkeypatch.chdir("/")
    assert (config.source, config.root) == (f"{kind}:{tmp_path}/data/*.parquet", f"{tmp_path}/images")
    assert DataConfig(config.source, root=config.root) == config


def test_the_home_folder_is_that_of_each_host() -> None:
    config = DataConfig("folder:~/images")
    assert (config.source, config.root) == ("folder:~/images", "~/.cache/robustness-sweeper")


@pytest.mark.parametrize("source", ["shapes", "folder:", "web:images"])
def test_what_is_no_path_stays(source: str) -> None:
    assert DataConfig(source).source == source
    if source != "shapes":
        with pytest.raises(ConfigError, match=f"but got '{source}'"):
            load_data(DataConfig(source))
