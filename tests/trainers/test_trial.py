import dataclasses
import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.attacks.badnets import BadNets
from trainers.compute import ComputeConfig
from trainers.data import ImageSet, Splits
from trainers.data.augmentation import Augmentation
from trainers.defenses.base import Report
from trainers.defenses.none import NoDefense, NoneParams
from trainers.errors import ConfigError, TrialError
from trainers.models import ModelConfig
from trainers.params import param
from trainers.scenario import ScenarioConfig
from trainers.storage.state_store import StateStore
from trainers.trial import EpochResult, TrialConfig, run_trial

Noise = Callable[..., ImageSet]
NONE: dict[str, Any] = {"epochs": 2, "batch_size": 16, "lr": 0.05}
VAB: dict[str, Any] = {
    "warmup_rounds": 1, "mix_epochs": 2, "suppression_epochs": 1, "batch_size": 16, "victim_batch_size": 16,
    "resplit_period": 2,
}  # fmt: skip


@pytest.fixture
def splits(noise: Noise) -> Splits:
    return Splits(noise(32), noise(16, seed=1))


def scenario(name: str = "patch", **changes: Any) -> ScenarioConfig:
    return ScenarioConfig(**{"name": name, "attack": "badnets", "poison_rate": 0.2, **changes})


def trial(**changes: Any) -> TrialConfig:
    plain: dict[str, Any] = {
        "data_fingerprint": "f",
        "model": ModelConfig(width=4),
        "augmentation": Augmentation(crop=1),
        "defense": "none",
        "params": NONE,
        "scenarios": (scenario(),),
        "repeats": (0,),
        "sweep_seed": 0,
        "compute": ComputeConfig(device="cpu"),
    }
    return TrialConfig(**{**plain, **changes})


def numbers(results: list[EpochResult]) -> list[Any]:
    """All that a trial yields but its seconds, in a form that == compares to the last bit."""
    rows = []
    for r in results:
        figures = dataclasses.asdict(r.measurement)
        del figures["seconds"], figures["seconds_shared"]
        scores = None if r.scores is None else {name: column.tolist() for name, column in r.scores.items()}
        rows.append((r.scenario, r.repeat, figures, scores, r.poison_share, r.n_eval, r.final))
    return rows


def run(config: TrialConfig, splits: Splits, store: StateStore | None = None) -> list[EpochResult]:
    return list(run_trial(config, splits, store))


# Results


def test_every_scenario_with_every_repeat_in_order(splits: Splits) -> None:
    scenarios = (scenario("patch"), scenario("clean", poison_rate=0), scenario("all", labels="all_to_all"))
    config = trial(scenarios=scenarios, repeats=(3, 5), params={**NONE, "epochs": 1})
    results = run(config, splits)
    found = [(r.scenario.name, r.repeat, r.poison_share, r.n_eval, r.final) for r in results]
    assert found == [
        ("patch", 3, 6 / 32, 6, True), ("patch", 5, 6 / 32, 6, True),
        ("clean", 3, 0.0, 6, True), ("clean", 5, 0.0, 6, True),
        ("all", 3, 6 / 32, 8, True), ("all", 5, 6 / 32, 8, True),
    ]  # fmt: skip
    assert config.runs() == [(r.scenario, r.repeat) for r in results]
    assert [r.measurement.val_asr is None for r in results] == [False] * 2 + [True] * 2 + [False] * 2


def test_one_epoch(splits: Splits) -> None:
    (result,) = run(trial(params={**NONE, "epochs": 1}), splits)
    m = result.measurement
    assert (m.epoch, m.stage, m.images_seen, result.final, result.scores) == (1, "training", 32, True, None)
    assert all(value is not None for value in (m.loss, m.val_acc, m.val_asr, m.test_acc, m.test_asr))
    assert m.seconds > 0


def test_epochs_count_over_all_stages(splits: Splits) -> None:
    results = run(trial(defense="vab", params=VAB), splits)
    measured = [r.measurement for r in results]
    assert [m.epoch for m in measured] == [1, 2, 3, 4, 5]
    assert [m.stage for m in measured] == ["warmup", "warmup", "mix", "mix", "suppression"]
    assert [r.final for r in results] == [False] * 4 + [True]
    assert [m.val_acc is None for m in measured] == [True, True, False, False, False]
    assert [m.test_acc is None for m in measured] == [True] * 4 + [False]
    seen, seconds = [m.images_seen for m in measured], [m.seconds for m in measured]
    assert seen[0] == 32
    assert all(later > earlier for column in (seen, seconds) for earlier, later in pairwise(column))


