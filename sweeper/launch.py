"""Begins, resumes and confirms sweeps, up to their frontier, and writes them to a tracking store."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from sweeper.analysis.attack_bounds import UNBOUNDED, AttackBounds
from sweeper.analysis.attackers import attackers
from sweeper.analysis.confirmation import confirmations
from sweeper.analysis.frontier import hypervolumes, points
from sweeper.analysis.guarantee import certificate_metrics
from sweeper.analysis.overview import overview
from sweeper.analysis.sweep_metrics import sweep_metrics
from sweeper.cluster.address import check_ray_address
from sweeper.decoding import decoding_shown
from sweeper.preset.class_numbers import describe_classes
from sweeper.preset.fitting import fit_to_data
from sweeper.preset.grid import grid_points
from sweeper.preset.misfits import Misfits
from sweeper.preset.spec import SweepSpec, resolve
from sweeper.report.attack_plots import draw_attackers
from sweeper.report.page import write_report
from sweeper.report.plots import draw_trial
from sweeper.report.roc import write_roc
from sweeper.report.summary import BREAKING, write_frontier
from sweeper.run_folder.certificate import FILE as CERTIFICATE
from sweeper.run_folder.certificate import read_certificate
from sweeper.run_folder.claim import claimed
from sweeper.run_folder.errors import SweepBroken, SweepInterrupted
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.mirror import mirrored
from sweeper.run_folder.provenance import provenance
from sweeper.run_folder.record import CONFIRMATION, FINISHED, REPLICATE, RUNNING, TRIAL, control_success
from sweeper.run_folder.status import trials_in_all
from sweeper.running.driver import Outcome, Plan, run_sweep
from sweeper.running.ledger import Ledger
from sweeper.running.live_file import LiveFile
from sweeper.running.progress import LiveDisplay
from sweeper.running.replicates_display import ReplicatesDisplay
from sweeper.running.study_file import open_study
from sweeper.search.branching import branching_lines
from sweeper.tracking.background import BackgroundTracker
from sweeper.tracking.shared_studies import check_shared, share_study
from sweeper.tracking.store import ExperimentDeleted, tracking_uri
from sweeper.tracking.sweep_run import Tracker
from sweeper.tracking.untracked import Untracked
from sweeper.words import command, lacking
from trainers.attacks.pattern import fingerprint
from trainers.compute import has_bfloat16
from trainers.data.image_set import Splits
from trainers.errors import ConfigError
from trainers.models import check_model
from trainers.placement import placement
from trainers.seeding import NUMERICS
from trainers.storage.object_store import ObjectPath
from trainers.text import printable

ATTACKERS = "attackers.png"
"""The picture of an attacker's sweep: what attack success each attacker reached."""

MANY_BEHIND = 50
"""Trials that wait to be sent to MLflow at the end of a sweep, above which the user is told what it waits for."""


@dataclass(frozen=True)
class Ended:
    """Results of a sweep.

    Args:
        folder: the run folder.
        frame: rows of ``trials.parquet``.
        table: points of the frontier.
        volumes: hypervolume of each environment.
        outcome: how it ended.
        tracker: the tracking run, closed, or what stands in for it.
        attackers: of an attacker's sweep, from :func:`sweeper.analysis.attackers.attackers`: those that were searched,
            and those that were run again with fresh seeds; else null.
        not_copied: why the copy in the store is not up to date; null if it is, or if there is none.
    """

    folder: RunFolder
    frame: pd.DataFrame
    table: pd.DataFrame
    volumes: dict[str, float]
    outcome: Outcome
    tracker: BackgroundTracker | Untracked
    attackers: tuple[pd.DataFrame, pd.DataFrame] | None
    not_copied: str | None = None


