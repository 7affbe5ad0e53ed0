"""The page of a sweep that runs: what it shows, read from the run folder alone, again and again."""

import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from sweeper.analysis.frontier import in_order, points
from sweeper.analysis.overview import Overview, overview
from sweeper.analysis.verdicts import how_it_stands
from sweeper.preset.grid import grid_points
from sweeper.preset.objectives import ATTACK_LEVELS, ATTACK_SUCCESS
from sweeper.preset.spec import SweepSpec
from sweeper.report.points import colours_of, for_json, searched_columns, setting_points
from sweeper.report.rendering import render
from sweeper.run_folder.class_columns import CLASS_COLUMNS
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.live import RunningTraining, read_live
from sweeper.run_folder.record import (
    CONTROL,
    FAILED,
    FINISHED,
    PRUNED,
    RUNNING,
    TRIAL,
    TRIAL_ID,
    RunKey,
    TrialRecord,
    control_success,
)
from sweeper.run_folder.records_cache import RecordsCache, Version, version_of
from sweeper.run_folder.status import Status, read_status
from sweeper.words import command, parameter
from trainers.errors import ConfigError

AGAIN_AFTER_S = 1.0
"""Seconds for which an answer is given again, also to another window."""
FIGURES_SHARE = 10
"""Figures of all settings are computed again when the table has changed, but take at most a tenth of the time."""
MOST_ENDED = 200
"""Trials listed of those that ended without all of their trainings; the newest ones."""

Running = Mapping[tuple[str, RunKey], RunningTraining]


@dataclass(frozen=True)
class _Figures:
    """What is computed from ``trials.parquet``.

    Args:
        version: of the table.
        content: settings and their environments, as the page's script reads them.
        summary: the sweep in a few figures, likewise.
        computed_at: by the monotonic clock.
        took: seconds.
    """

    version: Version | None
    content: dict[str, Any]
    summary: dict[str, Any]
    computed_at: float
    took: float


