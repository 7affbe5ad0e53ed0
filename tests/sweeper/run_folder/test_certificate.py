import json
from pathlib import Path

import pytest

from sweeper.run_folder.certificate import (
    FILE,
    REPLICATE_SEEDS,
    SEEDS_APART,
    SEEDS_OF_A_TEST,
    Certificate,
    first_seed,
    read_certificate,
    replicate_seed,
    write_certificate,
)
from tests.sweeper.certificates import after_losses
from trainers.errors import ConfigError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_certificate(tmp_path) is None
    known = after_losses([0.0, 0.02], [0.5])
    write_certificate(tmp_path, known)
    assert read_certificate(tmp_path) == known
    assert [path.name for path in tmp_path.iterdir()] == [FILE], "nothing is left beside it"
    (scenario,) = known.scenarios()
    assert (scenario.name, scenario.attack) == ("badnets", "badnets")
    assert [setting.defense for setting in known.settings()] == ["vab", "vab", "vab", "none"]
    assert known.described_trainings == 2 * 3 * 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bound": 2}, "bound"),
        ({"metric": "val_asr"}, "metric"),
        ({"version": 2}, "version"),
        ({"confidence": 1.0}, "must lie between 0 and 1"),
        ({"attackers": []}, "no attackers"),
        ({"standings": []}, "what it certifies was not tested"),
        ({"steps": []}, "what it certifies was not tested"),
        ({"certified": 7}, "what it certifies was not tested"),
        ({"standings": [{"verdict": "certified", "stake": 0.0, "wealth": []}]}, "a stake is 0"),
        ({"standings": [{"verdict": "certified", "stake": None, "wealth": []}]}, "has paid no stake"),
        ({"more": 1}, "more"),
        ({"candidates": [{"name": "x"}]}, r"candidates\.0"),
        ({"attackers": [{"label": "x", "config": {"name": "x", "attack": "no such"}}]}, "attack"),
    ],
)
def test_damage_is_a_sentence(tmp_path: Path, change: dict[str, object], said: str) -> None:
    content = json.loads(after_losses([0.0] * 32).model_dump_json()) | change
    (tmp_path / FILE).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"{FILE} is damaged: .*{said}"):
        read_certificate(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_no_json(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="is damaged"):
        read_certificate(tmp_path)


def test_no_two_replicates_share_a_seed() -> None:
    seeds = {replicate_seed(setting, number) for setting in range(13) for number in (0, 1, 500, SEEDS_APART - 1)}
    assert len(seeds) == 13 * 4
    assert min(seeds) == REPLICATE_SEEDS


def test_each_sweep_has_seeds_of_its_own() -> None:
    first, other = first_seed("one"), first_seed("two")
    assert first == first_seed("one")
    assert abs(first - other) >= SEEDS_OF_A_TEST
    assert min(first, other) >= REPLICATE_SEEDS
    assert max(first, other) < 2**53 - SEEDS_OF_A_TEST, "a number in JSON, for every reader"
    assert replicate_seed(12, 3, first) == first + 12 * SEEDS_APART + 3


def test_which_option_it_answers() -> None:
    known = after_losses([0.0])
    assert known.option == "max-excess"
    assert Certificate(**known.model_dump() | {"metric": "test_asr"}).option == "max-asr"
