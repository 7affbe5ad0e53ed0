from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from search_spaces.loader import apply_overrides, read_preset
from sweeper import doctor
from sweeper.cli.main import app
from sweeper.cluster.finding import Finding
from sweeper.cluster.hosts import Host
from sweeper.cluster.runtime import ray_runtime
from sweeper.doctor import examine
from sweeper.preset.spec import Resources, SweepSpec, validate
from tests.sweeper.small import fresh_store, preset_with

REAL_RAY = doctor._ray
QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def _healthy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything that is slow is fine."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    monkeypatch.setattr(doctor, "_ray", lambda _spec: (Finding("Ray", True, "1 host"), 2))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(doctor, "lack_of_memory", lambda _workers: None)
    monkeypatch.setattr(doctor, "ray_runtime", _nothing)
    monkeypatch.setattr(doctor, "hosts", lambda: [Host("1", "127.0.0.1", {"CPU": 2})])
    monkeypatch.setattr(doctor, "check_hosts", lambda _folder, load: None)


class _nothing:  # stands for a function
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def found(runs: Path, preset: str = "quick.yaml") -> dict[str, Finding]:
    content = read_preset(preset)
    return {finding.what: finding for finding in examine(validate(content, preset), content, runs, QUIET)}


def test_a_healthy_machine(tmp_path: Path) -> None:
    findings = found(tmp_path / "runs")
    assert list(findings) == ["versions", "GPUs", "Ray", "memory", "storage", "tracking store", "data", "preset"]
    assert all(finding.fine for finding in findings.values()), findings
    assert "torch" in findings["versions"].found
    assert findings["data"].found == "shapes: 3000 training and 2000 test images of 3x16x16, 10 classes"
    assert findings["preset"].found == "1 scenario fits the data: target 0 (disc) in badnets"
    assert list((tmp_path / "runs").iterdir()) == []


def test_the_tracking_store_is_as_it_was(tmp_path: Path) -> None:
    for _ in range(2):
        assert found(tmp_path / "runs")["tracking store"].fine


def break_(name: str) -> Callable[[pytest.MonkeyPatch, Path], dict[str, object]]:
    def tracking(patch: pytest.MonkeyPatch, path: Path) -> dict[str, object]:
        patch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
        return {}

    def storage(patch: pytest.MonkeyPatch, path: Path) -> dict[str, object]:
        (path / "file").write_text("")
        return {"runs": path / "file" / "runs"}

    def data(patch: pytest.MonkeyPatch, path: Path) -> dict[str, object]:
        return {"preset": "cifar10.yaml"}

    def ray(patch: pytest.MonkeyPatch, path: Path) -> dict[str, object]:
        def broken(_spec: SweepSpec) -> tuple[Finding, int]:
            raise RuntimeError("no raylet\nmore")

        patch.setattr(doctor, "_ray", broken)
        return {}

    def versions(patch: pytest.MonkeyPatch, path: Path) -> dict[str, object]:
        patch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
        return {}

    return {"tracking store": tracking, "storage": storage, "data": data, "Ray": ray, "versions": versions}[name]


@pytest.mark.parametrize("name", ["tracking store", "storage", "data", "Ray", "versions"])
def test_what_is_amiss_is_named_with_a_remedy_and_the_rest_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    options = {"runs": tmp_path / "runs", "preset": "quick.yaml"} | break_(name)(monkeypatch, tmp_path)
    findings = found(Path(str(options["runs"])), str(options["preset"]))
    assert [what for what, finding in findings.items() if not finding.fine] == [name]
    assert bool(findings[name].remedy) == (name != "data"), "a sentence about data says what to do"
    assert "secret" not in findings[name].found
    assert "\n" not in findings[name].found


def test_a_trial_that_fits_on_no_host_is_amiss(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = validate(read_preset("quick.yaml"), "quick.yaml")
    assert REAL_RAY(spec)[0].found == "1 host, 2 CPUs, 0 GPUs (started on this machine alone)"
    greedy = spec.model_copy(update={"resources": Resources(cpu=64, gpu=1)})
    finding, room = REAL_RAY(greedy)
    assert (finding.fine, room) == (False, 0)
    assert finding.found.endswith("; a training asks for 64 CPUs and 1 GPU, which no host has")


@pytest.mark.parametrize(("change", "asked"), [("device=auto", True), ("device=cpu", False)])
def test_memory_of_a_card_is_looked_at_where_one_is_asked_for(tmp_path: Path, change: str, asked: bool) -> None:
    content = apply_overrides(read_preset("quick.yaml"), ["resources.gpu=0.5", change], "quick.yaml")
    findings = {finding.what: finding for finding in examine(validate(content, "quick.yaml"), content, tmp_path, QUIET)}
    assert ("GPU memory" in findings) == asked
    if asked:
        assert findings["GPU memory"].fine
        assert findings["GPU memory"].found.startswith("a training needs about 0.6 GiB")


def test_doctor_takes_a_preset_as_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["doctor", "--set", "data.train_size=500"])
    assert "shapes: 500 training" in result.stdout
    result = CliRunner().invoke(app, ["doctor", "--set", "defense.threshold=7"])
    assert result.exit_code == 2
    assert "threshold must be a number" in result.stderr
    assert result.stdout == ""


def test_scenarios_and_defenses_that_do_not_fit_the_data_are_amiss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = ("scenarios.0.size=17", "scenarios.9.source=rign", "data.train_size=200", "data.test_size=100")
    result = CliRunner().invoke(app, ["doctor", "attacks_cpu", *(word for c in changes for word in ("--set", c))])
    assert result.exit_code == 2
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("NOT OK")]
    assert line.startswith("NOT OK preset: 2 parts of the preset do not fit the data. scenarios.0 (badnets): A patch")
    assert "scenarios.9 (tact): source must be a class, but none is called 'rign'" in line
    assert line.endswith(" -> Change what is named, or leave it out (gallery does, and draws the others).")