def test_scores_come_with_the_truth_at_the_final_epoch(splits: Splits) -> None:
    results = run(trial(defense="vab", params=VAB), splits)
    assert [r.scores is None for r in results] == [True] * 4 + [False]
    scores = results[-1].scores
    assert scores is not None
    assert set(scores) == {"label", "suspicion", "credible", "poisoned", "cover"}
    assert all(len(column) == 32 for column in scores.values())
    assert int(scores["poisoned"].sum()) == 6
    assert scores["label"][scores["poisoned"]].tolist() == [0] * 6
    assert results[-1].measurement.credible_share == int(scores["credible"].sum()) / 32


@pytest.mark.parametrize(("defense", "params"), [("none", NONE), ("vab", VAB)])
def test_the_same_configuration_gives_the_same_numbers(splits: Splits, defense: str, params: dict[str, Any]) -> None:
    config = trial(defense=defense, params=params)
    torch.manual_seed(1)
    first = numbers(run(config, splits))
    torch.manual_seed(2)
    assert numbers(run(config, splits)) == first
    assert numbers(run(trial(defense=defense, params=params, sweep_seed=1), splits)) != first


def test_a_run_does_not_depend_on_the_others(splits: Splits) -> None:
    both = run(trial(scenarios=(scenario("a", target=1), scenario("b")), repeats=(0, 1)), splits)
    alone = run(trial(scenarios=(scenario("b"),), repeats=(1,)), splits)
    assert numbers(both)[-2:] == numbers(alone)


