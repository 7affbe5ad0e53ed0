"""Plans the trials that run a sweep's leaders again with fresh seeds: the best of many trials is partly lucky."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from sweeper.analysis.attack_bounds import UNBOUNDED, AttackBounds
from sweeper.analysis.attackers import attackers
from sweeper.analysis.frontier import comparable, environments, harmless, points
from sweeper.analysis.left_out import met_attackers
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import CONFIRMATION, FINISHED, TRIAL, TrialRecord, next_id
from trainers.errors import ConfigError
from trainers.trial import TrialConfig


def confirmations(
    spec: SweepSpec,
    frame: pd.DataFrame,
    records: Mapping[str, TrialRecord],
    top: int,
    seeds: int,
    most: AttackBounds = UNBOUNDED,
) -> list[TrialRecord]:
    """The trials still missing until each leader has run with ``seeds`` fresh seeds against every attacker.

    Where attackers differ between trials (a searched poison rate), a leader is run against all of them, also against
    those at which every trial left its race. The leaders of an attacker's sweep are attackers, each run against the one
    defense.

    Args:
        spec: the sweep.
        frame: rows of ``trials.parquet``.
        records: of all that has run, earlier confirmations included.
        top: how many leaders of each defense.
        seeds: how many seeds, none of which the search has used.
        most: see :func:`leaders`.

    Raises:
        ConfigError: there is no leader, or a bound on the success of attackers was asked for.
    """
    if spec.attacking:
        chosen = _leading_attackers(spec, frame, records, top, most)
    else:
        chosen = _against_every_attacker(frame, records, top, most)
    known = {r.config.key for r in records.values() if r.role == CONFIRMATION and r.config}
    fresh = range(max(spec.seeds) + 1, max(spec.seeds) + 1 + seeds)
    missing: list[TrialRecord] = []
    ids = [name for name, record in records.items() if record.role == CONFIRMATION]
    for leader in chosen:
        for seed in fresh:
            config = replace(leader, repeats=(seed,))
            if config.key in known:
                continue
            controls = {(s.name, r): config.control(s, r, spec.control.as_dict()).key for s, r in config.runs()}
            ids.append(next_id("k", ids))
            missing.append(TrialRecord(ids[-1], CONFIRMATION, config, controls))
    return missing


def _against_every_attacker(
    frame: pd.DataFrame, records: Mapping[str, TrialRecord], top: int, most: AttackBounds
) -> list[TrialConfig]:
    """The leading settings of each defense, each with every set of scenarios in which an attack works."""
    defenses = sorted(frame.loc[frame["role"] == TRIAL, "defense"].unique())
    # Compared defenses each have leaders of their own.
    parts = [frame[(frame["defense"] == name) | (frame["role"] != TRIAL)] for name in defenses]
    leading = [setting for part in parts for setting in leaders(part, top, most)]
    if not leading:
        raise ConfigError("No setting with sound evidence is on the frontier, so there is nothing to confirm.")
    ran = {name: r.config for name, r in records.items() if r.role == TRIAL and r.config}
    settings = {records[name].config_id: config for name, config in ran.items() if records[name].status == FINISHED}
    rows = met_attackers(frame)
    threats = set(rows.loc[~environments(rows).isin(harmless(rows)), "trial_id"])
    met = {repr(config.scenarios): config.scenarios for name, config in ran.items() if name in threats}.values()
    return [replace(settings[setting], scenarios=scenarios) for setting in leading for scenarios in met]


def _leading_attackers(
    spec: SweepSpec, frame: pd.DataFrame, records: Mapping[str, TrialRecord], top: int, most: AttackBounds
) -> list[TrialConfig]:
    for limit in most.limits:
        raise ConfigError(
            f"--{limit.option} ranks settings of a defense, but this is an attacker's sweep; leave it out."
        )
    table = attackers(frame, spec)
    leading = [records[name].config for name in table.loc[table["leads"], "trial_id"].head(top)]
    if not leading:
        raise ConfigError("No attacker keeps the constraints, so there is nothing to confirm.")
    return [config for config in leading if config is not None]


def leaders(frame: pd.DataFrame, top: int, most: AttackBounds = UNBOUNDED) -> list[str]:
    """The ``config_id`` of the best settings on the frontier, the best first.

    Args:
        frame: rows of ``trials.parquet``.
        top: how many.
        most: settings that keep these bounds come first, and rank by accuracy; without a bound all rank by their
            distance to accuracy 1 at an excess of 0.

    Settings are ranked within an environment, since a milder attacker makes all of them look better; for a setting in
    several environments, the worst rank counts.
    """
    table = points(frame)
    sound = table[comparable(table)]
    distance = ((1 - sound["val_acc"]) ** 2 + sound["val_asr_excess"] ** 2) ** 0.5
    sound = sound.assign(
        misses=~most.kept(sound), short_of=1 - sound["val_acc"] if most.limits else distance
    ).sort_values(["misses", "short_of"])
    sound["place"] = sound.groupby("environment").cumcount()
    ranks = sound.groupby("config_id")[["misses", "place", "short_of"]].max()
    ranks = ranks[ranks.index.isin(table.loc[table["on_frontier"], "config_id"])]
    return [str(config) for config in ranks.sort_values(["misses", "place", "short_of"]).index[:top]]