def begin(
    spec: SweepSpec, preset: dict[str, Any], out: Path, console: Console, store: ObjectPath | None = None
) -> Ended:
    """Run the sweep of a preset in a new run folder.

    Args:
        spec: the sweep.
        preset: the preset that the sweep was validated from.
        out: the run folder.
        console: for progress.
        store: the folder's place in an object store; null: all hosts see the folder.

    Raises:
        ConfigError, PresetError: the sweep cannot begin.
        SweepBroken: the run folder cannot be written any more.
        SweepInterrupted: the user ended it before its trials began, or after they ended.
    """
    check_ray_address()  # data may take minutes to load
    splits = _load(spec, console)
    misfits = Misfits([block.values["name"] for block in spec.scenario_blocks])
    fitted = fit_to_data(spec, preset, splits.train, misfits)
    spec, preset, left_out = fitted.spec, fitted.preset, fitted.left_out
    spec = _settled(spec, splits, console)
    spec.check_against(splits, misfits)
    if left_out:
        console.print(f"Left out: {'; '.join(left_out)}.", markup=False, highlight=False, soft_wrap=True)
    folder = RunFolder.create(out, store)
    sweep: dict[str, Any] = {
        "sweep_id": uuid.uuid4().hex,
        "numerics": NUMERICS,
        "preset": resolve(spec, preset),
        "data_fingerprint": splits.fingerprint,
        "trigger_fingerprints": {path: fingerprint(path) for path in spec.trigger_images()},
        "data": {
            "training_images": len(splits.train),
            "test_images": len(splits.test),
            "image_shape": list(splits.train.images.shape[1:]),
            "class_names": list(splits.train.class_names),
            "findings": splits.findings.lines(),
        },
        "left_out": left_out,
        "provenance": provenance(),
    } | ({} if store is None else {"store": str(store)})
    folder.remember(sweep["preset"], spec)
    with folder.lock(), claimed(folder.store):
        # Written first, so that a sweep that is killed from now on can be resumed.
        folder.write_sweep(sweep)
        folder.write_tables([], {})
        try:
            with interruptible(folder):
                return run_plan(spec, sweep, splits, folder, console, Plan(spec.search.trials))
        except ConfigError:
            if not folder.read_records():  # the sweep did not begin, and the folder may be used again
                folder.discard()
            raise


def resume(path: Path, console: Console, trials: int | None = None, time_budget: float | None = None) -> Ended:
    """Continue a sweep that was killed, interrupted or stopped early; trials that ended are not run again.

    Args:
        path: the run folder.
        console: for progress.
        trials: in all, earlier ones included; null: as many as before.
        time_budget: minutes from now; null: no limit.

    Raises:
        ConfigError: the sweep cannot continue.
        SweepBroken: the run folder cannot be written any more.
        SweepInterrupted: the user ended it before its trials began, or after they ended.
    """
    folder = RunFolder.open(path)
    with folder.lock(), claimed(folder.store), interruptible(folder):
        folder.check_writable()
        folder.remove_leftovers()
        sweep = folder.read_sweep()
        refuse_other_numerics(folder)
        read_certificate(folder.path)  # a damaged one is said before anything is trained
        if trials is not None:
            sweep["preset"]["search"]["trials"] = trials
        spec = with_budget(folder.validated(sweep["preset"]), time_budget)
        sweep["resumed"] = [*sweep.get("resumed", []), provenance()]
        records = folder.read_records()
        folder.remove_states_but({left.name for record in records.values() for left in record.trainings_left()})
        plan = Plan(spec.search.trials, records)
        if not plan.is_done:
            check_ray_address()
        return run_plan(spec, sweep, same_data(spec, sweep, console), folder, console, plan)


def confirm(path: Path, console: Console, top: int, seeds: int, most: AttackBounds = UNBOUNDED) -> Ended:
    """Run the leaders of a sweep again with fresh seeds, since the winners of a search look better than they are.

    Args:
        path: the run folder.
        console: for progress.
        top: how many settings.
        seeds: how many fresh seeds each of them has in the end.
        most: settings that keep these bounds come first.

    Raises:
        ConfigError: the sweep has not ended, or has no leader.
        SweepBroken: the run folder cannot be written any more.
        SweepInterrupted: the user ended it before its trials began, or after they ended.
    """
    folder = RunFolder.open(path)
    with folder.lock(), claimed(folder.store), interruptible(folder):
        folder.check_writable()
        folder.remove_leftovers()
        sweep, records = folder.read_sweep(), folder.read_records()
        refuse_other_numerics(folder)
        read_certificate(folder.path)  # likewise
        unfinished = [record.trial_id for record in records.values() if record.open and record.role != REPLICATE]
        if unfinished:
            raise ConfigError(
                f"{path} has trials that did not end ({', '.join(unfinished)}); run {command('resume', path)} first."
            )
        folder.write_tables(records.values(), control_success(records.values()))  # a killed sweep may leave old ones
        spec = with_budget(folder.validated(sweep["preset"]), None)
        extra = confirmations(spec, folder.read_trials(), records, top, seeds, most)
        plan = Plan(0, records, extra)
        check_ray_address()
        return run_plan(spec, sweep, same_data(spec, sweep, console), folder, console, plan)