def test_rates_that_are_left_out_are_noted(tmp_path: Path) -> None:
    search = {"sampler": "random", "scenarios": "one", "min_poisoned": 10}
    scenarios = [{"attack": "badnets", "poison_rate": {"categorical": [0.01, 0.1]}}, {"attack": "blend"}]
    preset = preset_with(search=search, scenarios=scenarios)
    finding = list(examine(validate(preset, "small.yaml"), preset, tmp_path / "runs", QUIET))[-1]
    assert (finding.what, finding.fine) == ("preset", True)
    assert finding.notes[0] == "Left out: badnets at rate 0.01 (2 poisoned images)."


@pytest.mark.parametrize(("size", "few"), [(224, None), (222, 99)])
def test_few_triggered_images_to_measure_on_are_noted(tmp_path: Path, size: int, few: int | None) -> None:
    """Of ten classes of equal size, nine are triggered, in the half that is for validation."""
    preset = preset_with(data={"source": "shapes", "train_size": 100, "test_size": size})
    finding = list(examine(validate(preset, "small.yaml"), preset, tmp_path / "runs", QUIET))[-1]
    assert (finding.what, finding.fine) == ("preset", True)
    assert any(f"as few as {few} triggered images" in note for note in finding.notes) == (few is not None)


def test_little_space_is_amiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LITTLE_SPACE", 2**70)
    assert not found(tmp_path)["storage"].fine


def test_what_is_odd_about_the_data_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for name, shade in (("cat", 0), ("dog", 255)):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            Image.new("L", (8, 8), shade).save(tmp_path / "images" / split / name / "1.png")
    (tmp_path / "images/README").touch()
    changes = (
        f"data.source=folder:{tmp_path}/images",
        "data.train_size=null",
        "data.test_size=null",
        "scenarios=[{name: patch, attack: badnets, poison_rate: 0.5}]",
    )
    result = CliRunner().invoke(app, ["doctor", *(word for change in changes for word in ("--set", change))])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-7].startswith("ok     data: folder:")
    assert lines[-6:-2] == [
        "       Left out, beside the folders of the splits: README.",
        "       Warning: 4 of 4 images show one colour all over.",
        "       Warning: 2 of 2 test images are training images too.",
        "       Warning: 1 of 2 classes have test images, but none in the half for validation: dog. Whether a setting "
        "loses them cannot be seen; use more test images of them.",
    ]
    assert lines[-1] == (
        "       Warning: attack success is going to be measured on as few as 0 triggered images (in patch), since "
        "half of the 2 test images are for validation; use more test images, 100 triggered ones or more."
    )


def test_a_sentence_about_the_data_is_not_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("L", (8, 8), 9).save(tmp_path / "images" / name / "1.png")
    for number in range(2, 20):
        (tmp_path / "images" / "dog" / f"{number}.png").touch()
    result = CliRunner().invoke(app, ["doctor", "--set", f"data.source=folder:{tmp_path}/images"])
    assert result.exit_code == 2
    (listed,) = tmp_path.glob("sweeper-unreadable-*.csv")
    assert f"All are listed in {listed}. data.unreadable: leave_out (of train: --unreadable" in result.stdout
    assert len(listed.read_text().splitlines()) == 19


@pytest.mark.parametrize("ill", [False, True])
def test_the_command_ends_with_2_if_anything_is_amiss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ill: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if ill:
        monkeypatch.setattr(doctor, "LITTLE_SPACE", 2**70)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == (2 if ill else 0), result.output
    assert ("NOT OK storage" in result.stdout) == ill
    assert ("-> Give --storage" in result.stdout) == ill


def test_a_cluster_that_is_away_is_said_once_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ray", REAL_RAY)
    monkeypatch.setattr(doctor, "ray_runtime", ray_runtime)
    for address, what in (("127.0.0.1:9", "nothing listens on port 9"), ("http://head:8265", "Ray's dashboard")):
        monkeypatch.setenv("RAY_ADDRESS", address)
        findings = found(tmp_path / "runs")
        assert [name for name, finding in findings.items() if not finding.fine] == ["Ray"]
        assert f"RAY_ADDRESS={address}" in findings["Ray"].found
        assert what in findings["Ray"].found
        assert findings["Ray"].remedy == "", "the sentence says what to do"


@pytest.mark.parametrize(
    ("host", "changes", "workers"),
    [
        ({"CPU": 6}, [], 6),
        ({"CPU": 6}, ["search.workers=2"], 2),
        ({"CPU": 6}, ["search.trials=1"], 1),
        ({"CPU": 16, "GPU": 1}, ["resources.gpu=0.5"], 2),
        ({"CPU": 6}, ["resources.gpu=1"], 1),
    ],
)
def test_memory_for_fewer_trials_than_would_run_at_once_is_amiss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: dict[str, float], changes: list[str], workers: int
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(doctor, "_ray", REAL_RAY)
    monkeypatch.setattr(doctor, "hosts", lambda: [Host("1", "127.0.0.1", host)])
    monkeypatch.setattr(doctor, "lack_of_memory", lambda workers: asked.append(workers) or "too little")
    content = apply_overrides(read_preset("quick.yaml"), changes, "quick.yaml")
    found = {
        finding.what: finding for finding in examine(validate(content, "quick.yaml"), content, tmp_path / "runs", QUIET)
    }
    assert (found["memory"].fine, found["memory"].found, asked) == (False, "too little", [workers])
    assert "search.workers" in found["memory"].remedy
