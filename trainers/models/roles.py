"""Divides a network that was written elsewhere into parts by role."""

from collections.abc import Mapping, Sequence

from torch import nn

from trainers.errors import ConfigError

HEAD = "head"


def parts_of(network: nn.Module, groups: Sequence[Sequence[str]]) -> dict[str, nn.Module]:
    """The parts of a network: ``stem``, ``stage1``, ``stage2``, ..., ``head``.

    A part holds the largest modules all of whose parameters are its own, and, where a module is divided, parameters of
    that module itself.

    Args:
        network: to be divided.
        groups: names of parameters, from input to output: those of the stem, of each stage, and of the head.
    """
    roles = ["stem", *(f"stage{i}" for i in range(1, len(groups) - 1)), HEAD]
    role_of = {name: role for role, names in zip(roles, groups, strict=True) for name in names}
    found: dict[str, list[nn.Module]] = {role: [] for role in roles}
    _sort(network, "", role_of, found)
    return {role: nn.ModuleList(modules) for role, modules in found.items()}


def _sort(module: nn.Module, prefix: str, role_of: Mapping[str, str], found: dict[str, list[nn.Module]]) -> None:
    roles = {role_of[prefix + name] for name, _ in module.named_parameters()}
    if len(roles) == 1:
        found[roles.pop()].append(module)
        return
    for name, parameter in module.named_parameters(recurse=False):
        found[role_of[prefix + name]].append(nn.ParameterList([parameter]))
    for name, child in module.named_children():
        if any(True for _ in child.parameters()):
            _sort(child, f"{prefix}{name}.", role_of, found)


def check_groups(name: str, network: nn.Module, groups: Sequence[Sequence[str]], classifier: set[str]) -> None:
    """See that the groups are a stem, at least one stage, and a head, and that the head holds the classifier.

    Args:
        name: of the network.
        network: which.
        groups: names of its parameters, from input to output.
        classifier: names of the parameters of the last linear layer.

    Raises:
        ConfigError: they are not.
    """
    named = [parameter for group in groups for parameter in group]
    whole = sorted(named) == sorted(parameter for parameter, _ in network.named_parameters())
    if not whole or len(groups) < 3 or not all(groups) or not classifier or not classifier <= set(groups[-1]):
        raise ConfigError(
            f"model.name: {name} cannot be divided into a stem, stages and a head, which the defenses need; choose "
            "another network."
        )
