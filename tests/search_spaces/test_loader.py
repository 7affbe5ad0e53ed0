import copy
from pathlib import Path
from typing import Any

import pytest

from search_spaces.loader import PresetError, apply_overrides, preset_names, read_preset

PRESET: dict[str, Any] = {
    "name": "x",
    "search": {"trials": 8},
    "seeds": [0, 1],
    "scenarios": [{"attack": "badnets", "poison_rate": 0.1}, {"attack": "blend"}],
    "augment": None,
}


def test_the_names_of_the_package() -> None:
    assert {"quick.yaml", "cifar10_cpu.yaml", "cifar10.yaml", "ablation.yaml"} <= set(preset_names())
    assert preset_names() == sorted(preset_names())


def test_by_bare_name_with_or_without_ending_and_by_path() -> None:
    here = Path(__file__).parents[2] / "search_spaces" / "quick.yaml"
    assert read_preset("quick") == read_preset("quick.yaml") == read_preset(str(here))


def test_a_file_of_ones_own_goes_before_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.yaml").write_text("name: mine\n")
    assert read_preset("quick.yaml") == {"name": "mine"}
    assert read_preset("quick")["name"] == "quick"


def test_home_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    assert read_preset("~/mine.yaml") == {"name": "mine"}


def refusal(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "p.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PresetError) as caught:
        read_preset(str(path))
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: x\nname: y\n", "no valid YAML in line 2: the key name appears twice."),
        ("begun: 2024-13-45\n", "no valid YAML: month must be in 1..12"),
        (f"name: {'9' * 5000}\n", "no valid YAML: Exceeds the limit"),
        (f"name: {'[' * 5000}\n", "no valid YAML: maximum recursion depth exceeded"),
        ("defense:\n  lr: 1\n  threshold: 2\n  lr: 3\n", "no valid YAML in line 4: the key lr appears twice."),
        ("- {a: 1}\n- {b: 1, b: 2}\n", "no valid YAML in line 2: the key b appears twice."),
        ("name: [1, 2\n", "no valid YAML in line"),
        ("name: x\n\tseed: 1\n", "no valid YAML in line 2"),
        ("name: !!python/object:os.system {}\n", "no valid YAML in line 1"),
        ("? [a, b]\n: 1\n", "no valid YAML"),
        ("", "a preset must be a mapping of keys, but is empty."),
        ("- 1\n", "a preset must be a mapping of keys, but is a list."),
        ("just text\n", "a preset must be a mapping of keys, but is a str."),
        (b"name: \xff\xfe\n", "cannot be read"),
        (b"name: \x00\n", "no valid YAML"),
    ],
)
def test_broken_files_are_named_with_what_is_wrong(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert message in refusal(tmp_path, content)


def test_one_part_of_a_file_may_be_used_again(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("a: &part {x: 1, y: 2}\nb: *part\nc:\n  <<: *part\n  y: 3\n")
    assert read_preset(str(path)) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 3}}


@pytest.mark.parametrize("name", ["gone.yaml", "gone", "/nowhere/p.yaml", "distributions.py", "."])
def test_what_is_not_there_is_answered_with_what_there_is(name: str) -> None:
    with pytest.raises(PresetError, match=r"there is no such file, nor a preset of that name; presets are ablation"):
        read_preset(name)


@pytest.mark.parametrize(
    ("override", "way", "value"),
    [
        ("search.trials=20", ["search", "trials"], 20),
        ("seeds=[3, 4]", ["seeds"], [3, 4]),
        ("seeds.1=7", ["seeds", 1], 7),
        ("scenarios.0.poison_rate=0.05", ["scenarios", 0, "poison_rate"], 0.05),
        ("scenarios.1.alpha={float: [0.1, 0.2]}", ["scenarios", 1, "alpha"], {"float": [0.1, 0.2]}),
        ("scenarios.1={attack: badnets}", ["scenarios", 1], {"attack": "badnets"}),
        ("data.source=parquet:/a=b/*.parquet", ["data", "source"], "parquet:/a=b/*.parquet"),
        ("search.time_budget=null", ["search", "time_budget"], None),
        ("resources.gpu=0.5", ["resources", "gpu"], 0.5),
        ("name=", ["name"], None),
        ("amp=false", ["amp"], False),
    ],
)
def test_set_changes_one_value(override: str, way: list[Any], value: Any) -> None:
    before = copy.deepcopy(PRESET)
    node: Any = apply_overrides(PRESET, [override], "p.yaml")
    for step in way:
        node = node[step]
    assert node == value
    assert before == PRESET


def test_later_settings_go_over_earlier_ones() -> None:
    found = apply_overrides(PRESET, ["search.trials=1", "search.trials=2", "defense.name=vab"], "p.yaml")
    assert found["search"] == {"trials": 2}
    assert found["defense"] == {"name": "vab"}
    assert "defense" not in PRESET


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.trials", "--set search.trials: must be key=value, such as search.trials=20."),
        ("=3", "must be key=value"),
        ("scenarios.2.size=3", "p.yaml has no key scenarios.2.size"),
        ("scenarios.first.size=3", "p.yaml has no key scenarios.first.size"),
        ("scenarios.-1.size=3", "p.yaml has no key"),
        ("seeds.2=3", "p.yaml has no key seeds.2"),
        ("seeds.x=3", "p.yaml has no key seeds.x"),
        ("name.first=3", "p.yaml has no key name.first"),
        ("search.trials.max=3", "p.yaml has no key search.trials.max"),
        ("seeds=[1", "--set seeds: no valid YAML"),
        ("defense={a: 1, a: 2}", "--set defense: no valid YAML in line 1: the key a appears twice"),
    ],
)
def test_set_refuses_in_one_sentence(override: str, message: str) -> None:
    with pytest.raises(PresetError) as caught:
        apply_overrides(PRESET, [override], "p.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_block_is_one_without_keys() -> None:
    assert apply_overrides({"data": None}, ["data.source=shapes"], "x.yaml") == {"data": {"source": "shapes"}}
    with pytest.raises(PresetError, match=r"x\.yaml has no key data\.source"):
        apply_overrides({"data": 5}, ["data.source=shapes"], "x.yaml")