def track(path: Path, uri: str) -> Tracker:
    """Write a sweep from its run folder to a tracking store; what the store already holds is not sent again.

    Raises:
        ConfigError: the folder holds no sweep, or the store or the database of shared studies fails.
    """
    folder = RunFolder.open(path)
    with folder.lock():
        sweep, records = folder.read_sweep(), folder.read_records()
        tracker = Tracker(uri, folder, sweep, draw_trial)
        asr = control_success(records.values())
        folder.write_tables(records.values(), asr)  # a killed sweep may leave old ones
        for record in records.values():
            if record.status == RUNNING:
                tracker.epoch_ended(record)
            else:
                tracker.trial_ended(record, record.rows(asr))
        frame = folder.read_trials()
        table = points(frame)
        _close(tracker, folder, sweep_metrics(hypervolumes(table), overview(frame, folder.spec(), table)))
        if tracker.behind:
            raise ConfigError(f"The tracking store {tracker.shown_uri} lacks {', '.join(tracker.behind)}; try again.")
        if not folder.study.exists():  # as in a copy from an object store
            open_study(folder.spec(), folder.study, records)
        share_study(folder)
    return tracker


def refuse_other_numerics(folder: RunFolder) -> None:
    """Refuse a sweep that was trained with other numerics, since new figures would not be comparable.

    Raises:
        ConfigError: the numerics differ.
    """
    if folder.numerics != NUMERICS:
        raise ConfigError(
            f"{folder.path} was trained with numerics {folder.numerics}, and this program trains with {NUMERICS}: "
            "new figures would not be comparable; run its preset as a new sweep (select, report and track can read "
            "this one)."
        )


def _settled(spec: SweepSpec, splits: Splits, console: Console) -> SweepSpec:
    """The sweep with all that this machine decides for all hosts: ``amp: auto``, and what its weights are."""
    if spec.model.weights is not None:
        spec = spec.settled(splits)
        console.print(f"model: {spec.model.name} begins with {spec.model.weights} ({spec.model.weights_digest}).",
                      markup=False, highlight=False, soft_wrap=True)  # fmt: skip
    return _with_amp(spec, console)


def _with_amp(spec: SweepSpec, console: Console) -> SweepSpec:
    """The sweep with ``amp: auto`` decided by this machine's processor, for all hosts; prints what it chose."""
    on_gpu = spec.device != "cpu" and spec.resources.gpu > 0
    has = "computes" if has_bfloat16() else "does not compute"
    if spec.amp == "on" and not on_gpu and not has_bfloat16():
        text = "amp: on is slow here, since this processor has no instructions for bfloat16."
    elif spec.amp == "auto" and on_gpu:
        text = "amp: auto is bfloat16, since this sweep uses GPUs."
    elif spec.amp == "auto":
        chosen = "bfloat16" if has_bfloat16() else "float32"
        text = f"amp: auto is {chosen} in this sweep, since the processor of this host {has} in bfloat16."
    else:
        return spec
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    amp = None if on_gpu and spec.amp == "auto" else spec.compute.settled().amp
    return spec.model_copy(update={"amp": amp})


def with_budget(spec: SweepSpec, minutes: float | None) -> SweepSpec:
    """The sweep with a new time limit in minutes; null: none."""
    return spec.model_copy(update={"search": spec.search.model_copy(update={"time_budget": minutes})})


def _load(spec: SweepSpec, console: Console) -> Splits:
    console.print("Loading data ...", highlight=False)
    with decoding_shown(console):
        return spec.load()


