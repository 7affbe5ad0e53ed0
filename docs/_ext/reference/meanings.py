"""The meaning of every figure and column, as the reference shows it.

To add a figure, add one line here. One that is measured on both halves of the test split belongs into
:data:`BOTH_HALVES`: its line describes ``val_...`` and ``test_...``.
"""

IDENTITY: dict[str, str] = {
    "trial_id": "Name of the trial, in the order of start: t0007 was proposed by the search, c0007 is a control, "
    "k0007 trains a leading setting again with fresh seeds, and r0007 belongs to a replicate of the test.",
    "config_id": "Name of the setting: the defense with its parameters. The same setting has the same name in every "
    "sweep.",
    "role": "What the trial is for: trial (proposed by the search), control (trained without a defense), confirmation "
    "(a leading setting trained again with fresh seeds) or replicate (of the test that certifies a setting).",
    "status": "Of the training: FINISHED, PRUNED (stopped, or not needed), FAILED or RUNNING. Only FINISHED ones have "
    "figures.",
    "trial_status": "Of its trial: FINISHED, PRUNED (it left its race, or was stopped), FAILED or RUNNING.",
    "scenario": "Name of the scenario: an attack with its parameters, poison rate and target.",
    "attack": "The attack of the scenario.",
    "poison_rate": "The poison rate as the preset gives it: a share of the target class for the attacks that say so in "
    "their description, of the whole training set otherwise.",
    "poison_share": "Poisoned samples as a share of the whole training set, for every attack.",
    "target": "Number of the target class, from 0; class.target beside it is its name. Null for all-to-all.",
    "seed": "The seed of the preset (`seeds`) that this row was trained with.",
    "defense": "The defense; none in controls.",
    "attempt": "How often the training was started: 0 if it was never needed, above 1 after a crash or a lost host.",
    "error": "Why the training failed, or was not needed. Null if it finished.",
    "trial_error": "Why the trial failed, or left its race. Null if it finished.",
}
"""Which training a row of ``trials.parquet`` is about."""

BOTH_HALVES: dict[str, str] = {
    "val_acc": "Clean accuracy: the share of clean validation images that are classified correctly.",
    "val_balanced_acc": "Balanced accuracy: the mean over the classes of the share of each class's clean validation "
    "images that are classified correctly. A class without such an image does not count.",
    "val_min_class_acc": "Accuracy on the worst class: the lowest of these shares.",
    "val_asr": "Attack success rate: the share of triggered validation images, of classes other than the target, that "
    "are classified as the attacker wants.",
    "val_asr_excess": "What the trigger adds: val_asr less its floor (asr_floor), or 0 if that is negative.",
    "val_ra": "Robust accuracy: the share of the same triggered images that are classified correctly.",
}
"""What is measured on the validation half, and in the same way on the test half."""

MEASURED: dict[str, str] = {
    **{
        name: meaning
        for val, about in BOTH_HALVES.items()
        for name, meaning in ((val, about), (val.replace("val_", "test_", 1), f"The same as {val}, on the test half."))
    },
    "asr_floor": "The share of the same images, without the trigger, that are classified as the attacker wants. It is "
    "the attack success that a model without a backdoor would have; val_asr_excess is what the trigger adds to it.",
    "test_asr_floor": "The same as asr_floor on the test half.",
    "control_asr": "Attack success of the control: the same poisoned data trained without a defense.",
    "weak_attack": "Whether control_asr is below 0.8. Such a scenario is no evidence for any defense.",
    "n_eval": "Number of triggered validation images behind val_asr.",
    "val_class_counts": "For each class, as JSON: its name, how many of its clean validation images are classified "
    "correctly, and how many there are. Only in trials.parquet.",
    "detection_auroc": "Area under the ROC curve of the defense's scores, poisoned samples against all others. 1 is "
    "perfect, 0.5 is chance; below 0.5 the scores point at clean samples.",
    "detection_tpr": "Of the poisoned samples, the share that the defense marked as suspicious.",
    "detection_fpr": "Of the samples that are not poisoned, the share that the defense marked as suspicious.",
    "credible_share": "The share of training samples that the defense treated as clean.",
    "credible_min_class_share": "The share of the rarest class among the samples treated as clean. Near 0, the "
    "model may not know that class.",
    "poison_in_credible": "The share of poisoned samples among those treated as clean.",
    "loss": "Mean training loss of the epoch, as the defense defines its loss.",
    "epoch": "Number of the epoch, over all stages of the defense, from 1.",
    "images_seen": "Training images processed so far, each view counted. It compares the cost of defenses better than "
    "seconds do.",
    "seconds": "Seconds of training so far, without measuring.",
    "seconds_shared": "The part of `seconds` that another training took, at whose trunk this one began; see "
    "[Trunks](../trunks.md).",
}
"""What is measured. In ``trials.parquet`` they are those of the final epoch, in ``curves.parquet`` of every epoch."""

