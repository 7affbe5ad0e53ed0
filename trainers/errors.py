"""The ways in which things go wrong."""


class ConfigError(ValueError):
    """The user can mend this before the first trial. One sentence: what is wrong and what is allowed."""


class HostError(ConfigError):
    """This machine lacks what the trial needs (a GPU, the program as the others have it); another may have it."""


class TrialError(RuntimeError):
    """This trial cannot go on (a loss that is NaN, say) and a retry would not help. The message is its reason."""


class RateError(ConfigError):
    """A poison rate does not fit the data; another one may."""
