from dataclasses import replace
from pathlib import Path

import pytest

from sweeper.certify import is_open
from sweeper.run_folder.certificate import DESCRIBED, Budget, Certificate, write_certificate
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import REPLICATE, TrialRecord
from sweeper.run_folder.status import read_status
from tests.sweeper.analysis.test_candidates import trial
from tests.sweeper.certificates import after_losses
from tests.sweeper.cli.test_confirming import swept
from tests.sweeper.small import finish, spec_with


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """A sweep that has ended."""
    return swept(tmp_path / "made", trial(spec_with(), 0, 0.9, 0.01))


def describe(path: Path, certificate: Certificate, leave_open: bool = False) -> None:
    """Write the replicates of the described settings."""
    folder, number = RunFolder(path), 0
    for setting, config in enumerate(certificate.settings()[len(certificate.candidates) :]):
        for replicate in range(DESCRIBED):
            seed = certificate.seed(len(certificate.candidates) + setting, replicate)
            own = replace(config, scenarios=tuple(certificate.scenarios()), repeats=(seed,))
            record = TrialRecord(f"r{number:04d}", REPLICATE, own, {})
            folder.write_record(record if leave_open else finish(record))
            number += 1


def test_a_test_is_open_until_nothing_of_it_is_left_to_run(ended: Path) -> None:
    assert not is_open(ended), "none was begun"
    write_certificate(ended, after_losses([0.0] * 3))
    assert is_open(ended), "it was cut off between two replicates, when no record is open"
    certified = after_losses([0.0] * 32)
    write_certificate(ended, certified)
    assert is_open(ended), "the described settings are missing"
    describe(ended, certified, leave_open=True)
    assert is_open(ended)
    describe(ended, certified)
    assert not is_open(ended)


def test_a_test_whose_budget_is_spent_is_not_open(ended: Path) -> None:
    spent = after_losses([0.0] * 3).model_copy(update={"budgets": [Budget(after=0, trainings=38)]})
    describe(ended, spent)
    write_certificate(ended, spent)
    assert is_open(ended), "35 trainings within the budget are left, of which 29 are needed"
    write_certificate(ended, spent.model_copy(update={"budgets": [*spent.budgets, Budget(after=3, trainings=30)]}))
    assert not is_open(ended)


def test_an_open_test_leaves_the_sweep_ended(tmp_path: Path) -> None:
    search = {"sampler": "random", "trials": 1, "workers": 1}
    path, known = swept(tmp_path / "one", trial(spec_with(), 0, 0.9, 0.01), search=search), after_losses([0.0] * 3)
    write_certificate(path, known)
    describe(path, known, leave_open=True)
    status = read_status(RunFolder(path))
    assert (status.word, status.done, status.budget) == ("ended", 1, 1)
    assert status.certificate == known