ATTACK_COST: dict[str, str] = {
    "changed_share": "The share of training samples whose pixels or label the attack changed.",
    "psnr": "Peak signal-to-noise ratio in dB of the changed images against the clean ones, mean. Higher is less "
    "visible.",
    "ssim": "Structural similarity of the changed images to the clean ones, mean, at most 1. Higher is less visible. "
    "Null for images below 11 pixels.",
}
"""What the attack costs the attacker, and how visible it is."""

CURVE: dict[str, str] = {
    "stage": "Name of the defense's stage that the epoch belongs to.",
    "reported_at": "When the epoch was reported, in seconds since 1970.",
}
"""Columns that only ``curves.parquet`` has."""

SETTING: dict[str, str] = {
    "environment": "What the attacker varied between trials, such as `poison_rate=0.05`. Settings are compared within "
    "one environment only. Empty if nothing was varied.",
    "trials": "The trials that trained this setting.",
    "seeds": "How many seeds the figures are means over.",
    "val_acc_sd": "Standard deviation of val_acc over seeds (n - 1).",
    "val_acc_low": "Low end of the 95% bootstrap interval of val_acc over seeds.",
    "val_acc_high": "High end of it.",
    "val_balanced_acc_sd": "Standard deviation of val_balanced_acc over seeds (n - 1).",
    "val_min_class_acc_sd": "Standard deviation of val_min_class_acc over seeds (n - 1), in the worst scenario.",
    "val_asr_excess_sd": "Standard deviation of val_asr_excess over seeds (n - 1), in the scenarios that count.",
    "val_asr_excess_low": "Low end of the 95% bootstrap interval of val_asr_excess over seeds.",
    "val_asr_excess_high": "High end of it.",
    "val_asr_sd": "Standard deviation of val_asr over seeds (n - 1), in the scenarios that count.",
    "val_asr_worst": "Attack success in the scenario in which it is highest, whatever the trigger adds there: what "
    "`select --max-asr` bounds. val_asr beside it is of the scenario in which the trigger adds most.",
    "control_acc": "Clean accuracy of the controls.",
    "control_asr_excess": "What the trigger adds without a defense: val_asr_excess of the control that has the lowest.",
    "lost_classes": "Classes that the setting lost in any training: the accuracy on them is below a tenth of that of "
    "the control. Empty if there is none, null if it is not known.",
    "weak": "Scenarios whose control failed or stayed below 0.8. A setting with any is not on the frontier.",
    "constraints_kept": "Whether the setting satisfies all constraints of the sweep.",
    "on_frontier": "Whether no other setting of its environment is better in both val_acc and val_asr_excess.",
    "frontier_share": "The share of bootstrap samples whose frontier holds the setting; tables call it held.",
    "certified": "What the test of `sweeper confirm --confidence` guarantees of the setting; null if select was given "
    "no confidence. Only in deploy.yaml.",
    "hypervolume": "Area that a frontier of val_acc and val_asr_excess dominates. 1 would be accuracy 1 with a trigger "
    "that adds nothing.",
}
"""Figures of a setting over its seeds and scenarios, in ``frontier.parquet``, tables and ``deploy.yaml``."""

MEANINGS: dict[str, str] = {**IDENTITY, **MEASURED, **ATTACK_COST, **CURVE, **SETTING}
"""Every figure and column by name."""
