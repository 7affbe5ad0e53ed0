"""Errors of a trial, by who can correct them."""


class ConfigError(ValueError):
    """The user can correct this before the first trial. The message is one sentence: what is wrong, what is allowed."""


class HostError(ConfigError):
    """This machine lacks something that the trial needs (a GPU, the same program); another machine may have it."""


class TrialError(RuntimeError):
    """This trial cannot continue (its loss is NaN, for example), and a retry would not help. The message says why."""


class RateError(ConfigError):
    """This poison rate does not fit the data; another rate may."""
