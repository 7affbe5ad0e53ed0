"""What is shipped for clusters and containers: the files' own formats, and what they must never do."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[1]


def read(name: str) -> Any:
    return yaml.safe_load((PROJECT / name).read_text())


def versions(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (PROJECT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster-aws.yaml"])
def test_the_launcher_takes_it(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read(name))
    validate_config(config)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    environment = " ".join(config["setup_commands"])
    assert "RAY_AUTH_MODE=token" in environment
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])


def test_workers_on_aws_are_spot_instances_and_the_head_is_not() -> None:
    kinds = read("cluster-aws.yaml")["available_node_types"]
    assert kinds["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in kinds["head"]["node_config"]


def test_ray_makes_no_security_group_on_aws() -> None:
    """Each that it makes lets the whole world reach ssh, whatever else is asked of it."""
    from ray.autoscaler._private.aws.config import _configure_security_group, _create_default_ssh_inbound_rules

    assert _create_default_ssh_inbound_rules()[0]["IpRanges"] == [{"CidrIp": "0.0.0.0/0"}], "not needed any more"
    config = read("cluster-aws.yaml")
    assert "security_group" not in config["provider"]
    groups = [kind["node_config"]["SecurityGroupIds"] for kind in config["available_node_types"].values()]
    assert groups[0] == groups[1]
    assert _configure_security_group(config) is config, "it asks nothing of AWS"


def test_services_publish_nothing_beyond_loopback() -> None:
    services = read("docker/compose.yaml")["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_secret_stands_in_a_service_or_has_a_default() -> None:
    services = read("docker/compose.yaml")["services"]
    secrets = {
        name: value
        for service in services.values()
        for name, value in service.get("environment", {}).items()
        if re.search("PASSWORD|SECRET|TOKEN", name)
    }
    assert len(secrets) > 5
    assert all(re.fullmatch(r"\$\{\w+:\?\}", value) for value in secrets.values()), secrets
    commands = str([(service.get("command"), service.get("healthcheck")) for service in services.values()])
    assert not [value for value in secrets.values() if value[2:-3] in commands], "a process list shows it"


def test_the_image_is_built_once_and_the_machine_is_counted_once() -> None:
    services = read("docker/compose.yaml")["services"]
    assert [name for name, service in services.items() if "build" in service] == ["prepare"]
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(services["head"]["command"].split())


def test_pods_run_with_a_token_and_not_as_root() -> None:
    cluster = read("docker/rayjob.yaml")["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == versions("requirements-hosts.lock")["ray"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert all(c["securityContext"]["allowPrivilegeEscalation"] is False for c in pod["containers"])


def test_hosts_run_the_versions_that_are_tested() -> None:
    ours = versions("requirements.lock")
    theirs = versions("requirements-hosts.lock")
    assert theirs.items() <= ours.items()
    assert "pytest" not in theirs