class LiveSweep:
    """A sweep that is watched. May be asked from several threads.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder):
        self._folder = folder
        self._records = RecordsCache(folder)
        self._lock = Lock()
        self._figures: _Figures | None = None
        self._described: tuple[Version | None, SweepSpec, int | None] | None = None
        """Version of ``sweep.yaml``, the sweep that it describes, and how many points its grid has; null: no grid."""
        self._known: dict[str, Any] = {}
        """The last answer, without the figures of the settings."""
        self._known_at = -float("inf")

    def page(self) -> str:
        """The page as HTML; its script asks for what it shows."""
        spec, _ = self._spec()
        return render("live", name=spec.name, attacking=spec.attacking)

    def is_over(self) -> bool:
        """Whether the sweep has ended and the report tells of it. Before the first answer it is taken to go on: the
        page is there at once, and asks.
        """
        return bool(self._known) and bool(self.answer().get("over"))

    def answer(self, seen: str = "") -> dict[str, Any]:
        """What the page shows, as JSON can hold it. What cannot be read just now is said in ``error``.

        Args:
            seen: ``version`` of an earlier answer, whose ``figures`` are not sent again if they are the same.
        """
        with self._lock:
            if time.monotonic() - self._known_at > AGAIN_AFTER_S:
                try:
                    self._known = self._read()
                except (ConfigError, ValueError, OSError) as error:  # ValueError: the preset is not valid
                    self._known = {"error": str(error)}
                self._known_at = time.monotonic()
            figures = self._figures
            known = dict(self._known)
            if figures is not None and known.get("version") not in (None, seen):
                known["figures"] = figures.content
            return known

    def _read(self) -> dict[str, Any]:
        records = self._records.read()
        spec, grid = self._spec()
        status = read_status(self._folder, records, spec, grid)
        figures = self._current_figures(spec)
        running = self._running(records, status)
        over = status.word == "ended" and self._report_is_current()
        answer: dict[str, Any] = for_json(
            {
                "name": status.name,
                "word": status.word,
                "holder": status.holder,
                "over": over,
                "at": time.time(),
                "trials": [status.done, status.budget],
                "trainings": [status.trainings, status.trainings_in_all],
                "controls": status.controls,
                "not_needed": status.not_needed,
                "seconds_left": status.seconds_left if status.done < status.budget else None,
                "notes": self._notes(status),
                "report_at": self._report_at(),
                "summary": figures.summary,
                "version": str(figures.version),
                "open": _open(records, running or {}, spec),
                "ended": _ended(records),
                "hosts": None if running is None else _hosts(running),
            }
        )
        return answer

    def _spec(self) -> tuple[SweepSpec, int | None]:
        """The sweep, and how many points its grid has; ``sweep.yaml`` is read again when it has changed."""
        version = version_of(self._folder.sweep)
        if self._described is None or version is None or self._described[0] != version:
            spec = self._folder.spec()
            self._described = version, spec, len(grid_points(spec)) if spec.search.sampler == "grid" else None
        return self._described[1:]

    def _report_is_current(self) -> bool:
        """Whether there is a report that is not older than the records. Tables may be written again without them."""
        newest, report = self._records.newest, version_of(self._folder.report)
        return report is not None and (newest is None or report[1] >= newest[1])

    def _running(self, records: Mapping[str, TrialRecord], status: Status) -> Running | None:
        """The trainings that run; null if that is not known. The file may name some that have ended since."""
        if status.holder is None:
            return {}
        known = read_live(self._folder)
        if known is None:
            return None
        own = {training.key: training for training in known if training.trial_id in records}
        states = {key: records[key[0]].trainings.get(key[1]) for key in own}
        return {key: own[key] for key, state in states.items() if state is not None and state.status == RUNNING}

    def _notes(self, status: Status) -> list[str]:
        """Sentences on how the sweep stands, and what to do."""
        path, notes = self._folder.path, []
        if status.word == "interrupted":
            notes.append(f"The sweep was interrupted. To continue: {command('resume', path)}")
        if status.word == "ended" and not self._report_is_current():
            has = "its report is older than its results" if self._report_at() is not None else "has no report yet"
            notes.append(f"The sweep has ended, and {has}. To write it: {command('report', path)}")
        if status.certificate is not None:
            notes.append(how_it_stands(status.certificate))
        if self._folder.store is not None and status.holder is None:
            moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(self._changed_at()))
            notes.append(
                f"What {path} holds is of {moment}. A sweep that goes on elsewhere is copied to {self._folder.store}, "
                "which this page does not follow."
            )
        return notes

    def _changed_at(self) -> float:
        """When the results of the folder last changed, in seconds since 1970; 0: unknown."""
        times = [version_of(path) for path in (self._folder.records, self._folder.trials, self._folder.sweep)]
        return max((version[1] / 1e9 for version in times if version is not None), default=0.0)

    def _report_at(self) -> float | None:
        version = version_of(self._folder.report)
        return None if version is None else version[1] / 1e9

    def _current_figures(self, spec: SweepSpec) -> _Figures:
        """The figures of all settings; a table that cannot be read just now leaves those of before."""
        before, version = self._figures, version_of(self._folder.trials)
        if before is not None:
            rests = time.monotonic() - before.computed_at < FIGURES_SHARE * before.took
            if version is None or version == before.version or rests:
                return before
        began = time.monotonic()
        try:
            content, summary = self._computed(spec)
        except ConfigError:
            if before is not None:
                return before
            raise
        ended = time.monotonic()
        self._figures = _Figures(version, for_json(content), for_json(summary), ended, ended - began)
        return self._figures

    def _computed(self, spec: SweepSpec) -> tuple[dict[str, Any], dict[str, Any]]:
        frame = self._folder.read_trials()
        table, names = points(frame), searched_columns(frame)
        shown, environments = setting_points(frame, table, names, spec), in_order(table["environment"].unique())
        if spec.attacking:  # each attacker is an environment of its own: the points form no frontier
            shown = [point | {"environment": "", "on_frontier": False} for point in shown]
            environments = [""]
        content = {
            "environments": environments,
            "params": list(names),
            "class_params": [name for name, column in names.items() if column in CLASS_COLUMNS],
            "class_names": self._folder.class_names,
            "colours": colours_of(table),
            "points": shown,
            "interest": None if spec.attacking else spec.search.interest,
        }
        poisons = not spec.attacking and (table.empty or bool(table["val_asr_excess"].notna().any()))
        return content, _summary(overview(frame, spec, table)) | {"levels": ATTACK_LEVELS if poisons else ()}


def _summary(known: Overview) -> dict[str, Any]:
    return {
        "hours": known.hours,
        "hours_saved": known.hours_saved,
        "volumes": known.volumes,
        "best": {
            environment: [
                {"level": level} | ({} if best is None else {"config_id": best.config_id, "acc": best.acc})
                for level, best in by_level.items()
            ]
            for environment, by_level in known.best.items()
        },
    }


def _open(records: Mapping[str, TrialRecord], running: Running, spec: SweepSpec) -> list[dict[str, Any]]:
    """Trials and controls that have not ended: their settings, trainings, and what they have shown so far."""
    control_asr = control_success(records.values())
    return [
        {
            "trial_id": record.trial_id,
            "config_id": record.config_id,
            "role": record.role,
            "setting": _setting(record),
            "finished": _finished(record),
            "all": len(record.trainings),
            "running": sum(key[0] == record.trial_id for key in running),
            "shown": _shown(record, record.rows(control_asr), spec),
            "trainings": [_training(record, run, running) for run in record.trainings],
        }
        for record in records.values()
        if record.open
    ]


def _setting(record: TrialRecord) -> str:
    """What distinguishes a trial: the searched parameters, or what a control or replicate runs."""
    if record.searched:
        return ", ".join(f"{name} {parameter(value)}" for name, value in record.searched.items())
    if record.config is None:
        return ""
    runs = ", ".join(f"{scenario.name} at rate {scenario.poison_rate:g}, seed {seed}" for scenario, seed in record.runs)
    if record.role == CONTROL:
        return f"no defense, {runs}"
    return f"{record.config.defense}{'' if record.role == TRIAL else ' again'}, {runs}"


def _finished(record: TrialRecord) -> int:
    return sum(state.status == FINISHED for state in record.trainings.values())


def _shown(record: TrialRecord, rows: Sequence[Mapping[str, Any]], spec: SweepSpec) -> str:
    """The objectives of a trial over its trainings that finished, as text; empty before the first."""
    done = [row for row in rows if row["status"] == FINISHED]
    values = [(objective.metric, objective.value(done)) for objective in spec.objectives] if done else []
    return ", ".join(f"{name} {value:.3f}" for name, value in values if value is not None)


def _training(record: TrialRecord, run: RunKey, running: Running) -> dict[str, Any]:
    state, live, last = record.trainings[run], running.get((record.trial_id, run)), record.final(run)
    done = state.status == FINISHED
    waits = not done and record.open  # also one that was cut off, which a resumed sweep runs
    return {
        "scenario": run[0],
        "seed": run[1],
        "state": "runs" if live else "waits" if waits else state.status.lower(),
        "host": live.host if live else state.host,
        "epoch": live.epoch if live else last.get("epoch"),
        "figures": {name: last.get(name) for name in ("val_acc", *ATTACK_SUCCESS)} if done else {},
        "why": None if waits else state.error,
    }


def _ended(records: Mapping[str, TrialRecord]) -> dict[str, Any]:
    """Why trials ended before all of their trainings had finished: reasons with counts, and the newest trials."""
    early = [record for record in records.values() if not record.open and record.status != FINISHED]
    early.sort(key=lambda record: record.ended_at or 0.0, reverse=True)
    return {
        "count": len(early),
        "reasons": Counter(_kind(record) for record in early).most_common(),
        "trials": [
            {
                "trial_id": record.trial_id,
                "config_id": record.config_id,
                "setting": _setting(record),
                "status": _status_word(record),
                "why": record.error or "",
                "at": record.ended_at,
                "finished": _finished(record),
                "all": len(record.trainings),
            }
            for record in early[:MOST_ENDED]
        ],
    }


def _status_word(record: TrialRecord) -> str:
    if record.raced_out:
        return "left its race"
    return {PRUNED: "stopped early", FAILED: "failed"}[record.status]


def _kind(record: TrialRecord) -> str:
    """The reason without what differs between trials that ended for the same one: other trials' ids, figures that are
    followed by a bound, and by how many trainings one fell behind.
    """
    why = re.sub(rf"\b{TRIAL_ID}\b", "another trial", record.error or "")
    why = re.sub(r" is at least \d+(\.\d+)?, (?=above )", " is ", why)
    why = re.sub(r", where \d+ of \d+ trainings are ahead of it", "", why)
    return f"{_status_word(record)}: {why}" if why else _status_word(record)


def _hosts(running: Running) -> list[dict[str, Any]]:
    """Each host, with the trainings that run on it; last, those whose host is not known yet."""
    by_host: defaultdict[str, list[RunningTraining]] = defaultdict(list)
    for training in running.values():
        by_host[training.host or ""].append(training)
    return [
        {
            "host": host,
            "trainings": [
                {"trial_id": one.trial_id, "scenario": one.scenario, "seed": one.seed, "epoch": one.epoch,
                 "stage": one.stage}
                for one in sorted(by_host[host], key=lambda one: one.key)
            ],
        }
        for host in sorted(by_host, key=lambda name: (name == "", name))
    ]  # fmt: skip


def as_json(answer: Mapping[str, Any]) -> bytes:
    """An answer as the server sends it."""
    return json.dumps(answer, allow_nan=False).encode()