def same_data(spec: SweepSpec, sweep: dict[str, Any], console: Console) -> Splits:
    """Load the data, and check that it is what the sweep began with.

    Raises:
        ConfigError: the data, a trigger image or the weights have changed.
    """
    for path, before in sweep.get("trigger_fingerprints", {}).items():
        if fingerprint(path) != before:
            raise ConfigError(
                f"The trigger image {path} has changed since the sweep began; figures would not be comparable."
            )
    splits = _load(spec, console)
    names, before = splits.train.class_names, sweep["data"].get("class_names")
    if before != list(names) and sorted(map(str, before or [])) == sorted(names):
        raise ConfigError(
            f"The classes of {spec.data.source} are in another order than when the sweep began ({', '.join(names)}; "
            f"then {', '.join(map(str, before))}); figures would not be comparable."
        )
    if splits.fingerprint != sweep["data_fingerprint"]:
        raise ConfigError(f"{spec.data.source} has changed since the sweep began; figures would not be comparable.")
    check_model(spec.model, splits.train.shape, splits.train.num_classes)
    return splits


@contextmanager
def interruptible(folder: RunFolder) -> Iterator[None]:
    """Say of Ctrl-C before the trials or after them what is kept; while they run, the sweep's stopper hears it.

    Raises:
        SweepInterrupted: in place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        outcome = Outcome.of(folder.read_records().values(), "the sweep was interrupted")
        kept = f"Interrupted. What is in {folder.path} is kept; to continue: {command('resume', folder.path)}"
        raise SweepInterrupted(kept, outcome.finished) from error


def run_plan(
    spec: SweepSpec,
    sweep: dict[str, Any],
    splits: Splits,
    folder: RunFolder,
    console: Console,
    plan: Plan,
    display: ReplicatesDisplay | None = None,
) -> Ended:
    """Run a plan, up to the frontier and the report; the folder is locked.

    Args:
        spec: the sweep.
        sweep: content of ``sweep.yaml``.
        splits: the data.
        folder: the run folder.
        console: for progress.
        plan: what is to be run.
        display: of a test; null: trials are shown.

    Raises:
        ConfigError: the plan cannot begin.
        SweepBroken: the run folder cannot be written any more.
    """
    with mirrored(folder) as mirror:
        ended = _run_here(spec, sweep, splits, folder, console, plan, display)
    return ended if mirror is None else replace(ended, not_copied=mirror.behind)


def _run_here(
    spec: SweepSpec,
    sweep: dict[str, Any],
    splits: Splits,
    folder: RunFolder,
    console: Console,
    plan: Plan,
    display: ReplicatesDisplay | None,
) -> Ended:
    check_shared()
    tracker = _tracker(sweep, folder, console)
    asr = control_success(plan.records.values())
    for record in plan.records.values():
        if not record.open:  # a killed driver may not have told MLflow of it
            tracker.trial_ended(record, record.rows(asr))
    sizes = f"{len(splits.train)} training and {len(splits.test)} test images, {splits.train.num_classes} classes"
    console.print(f"{spec.data.source}: {sizes}. Results go to {folder.path}.", highlight=False)
    room, on_cpu = spec.compute.image_room(spec.resources.gpu), spec.compute.on_cpu(spec.resources.gpu)
    console.print(placement(splits.train.images, room, on_cpu), markup=False, highlight=False, soft_wrap=True)
    classes = describe_classes(spec.scenario_blocks, splits.train.class_names)
    console.print(f"Attacked classes: {classes}.", markup=False, highlight=False, soft_wrap=True)
    whole = len(grid_points(spec)) if spec.search.sampler == "grid" else 0
    if whole > spec.search.trials and plan.trials:
        part = f"The grid has {whole} points, of which search.trials = {spec.search.trials} are run, drawn at random; "
        console.print(
            f"{part}for all: {command('resume', folder.path, trials=whole)}.", highlight=False, soft_wrap=True
        )
    for line in branching_lines(spec) if plan.trials else []:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if not spec.can_race:
        names = ", ".join(objective.metric for objective in spec.objectives)
        text = f"Every training runs (search.race: off): nothing bounds {names} before it is measured."
        console.print(text, highlight=False, soft_wrap=True)
    try:
        for line in folder.write_data_findings(splits.findings):
            console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        with display or _display(spec, splits, console, plan) as shown, LiveFile(folder) as live:
            ledger = Ledger(folder, plan.records, [tracker, shown, live])
            outcome = run_sweep(spec, sweep, splits, ledger, plan, shown.say)
        frame = folder.read_trials()
        table, volumes, _ = write_frontier(frame, spec.name, folder.path)
        attacker_tables = (attackers(frame, spec), attackers(frame, spec, CONFIRMATION)) if spec.attacking else None
        if attacker_tables is not None:
            draw_attackers(attacker_tables[0], spec.attack_metric, spec.name, folder.path / ATTACKERS)
        write_roc(folder, frame, spec.name, folder.path)
        write_report(folder, frame, table, spec)
    except OSError as error:
        _break_off(tracker, folder, console)
        raise SweepBroken(f"{folder.path} cannot be written any more: {error.strerror or error}.") from error
    except BaseException:
        _break_off(tracker, folder, console)
        raise
    if outcome.in_haste:
        tracker.make_haste()
    elif isinstance(tracker, BackgroundTracker) and len(tracker.behind) > MANY_BEHIND:
        console.print(
            f"{len(tracker.behind)} trials are still to be sent to MLflow; Ctrl-C leaves them to "
            f"{command('track', folder.path)}", markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    try:
        _close(tracker, folder, sweep_metrics(volumes, overview(frame, spec, table)))
    except KeyboardInterrupt:
        _say_lacking(tracker, folder, console)
        raise
    try:
        share_study(folder)
    except ConfigError as error:  # the run folder has everything, and track can copy it later
        console.print(
            f"{error} Try again: {command('track', folder.path)}", markup=False, highlight=False, soft_wrap=True
        )
    return Ended(folder, frame, table, volumes, outcome, tracker, attacker_tables)


def _display(spec: SweepSpec, splits: Splits, console: Console, plan: Plan) -> LiveDisplay:
    known = [] if plan.extra else list(plan.records.values())  # confirming is counted by itself
    total = len(plan.extra) or trials_in_all(spec, plan.trials, known)
    return LiveDisplay(console, spec.objectives, spec.constraints, total, known, splits.train.class_names)


def _tracker(sweep: dict[str, Any], folder: RunFolder, console: Console) -> BackgroundTracker | Untracked:
    """Follows the sweep in MLflow, from a thread; a sweep whose experiment was deleted goes on without.

    Raises:
        ConfigError: the store cannot be reached or written.
    """
    uri = tracking_uri(folder.path.parent)
    try:
        return BackgroundTracker(Tracker(uri, folder, sweep, draw_trial), folder)
    except ExperimentDeleted as error:
        more = f"The sweep goes on without MLflow; when it is restored: {command('track', folder.path)}"
        console.print(f"{error}\n{more}", markup=False, highlight=False, soft_wrap=True)
        return Untracked(uri)


def _break_off(tracker: BackgroundTracker | Untracked, folder: RunFolder, console: Console) -> None:
    """Close the tracking run of a sweep that broke off, in seconds, and say what is not sent."""
    tracker.make_haste()
    try:
        tracker.sweep_ended([], {}, "KILLED")
    finally:  # also on Ctrl-C
        _say_lacking(tracker, folder, console)


def _say_lacking(tracker: BackgroundTracker | Untracked, folder: RunFolder, console: Console) -> None:
    """Say what is not sent to MLflow, where nobody has said so and no table of the sweep is printed."""
    if isinstance(tracker, BackgroundTracker) and tracker.behind:
        console.print(lacking(tracker.behind, folder.path), markup=False, highlight=False, soft_wrap=True)


def _close(tracker: BackgroundTracker | Tracker | Untracked, folder: RunFolder, metrics: dict[str, float]) -> None:
    records = folder.read_records().values()
    finished = any(record.role == TRIAL and (record.status == FINISHED or record.raced_out) for record in records)
    cut_off = any(record.open and record.role != REPLICATE for record in records)
    status = "KILLED" if cut_off else "FINISHED" if finished else "FAILED"
    certificate = read_certificate(folder.path)
    names = ("frontier.parquet", "frontier.png", BREAKING, ATTACKERS, CERTIFICATE)
    artifacts = [*(folder.path / name for name in names), folder.sweep, folder.trials, folder.curves, folder.deploy,
                 folder.report, folder.roc, folder.data_findings]  # fmt: skip
    of_certificate = {} if certificate is None else certificate_metrics(certificate)
    tracker.sweep_ended(artifacts, metrics | of_certificate, status)