def test_what_a_run_trained_is_gone_before_the_next_begins(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both would have to fit on a GPU."""
    opened, alive = NoDefense.__init__, list[int]()

    def counted(self: NoDefense, params: Any, task: Any) -> None:
        gc.collect()
        alive.append(sum(isinstance(found, NoDefense) for found in gc.get_objects()))
        opened(self, params, task)

    monkeypatch.setattr(NoDefense, "__init__", counted)
    run(trial(repeats=(0, 1, 2)), splits)
    assert len(alive) == 3
    assert len(set(alive)) == 1


def test_repeats_differ(splits: Splits) -> None:
    one, _, other, _ = run(trial(repeats=(0, 1)), splits)
    assert one.measurement.loss != other.measurement.loss


def test_other_trials_meet_the_same_poison(splits: Splits) -> None:
    scores = [run(trial(defense="vab", params={**VAB, "threshold": t}), splits)[-1].scores for t in (0.1, 0.5)]
    assert scores[0] is not None
    assert scores[1] is not None
    assert scores[0]["poisoned"].equal(scores[1]["poisoned"])
    assert not scores[0]["credible"].equal(scores[1]["credible"])


def test_a_loss_that_is_not_finite(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = NoDefense.__init__

    def broken(self: NoDefense, params: Any, task: Any) -> None:
        opened(self, params, task)
        torch.nn.init.constant_(self.network.head.bias, float("nan"))

    monkeypatch.setattr(NoDefense, "__init__", broken)
    with pytest.raises(TrialError, match="The loss is nan in epoch 1 of stage training"):
        run(trial(), splits)


def test_a_gpu_that_is_reserved_but_not_there(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="A GPU is asked for"):
        next(run_trial(trial(compute=ComputeConfig()), splits, gpu_share=0.5))


# Going on after a crash


@pytest.mark.parametrize("every_s", [0.0, 1e9])  # after each epoch, or at stage ends only
@pytest.mark.parametrize(("defense", "params"), [("none", {**NONE, "epochs": 3}), ("vab", VAB)])
def test_a_retry_yields_every_epoch_with_the_same_numbers(
    splits: Splits, tmp_path: Path, defense: str, params: dict[str, Any], every_s: float
) -> None:
    config = trial(defense=defense, params=params, repeats=(0, 1))
    whole = numbers(run(config, splits))
    for crash in range(1, len(whole) // 2 + 2):  # within the first run, between both, and within the second
        folder = tmp_path / str(crash)
        attempt = run_trial(config, splits, StateStore(folder, every_s))
        before = [next(attempt) for _ in range(crash)]
        attempt.close()
        assert numbers(before) == whole[:crash]
        assert numbers(run(config, splits, StateStore(folder, every_s))) == whole


def test_many_crashes(splits: Splits, tmp_path: Path) -> None:
    config = trial(defense="vab", params=VAB, repeats=(0, 1))
    whole = numbers(run(config, splits))
    for crash in range(1, len(whole)):
        attempt = run_trial(config, splits, StateStore(tmp_path, 0))
        assert numbers([next(attempt) for _ in range(crash)]) == whole[:crash]
        attempt.close()
    assert numbers(run(config, splits, StateStore(tmp_path, 0))) == whole


def test_what_was_measured_is_not_trained_again(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trial(defense="vab", params=VAB, repeats=(0, 1))
    first = run(config, splits, StateStore(tmp_path, 0))
    monkeypatch.setattr(torch.Tensor, "backward", lambda *_, **__: pytest.fail("trained"))
    again = run(config, splits, StateStore(tmp_path, 0))
    assert [r.measurement for r in again] == [r.measurement for r in first]  # seconds included
    assert numbers(again) == numbers(first)


def test_seconds_are_those_of_training_and_go_on_from_the_saved_ones(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, train = 0.0, NoDefense.train

    def train_for_ten_seconds(self: NoDefense, epoch: int) -> Report:
        nonlocal now
        now += 10
        return train(self, epoch)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(NoDefense, "train", train_for_ten_seconds)
    config = trial(params={**NONE, "epochs": 4})
    attempt = run_trial(config, splits, StateStore(tmp_path, 0))
    first = []
    for _ in range(2):
        first.append(next(attempt).measurement.seconds)
        now += 1000  # what others do between epochs
    attempt.close()
    assert first == [10, 20]
    assert [r.measurement.seconds for r in run(config, splits, StateStore(tmp_path, 0))] == [10, 20, 30, 40]


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"half"])
def test_a_damaged_state_is_trained_anew(splits: Splits, tmp_path: Path, content: bytes) -> None:
    config, store = trial(), StateStore(tmp_path, 0)
    whole = numbers(run(config, splits, store))
    store.path(0).write_bytes(content)
    assert store.load(0) is None
    assert numbers(run(config, splits, StateStore(tmp_path, 0))) == whole
    state = StateStore(tmp_path).load(0)
    assert state is not None
    assert len(state["measured"]) == 2


def test_nothing_is_saved_without_a_store(splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(trial(), splits)
    assert list(tmp_path.iterdir()) == []


# Names of configurations


def test_the_key_names_the_whole_configuration() -> None:
    changes: list[dict[str, Any]] = [
        {"data_fingerprint": "g"}, {"model": ModelConfig(width=8)}, {"augmentation": Augmentation(crop=2)},
        {"params": {**NONE, "lr": 0.1}}, {"scenarios": (scenario(target=1),)}, {"repeats": (0, 1)}, {"sweep_seed": 1},
        {"scenarios": (scenario(), scenario(target=1))}, {"defense": "vab", "params": VAB},
        {"scenarios": (scenario(params={"size": 2}),)}, {"compute": ComputeConfig(device="cpu", threads=2)},
    ]  # fmt: skip
    keys = [trial().key, *(trial(**change).key for change in changes)]
    assert len(set(keys)) == len(keys)
    assert trial().key == trial().key


def test_defaults_that_are_spelled_out_do_not_change_the_key() -> None:
    spelled = trial(params={"momentum": 0.9, **NONE}, scenarios=(scenario(params={"size": 3}),))
    assert spelled.key == trial().key
    assert trial(params={**NONE, "lr": 1}).key == trial(params={**NONE, "lr": 1.0}).key


def test_a_parameter_that_is_added_later_enters_no_key_at_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class LaterTrial(TrialConfig):
        note: str = ""

    @dataclass(frozen=True)
    class LaterModel(ModelConfig):
        extra: int = param(1)

    @dataclass(frozen=True)
    class LaterNone(NoneParams):
        extra: int = param(1)

    @dataclass(frozen=True)
    class LaterBadNets(BadNets.Params):  # type: ignore[name-defined, misc]
        extra: int = param(1)

    key, setting_key = trial().key, trial().setting_key
    assert LaterTrial(**vars(trial())).key == key
    assert LaterTrial(**vars(trial()), note="x").key != key
    assert trial(model=LaterModel(width=4)).key == key
    assert trial(model=LaterModel(width=4, extra=2)).key != key
    monkeypatch.setattr(NoDefense, "Params", LaterNone)
    monkeypatch.setattr(BadNets, "Params", LaterBadNets)
    assert (trial().params["extra"], trial().scenarios[0].params["extra"]) == (1, 1)
    assert (trial().key, trial().setting_key) == (key, setting_key)
    assert trial(params={**NONE, "extra": 1}).key == key
    assert trial(params={**NONE, "extra": 2}).setting_key != setting_key
    assert trial(scenarios=(scenario(params={"extra": 2}),)).key != key


def test_a_model_s_parameter_that_is_added_later_changes_no_number_at_its_default(splits: Splits) -> None:
    @dataclass(frozen=True)
    class LaterModel(ModelConfig):
        extra: int = param(1)

    before = numbers(run(trial(), splits))
    assert numbers(run(trial(model=LaterModel(width=4)), splits)) == before
    assert numbers(run(trial(model=LaterModel(width=4, extra=2)), splits)) != before


WRITTEN = (  # by commit 6f02d73
    '{"augmentation": {"crop": 1, "flip": true}, "compute": {"amp": true, "compile": false, "device": "cpu", "threads":'
    ' 1}, "data_fingerprint": "f", "defense": "abl", "model": {"depth": null, "name": "tiny", "width": 4}, "params":'
    ' {"ascent": "sample", "batch_size": 64, "decay": 0.1, "finetune_epochs": 60, "isolation_epochs": 20,'
    ' "isolation_rate": 0.1, "loss_floor": 0.5, "lr": 0.1, "milestones": [0.25, 0.5, 0.75], "momentum": 0.9,'
    ' "schedule": "step", "unlearning_ceiling": 5.0, "unlearning_epochs": 20, "unlearning_lr": 0.0005,'
    ' "unlearning_weight": 1.0, "weight_decay": 0.0001}, "repeats": [0], "scenarios": [{"attack": "blend", "labels":'
    ' "all_to_one", "name": "s", "params": {"alpha": 0.1, "trigger": null}, "poison_rate": 0.2, "target": 0}],'
    ' "sweep_seed": 0}'
)


def test_what_was_written_before_parameters_were_added_can_be_read() -> None:
    config = TrialConfig.from_json(WRITTEN)
    written = json.loads(WRITTEN)
    read = {key: config.params[key] for key in written["params"]}
    assert read == written["params"] | {"milestones": (0.25, 0.5, 0.75)}
    assert config.compute == ComputeConfig("cpu"), "bfloat16 was for CUDA only"
    assert TrialConfig.from_json(WRITTEN.replace('"amp": true', '"amp": false')).compute.amp == "off"
    assert config.scenarios == (scenario("s", attack="blend"),)
    for part in (written["model"], written["augmentation"], written["compute"], written["scenarios"][0]["params"]):
        part.popitem()  # as if that one had been added since
    for key in ("poison_rate", "labels", "target", "params"):
        written["scenarios"][0].pop(key)
    assert TrialConfig.from_json(json.dumps(written)).scenarios == (scenario("s", attack="blend", poison_rate=0.1),)


def test_the_setting_key_names_what_the_defender_chose() -> None:
    same: list[dict[str, Any]] = [
        {"scenarios": (scenario(target=1),)}, {"repeats": (4,)}, {"sweep_seed": 1}, {"params": {"decay": 0.1, **NONE}},
    ]  # fmt: skip
    assert {trial(**change).setting_key for change in same} == {trial().setting_key}
    other = [trial(params={**NONE, "lr": 0.1}), trial(defense="vab", params=VAB)]
    assert len({trial().setting_key, *(config.setting_key for config in other)}) == 3


def test_a_control_is_shared_by_every_trial_that_meets_its_scenario() -> None:
    first = trial(defense="vab", params=VAB, scenarios=(scenario("a"), scenario("b", target=1)), repeats=(0, 1))
    second = trial(defense="vab", params={**VAB, "threshold": 0.5}, scenarios=(scenario("b", target=1),))
    one, other = (config.control(scenario("b", target=1), 0, NONE) for config in (first, second))
    assert one == other
    assert one.key == other.key
    assert (one.defense, one.runs()) == ("none", [(scenario("b", target=1), 0)])
    assert one.key != first.control(scenario("b", target=1), 1, NONE).key


@pytest.mark.parametrize("params", [{"lr": -1}, {"epochs": 0}])
def test_bad_parameters_of_the_defense(params: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(params))} must be"):
        trial(params=params)


def test_a_parameter_that_the_defense_does_not_have() -> None:
    with pytest.raises(ConfigError, match="threshold is no parameter here"):
        trial(params={"threshold": 0.5})


def test_a_defense_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match="none, vab"):
        trial(defense="magic")


# Images that a defense has none of

BCU: dict[str, Any] = {"training_epochs": 2, "batch_size": 16, "lr": 0.05, "distillation_epochs": 2}


@pytest.fixture
def with_held_out(noise: Noise, splits: Splits) -> Splits:
    return Splits(splits.train, splits.test, noise(20, seed=2))


@pytest.mark.parametrize("unlabelled", ["clean", "poisoned"])
def test_held_out_images_reach_the_defense(with_held_out: Splits, unlabelled: str) -> None:
    *_, last = run_trial(trial(defense="bcu", params=BCU | {"unlabelled": unlabelled}), with_held_out)
    assert last.measurement.images_seen == 2 * 32 + 2 * 20
    assert last.measurement.val_acc is not None
    assert last.scores is None
