"""What of a preset does not fit the data: all of it is found before it is said."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from trainers.errors import ConfigError


class Misfits:
    """Collects the parts of a preset that do not fit the data, with the reason of each.

    Args:
        scenarios: names of the preset's scenarios. They are known by their places here, whichever are left out later.
    """

    def __init__(self, scenarios: Sequence[str]):
        self._parts = {name: f"scenarios.{number} ({name})" for number, name in enumerate(scenarios)}
        self._reasons: dict[str, str] = {}
        self._unjudged: set[str] = set()

    def of_scenario(self, name: str) -> AbstractContextManager[None]:
        """As :meth:`of`, for a scenario."""
        return self.of(self._parts[name])

    def fits(self, name: str) -> bool:
        """Whether no reason was found against a scenario, nor against the defaults that it takes."""
        return self._parts[name] not in self._reasons and self._parts[name] not in self._unjudged

    def do_not_judge(self, name: str) -> None:
        """Note no reason of a scenario from now on: it takes defaults that do not fit, and would only repeat them."""
        self._unjudged.add(self._parts[name])

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Note a :class:`~trainers.errors.ConfigError` that is raised inside as the reason of ``part``."""
        try:
            yield
        except ConfigError as error:
            if part not in self._unjudged:
                self._reasons.setdefault(part, str(error))

    @property
    def reasons(self) -> dict[str, str]:
        """The first reason of each part, in the order of the preset, defenses first."""
        places = list(self._parts.values())
        order = sorted(self._reasons, key=lambda part: places.index(part) if part in places else -1)
        return {part: self._reasons[part] for part in order}

    def sentence(self) -> str:
        """All parts and reasons; parts with the same reason stand together."""
        by_reason: dict[str, list[str]] = {}
        for part, reason in self.reasons.items():
            by_reason.setdefault(reason, []).append(part)
        texts = [f"{', '.join(parts)}: {reason}" for reason, parts in by_reason.items()]
        if len(texts) == 1:
            return texts[0]
        return f"{len(self._reasons)} parts of the preset do not fit the data. {' '.join(texts)}"

    def refuse(self) -> None:
        """Refuse the preset if a part of it does not fit.

        Raises:
            ConfigError: one does not.
        """
        if self._reasons:
            raise ConfigError(self.sentence())
