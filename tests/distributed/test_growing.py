"""A cluster that scales gets the nodes that a study asks for, and no more; another one is not waited for.

The autoscaler is Ray's own (version 2). Its provider is the one of Ray's tests: a new node is a new raylet on this
machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.distributed.test_submit import environment, free_ports, ray_node, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
KIND = "ray.head.default"  # as that provider calls it
HEAD = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
CONNECT = """
import json, sys
from tis_ray.config import parse_config
from tis_ray.distributed import growing
from tis_ray.distributed.connect import connect
import ray
growing.STILL = 20.0
compute = json.loads(sys.argv[1])
study = {"data": {"pool": {"kind": "builtin", "rows": 9}, "query": {"kind": "builtin", "skill": "reverse_word", "rows": 2}},
    "model": {"name": "builtin"}, "representation": "less", "selector": "round_robin", "budget": 1,
    "batch": {"threads": 1}, "compute": compute}
said = []
actors = connect(parse_config(study), said.append).actors
groups = [one["state"] for one in ray.util.placement_group_table().values()]
print(json.dumps({"actors": actors, "said": said, "left": [state for state in groups if state != "REMOVED"]}))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A head without work whose autoscaler may add two workers of two CPUs; the environment of who uses it."""
    folder = tmp_path_factory.mktemp("scaling")
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": address,
        "head_node_id": HEAD,
        "launch_multiple": True,
    }
    kinds = {
        KIND: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "cpu": {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 2},
    }
    config = {
        "cluster_name": "scaling",
        "max_workers": 2,
        "idle_timeout_minutes": 10,
        "provider": provider,
        "auth": {},
        "head_node_type": KIND,
        "available_node_types": kinds,
        "file_mounts": {},
        "cluster_synced_files": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }
    file = folder / "cluster.yaml"
    file.write_text(yaml.safe_dump(config))
    env = environment(
        RAY_AUTH_MODE="disabled",
        RAY_FAKE_CLUSTER="1",
        AUTOSCALER_UPDATE_INTERVAL_S="1",
        RAY_enable_autoscaler_v2="1",
        RAY_CLOUD_INSTANCE_ID=HEAD,
        RAY_NODE_TYPE_NAME=KIND,
        RAY_OVERRIDE_NODE_ID_FOR_TESTING=HEAD,
    )
    options = ["--head", "--node-ip-address", "127.0.0.1", "--port", port, "--num-cpus", "0"]
    options += ["--include-dashboard", "false", "--autoscaling-config", str(file)]
    log = folder / "head.log"
    with (
        tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as temporary,
        ray_node(log, env, *options, "--temp-dir", temporary) as head,
    ):
        user = environment(RAY_AUTH_MODE="disabled", RAY_ADDRESS=address)
        check = [str(Path(sys.executable).with_name("ray")), "health-check", "--address", address]
        wait_until(lambda: subprocess.run(check, env=user).returncode == 0, head, log)
        yield user


def connected(env: dict[str, str], **compute: float) -> dict[str, object]:
    """Connect in a process of its own; return the actors that there is room for, and what was said."""
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, json.dumps(compute)],
        env=env,
        cwd=Path(__file__).parents[2],
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_a_head_without_workers_grows_to_what_is_asked_for_and_no_further(
    cluster: dict[str, str],
) -> None:
    first = connected(cluster)
    assert first["actors"] == 2  # one is asked for, and a node has two CPUs
    assert first["said"] == ["waiting for nodes: there is room for 0 of 1 actor(s)"]
    assert first["left"] == []
    assert connected(cluster, actors=4)["actors"] == 4
    began = time.monotonic()
    again = connected(cluster, actors=4)
    assert (again["actors"], again["said"]) == (4, [])
    quick = time.monotonic() - began
    beyond = connected(cluster, actors=7)  # it may not grow any more: the study takes what there is
    assert beyond["actors"] == 4
    assert beyond["left"] == []
    assert time.monotonic() - began > quick + 15
