"""What is known of each trial: its rows and curves, in the column order of the design."""

from dataclasses import dataclass, field
from typing import Any

from trainers.evaluation import METRICS, WEAK_ATTACK_BELOW
from trainers.trial import TrialConfig

FINISHED, PRUNED, FAILED, RUNNING = "FINISHED", "PRUNED", "FAILED", "RUNNING"

KEY_COLUMNS = (
    "trial_id", "config_id", "role", "status", "scenario", "attack", "poison_rate", "poison_share", "target", "seed",
    "defense",
)  # fmt: skip
EXTRA_COLUMNS = ("control_asr", "weak_attack", "n_eval", "error", "attempt")
RunKey = tuple[str, int]
"""Scenario name and repeat: one run within a trial."""


@dataclass
class TrialRecord:
    """One trial, or one control, as the driver knows it.

    Args:
        trial_id: ours, in the order of start.
        role: ``trial`` or ``control``.
        config: what it runs.
        controls: for each run, the key of its control's configuration.
        searched: values of the searched parameters, by name in the study.
    """

    trial_id: str
    role: str
    config: TrialConfig
    controls: dict[RunKey, str]
    searched: dict[str, Any] = field(default_factory=dict)
    status: str = RUNNING
    error: str | None = None
    attempt: int = 1
    epochs: dict[RunKey, dict[int, dict[str, Any]]] = field(default_factory=dict)
    facts: dict[RunKey, dict[str, Any]] = field(default_factory=dict)

    def add_epoch(self, run: RunKey, figures: dict[str, Any], facts: dict[str, Any]) -> None:
        """Add an epoch's figures; one reported again by a later attempt takes the place of the first."""
        self.epochs.setdefault(run, {})[figures["epoch"]] = figures
        self.facts[run] = facts

    def final(self, run: RunKey) -> dict[str, Any]:
        """Figures of the last epoch of a run; empty before there is one."""
        epochs = self.epochs.get(run)
        return epochs[max(epochs)] if epochs else {}

    def rows(self, control_asr: dict[str, float | None]) -> list[dict[str, Any]]:
        """One row per run. Only a FINISHED trial has figures.

        Args:
            control_asr: attack success of each finished control, by key of its configuration.
        """
        rows = []
        for scenario, repeat in self.config.runs():
            run = (scenario.name, repeat)
            figures = self.final(run) if self.status == FINISHED else {}
            control = control_asr.get(self.controls[run])
            facts = self.facts.get(run, {})
            attacked = scenario.poison_rate > 0
            row: dict[str, Any] = {
                "trial_id": self.trial_id,
                "config_id": self.config.setting_key,
                "role": self.role,
                "status": self.status,
                "scenario": scenario.name,
                "attack": scenario.attack,
                "poison_rate": scenario.poison_rate,
                "poison_share": facts.get("poison_share"),
                "target": scenario.resolved_target,
                "seed": repeat,
                "defense": self.config.defense,
                **{metric: figures.get(metric) for metric in METRICS},
                "control_asr": control,
                "weak_attack": control < WEAK_ATTACK_BELOW if control is not None and attacked else None,
                "n_eval": facts.get("n_eval"),
                "error": self.error,
                "attempt": self.attempt,
            }
            row |= {f"param.defense.{key}": value for key, value in self.config.params.items()}
            row |= {f"param.scenario.{key}": value for key, value in scenario.params.items()}
            rows.append(row)
        return rows

    def curve_rows(self) -> list[dict[str, Any]]:
        """One row per run and epoch."""
        rows = []
        for scenario, repeat in self.config.runs():
            for figures in self.epochs.get((scenario.name, repeat), {}).values():
                head = {
                    "trial_id": self.trial_id,
                    "config_id": self.config.setting_key,
                    "role": self.role,
                    "scenario": scenario.name,
                    "attack": scenario.attack,
                    "poison_rate": scenario.poison_rate,
                    "seed": repeat,
                    "defense": self.config.defense,
                }
                rows.append({**head, **figures})
        return rows
