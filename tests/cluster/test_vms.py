"""`ray up` on AWS and Google Cloud: Ray's own schema and checks, and the machines as each cloud's API takes them."""

from __future__ import annotations

import copy
import json
import logging
import re
import shlex
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli as ray_cli

ROOT = Path(__file__).parents[2]
CLOUDS = ("aws", "gcp")
Document = dict[str, Any]


@pytest.fixture(params=CLOUDS)
def cluster(request: pytest.FixtureRequest) -> Document:
    return read(request.param)


def read(cloud: str) -> Document:
    loaded: Document = yaml.safe_load((ROOT / "cluster" / f"{cloud}.yaml").read_text())
    return loaded


def options(cluster: Document, which: str) -> Document:
    """Parse the `ray start` of a node by Ray's own parser."""
    (line,) = [line for line in cluster[f"{which}_start_ray_commands"] if "ray start" in line]
    words = shlex.split(line.partition(";")[2])
    assert words[:2] == ["ray", "start"]
    parsed: Document = ray_cli.commands["start"].make_context("start", words[2:]).params
    return parsed


def test_ray_takes_it_as_it_is_and_filled_in(cluster: Document) -> None:
    schema = resources.files(ray.autoscaler) / "ray-schema.json"
    jsonschema.validate(cluster, json.loads(schema.read_text()))
    filled = prepare_config(copy.deepcopy(cluster))
    validate_config(filled)
    assert filled["available_node_types"].keys() == cluster["available_node_types"].keys()
    # Nothing of Ray's defaults, which install another Ray.
    assert not [line for line in filled["worker_setup_commands"] if "pip" in line]


def test_a_field_that_is_not_there_is_refused(cluster: Document) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config({**cluster, "idle_timeout": 5}))


def test_the_head_has_no_work(cluster: Document) -> None:
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    head = options(cluster, "head")
    assert head["head"]
    assert head["num_cpus"] == 0
    assert head["dashboard_host"] == "127.0.0.1"
    assert head["autoscaling_config"]
    worker = options(cluster, "worker")
    assert worker["address"].endswith(f":{head['port']}")


def test_ray_is_the_pinned_version_and_the_token_is_a_file(cluster: Document) -> None:
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert cluster["docker"]["image"].rpartition(":ray-")[2] == pinned[1]
    environment = dict(
        option.removeprefix("--env ").split("=", 1)
        for option in cluster["docker"]["run_options"]
        if option.startswith("--env ")
    )
    assert environment["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_TOKEN" not in environment
    folder, _, _ = environment["RAY_AUTH_TOKEN_PATH"].rpartition("/")
    assert folder in cluster["file_mounts"]


def test_groups_of_cpus_and_gpus_on_demand_and_spot(cluster: Document) -> None:
    types = cluster["available_node_types"]
    assert {*types} == {"head", "cpu", "cpu-spot", "gpu", "gpu-spot"}
    for name, kind in types.items():
        if name != "head":
            assert ("GPU" in kind["resources"]) is name.startswith("gpu")
            assert (kind.get("priority", 0) > 0) is not name.endswith("-spot")
            config = str(kind["node_config"])
            assert ("spot" in config.lower()) is name.endswith("-spot")


def test_the_launcher_starts_each_kind_of_machine_on_aws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own launcher and provider, against an EC2 of moto's: it checks every field as EC2 does."""
    moto = pytest.importorskip("moto")
    boto3 = pytest.importorskip("boto3")
    monkeypatch.setenv("HOME", str(tmp_path))  # where it leaves a key
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    logging.getLogger("ray").setLevel(logging.ERROR)
    with moto.mock_aws():
        from ray.autoscaler._private.aws.config import bootstrap_aws
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

        text = (ROOT / "cluster" / "aws.yaml").read_text()
        ec2 = boto3.client("ec2", region_name=read("aws")["provider"]["region"])
        network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        group = ec2.create_security_group(GroupName="mine", Description="-", VpcId=network)
        profile = boto3.client("iam").create_instance_profile(InstanceProfileName="tis-ray")
        made = {
            "sg-00000000000000000": group["GroupId"],
            "arn:aws:iam::111122223333:instance-profile/tis-ray": profile["InstanceProfile"]["Arn"],
        }
        for name, real in made.items():
            assert name in text
            text = text.replace(name, real)
        config = bootstrap_aws(prepare_config(yaml.safe_load(text)))
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for name, kind in config["available_node_types"].items():
            tags = {"ray-node-type": "worker", "ray-user-node-type": name}
            provider.create_node(kind["node_config"], tags, 1)
        found = [one for r in ec2.describe_instances()["Reservations"] for one in r["Instances"]]
        groups = {each["GroupName"] for each in ec2.describe_security_groups()["SecurityGroups"]}
    assert groups == {"default", "mine"}  # one of Ray's lets SSH in from everywhere
    kinds = {
        tag["Value"]: one
        for one in found
        for tag in one["Tags"]
        if tag["Key"] == "ray-user-node-type"
    }
    assert {*kinds} == {*read("aws")["available_node_types"]}
    for name, one in kinds.items():
        assert (one.get("InstanceLifecycle") == "spot") is name.endswith("-spot")
        assert one["IamInstanceProfile"]["Arn"] == profile["InstanceProfile"]["Arn"]
        assert one["MetadataOptions"]["HttpTokens"] == "required"
        assert [each["GroupName"] for each in one["SecurityGroups"]] == ["mine"]


def test_google_cloud_knows_every_field_of_the_machines() -> None:
    """Against the description of the Compute Engine API that its own client has."""
    client = pytest.importorskip("googleapiclient")
    described = resources.files(client) / "discovery_cache/documents/compute.v1.json"
    kinds = json.loads(described.read_text())["schemas"]
    for name, kind in read("gcp")["available_node_types"].items():
        hold(kind["node_config"], kinds["Instance"], kinds, name)
    with pytest.raises(AssertionError):
        hold({"scheduling": [{"preemptible": True}]}, kinds["Instance"], kinds, "wrong")


def hold(value: Any, kind: Document, kinds: Document, at: str) -> None:
    """Fail unless a value is what a schema of Google's discovery documents says."""
    kind = kinds[kind["$ref"]] if "$ref" in kind else kind
    if kind["type"] == "object":
        assert isinstance(value, dict), at
        for key, inner in value.items():
            known = kind.get("properties", {}).get(key) or kind.get("additionalProperties")
            assert known, f"{at}.{key}"
            hold(inner, known, kinds, f"{at}.{key}")
    elif kind["type"] == "array":
        assert isinstance(value, list), at
        for inner in value:
            hold(inner, kind["items"], kinds, at)
    else:
        types = {"boolean": bool, "integer": int, "string": str}
        allowed: Any = (str, int) if kind.get("format") == "int64" else types[kind["type"]]
        assert isinstance(value, allowed), f"{at}: {value!r}"
        assert value in kind.get("enum", [value]), f"{at}: {value!r}"
