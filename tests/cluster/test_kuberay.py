"""The RayJob and the RayCluster: known fields only, rules of the operator, parts that fit, and a study that loads."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer

from tests.cluster.conftest import CLUSTERS, ROOT, Document, cluster_of, read, schema, templates
from tis_ray.cli import app
from tis_ray.config import Config, load_config
from tis_ray.storage import is_remote

FREE = {"metadata", "rayStartParams", "requests", "limits", "securityContext"}
"""Mappings whose keys are the user's, or are checked as parts of a pod."""
VARIANTS = [(name, whole) for name in CLUSTERS for whole in (False, True)]
SPOT = "tis-ray/capacity"


@pytest.fixture(params=VARIANTS, ids=lambda p: f"{p[0]}{'-shared' if p[1] else ''}")
def ray(request: pytest.FixtureRequest) -> Document:
    """Each as it is, and with the commented lines of the shared volume."""
    return read(*request.param)[0]


@pytest.fixture
def groups(ray: Document) -> dict[str, Document]:
    """The groups of workers by name."""
    return {group["groupName"]: group for group in cluster_of(ray)["workerGroupSpecs"]}


@pytest.fixture(scope="module")
def kuberay() -> jsonschema.Draft202012Validator:
    return schema("kuberay")


@pytest.fixture
def study(tmp_path: Path) -> Config:
    """The ConfigMap's study, loaded as the entrypoint loads it."""
    file = tmp_path / "study.yaml"
    file.write_text(read("rayjob.yaml")[1]["data"]["study.yaml"])
    return load_config(file, entrypoint().params["overrides"])


def entrypoint() -> Any:
    """Parse the entrypoint as the command line does; an unknown verb or option raises."""
    program, verb, *arguments = shlex.split(read("rayjob.yaml")[0]["spec"]["entrypoint"])
    assert program == "tis-ray"
    command: Any = typer.main.get_command(app)
    return command.commands[verb].make_context(verb, arguments)


def locations(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where each key of KubeRay's own part stands, above the pod specs."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(key, str):
            yield (*path, key)
        pod = key == "spec" and path[-1:] in (("template",), ("submitterPodTemplate",))
        if isinstance(value, dict | list) and key not in FREE and not pod:
            yield from locations(value, (*path, key))


def test_it_has_only_fields_that_kuberay_knows(
    ray: Document, kuberay: jsonschema.Draft202012Validator
) -> None:
    kuberay.validate(ray)


@pytest.mark.parametrize("name", CLUSTERS)
def test_any_misspelt_field_is_refused(name: str, kuberay: jsonschema.Draft202012Validator) -> None:
    document = read(name)[0]
    found = [*locations(document)]
    assert len(found) > 50
    for *parents, key in found:
        broken = copy.deepcopy(document)
        node = broken
        for parent in parents:
            node = node[parent]
        node[key + "s"] = node.pop(key)
        assert not kuberay.is_valid(broken), (*parents, key)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("headGroupSpec.rayStartParams.num-cpus", 0),  # KubeRay wants a string
        ("authOptions.mode", "none"),
        ("autoscalerOptions.version", "v3"),
        ("rayVersion", 2.6),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(
    ray: Document, kuberay: jsonschema.Draft202012Validator, path: str, value: Any
) -> None:
    broken = copy.deepcopy(ray)
    *parents, last = path.split(".")
    node = cluster_of(broken)
    for parent in parents:
        node = node[parent]
    node[last] = value
    assert not kuberay.is_valid(broken)


def test_a_password_of_redis_cannot_stand_there(kuberay: jsonschema.Draft202012Validator) -> None:
    broken = copy.deepcopy(read("raycluster.yaml")[0])
    broken["spec"]["gcsFaultToleranceOptions"]["redisPassword"] = {"value": "hunter2"}
    assert not kuberay.is_valid(broken)


def test_ray_is_one_version_everywhere(ray: Document) -> None:
    """The image's tag, the manifest and the pinned package; all pods have one image."""
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    (image,) = {
        container["image"]
        for pod in templates(ray).values()
        for container in pod["spec"]["containers"]
    }
    assert image.rpartition(":ray-")[2] == pinned[1]
    assert cluster_of(ray)["rayVersion"] == pinned[1]


def test_the_head_has_no_work_and_stays(ray: Document) -> None:
    head = cluster_of(ray)["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    limits = head["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert not [name for name in limits if "gpu" in name]
    assert _avoids_spot(head["template"]["spec"])


def test_the_cluster_grows_and_shrinks_as_the_operator_allows_it(
    ray: Document, groups: dict[str, Document]
) -> None:
    cluster = cluster_of(ray)
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["autoscalerOptions"]["idleTimeoutSeconds"] >= 60
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] < group["maxReplicas"]
        assert group["template"]["spec"]["restartPolicy"] == "Never"
    names = [
        v["name"] for v in cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
    ]
    # The operator refuses these beside autoscalerOptions.version and gcsFaultToleranceOptions.
    assert not {"RAY_enable_autoscaler_v2", "REDIS_PASSWORD", "RAY_REDIS_ADDRESS"} & {*names}


def test_the_autoscaler_is_a_container_of_kubernetes(ray: Document) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate")
    given = cluster_of(ray)["autoscalerOptions"]
    container = {key: given[key] for key in ("resources", "securityContext")}
    spec = {"containers": [{"name": "autoscaler", "image": "x:1", **container}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    kubernetes.validate(pod, "1.30", strict=True)


def test_there_are_cpus_and_gpus_on_demand_and_spot(groups: dict[str, Document]) -> None:
    assert {*groups} == {"cpu", "cpu-spot", "gpu", "gpu-spot"}
    for name, group in groups.items():
        spec = group["template"]["spec"]
        resources = spec["containers"][0]["resources"]
        assert resources["limits"] == resources["requests"]
        tolerated = {each["key"] for each in spec.get("tolerations", [])}
        assert ("nvidia.com/gpu" in resources["limits"]) is name.startswith("gpu")
        assert ("nvidia.com/gpu" in tolerated) is name.startswith("gpu")
        spot = name.endswith("-spot")
        assert (spec.get("nodeSelector") == {SPOT: "spot"}) is spot
        assert (SPOT in tolerated) is spot
        assert _avoids_spot(spec) is not spot
        # On-demand nodes come first: a spot pool that is not there would be waited for.
        assert (group.get("priority", 0) > 0) is not spot


def _avoids_spot(spec: Document) -> bool:
    terms = (
        spec.get("affinity", {})
        .get("nodeAffinity", {})
        .get("requiredDuringSchedulingIgnoredDuringExecution", {})
        .get("nodeSelectorTerms", [])
    )
    return terms == [{"matchExpressions": [{"key": SPOT, "operator": "NotIn", "values": ["spot"]}]}]


def test_it_asks_for_a_token(ray: Document) -> None:
    assert cluster_of(ray)["authOptions"]["mode"] == "token"


def test_the_bucket_is_reached_through_the_account(ray: Document) -> None:
    for name, template in templates(ray).items():
        if name != "submitter":
            assert template["spec"]["serviceAccountName"] == "tis-ray"
            assert template["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    account = next(d for d in read("account.yaml") if d["kind"] == "ServiceAccount")
    assert {*account["metadata"]["annotations"]} == {
        "eks.amazonaws.com/role-arn",
        "iam.gke.io/gcp-service-account",
        "azure.workload.identity/client-id",
    }


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_shared_volume_takes_its_lines(name: str) -> None:
    (claim,) = read("storage.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for whole in (False, True):
        for pod, template in templates(read(name, whole)[0]).items():
            if pod == "submitter":
                continue
            volumes = {v["name"]: v for v in template["spec"]["volumes"]}
            mounts = {m["name"]: m for m in template["spec"]["containers"][0]["volumeMounts"]}
            assert mounts.keys() == volumes.keys()
            assert ("shared" in volumes) is whole
            if whole:
                named = volumes["shared"]["persistentVolumeClaim"]["claimName"]
                assert named == claim["metadata"]["name"]
                assert mounts["shared"]["mountPath"] == "/shared"


def test_both_have_the_same_groups() -> None:
    """What is explained once is true of both; the standing cluster shrinks to its head."""
    job, standing = ([*cluster_of(read(name)[0])["workerGroupSpecs"]] for name in CLUSTERS)
    for ours, theirs in zip(copy.deepcopy(job), copy.deepcopy(standing), strict=True):
        assert theirs["minReplicas"] == 0
        for group in (ours, theirs):
            group.pop("replicas"), group.pop("minReplicas")
            for part in (group["template"]["spec"], group["template"]["spec"]["containers"][0]):
                for field in ("volumes", "volumeMounts"):
                    if field in part:
                        part[field] = [one for one in part[field] if one["name"] != "study"]
        assert ours == theirs


def test_a_standing_cluster_survives_its_head() -> None:
    spec = read("raycluster.yaml")[0]["spec"]
    host, _, port = spec["gcsFaultToleranceOptions"]["redisAddress"].partition(":")
    service = next(d for d in read("redis.yaml") if d["kind"] == "Service")
    assert host == service["metadata"]["name"]
    assert int(port) == service["spec"]["ports"][0]["port"]
    state = next(d for d in read("redis.yaml") if d["kind"] == "StatefulSet")
    assert state["spec"]["volumeClaimTemplates"]


def test_the_study_loads_and_its_results_outlive_the_cluster(study: Config) -> None:
    assert is_remote(study.runs)
    assert is_remote(study.artifacts)
    assert study.compute.address is None  # inside a job Ray says where the cluster is
    assert not study.tracking.enabled  # SQLite does not belong in a bucket
    job, configured = read("rayjob.yaml")
    head = templates(job)["head"]["spec"]
    (config,) = [v["configMap"]["name"] for v in head["volumes"] if "configMap" in v]
    assert config == configured["metadata"]["name"]
    mount = next(
        m["mountPath"] for m in head["containers"][0]["volumeMounts"] if m["name"] == "study"
    )
    named = str(entrypoint().params["config"])
    assert named.removeprefix(f"{mount}/") in configured["data"]


def test_a_worker_has_room_for_an_actor(groups: dict[str, Document], study: Config) -> None:
    for group in groups.values():
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert int(limits["cpu"]) >= study.batch.threads


def test_a_job_ends_by_itself() -> None:
    spec = read("rayjob.yaml")[0]["spec"]
    assert spec["shutdownAfterJobFinishes"]
    assert spec["activeDeadlineSeconds"] > spec["ttlSecondsAfterFinished"] > 0
    assert spec["backoffLimit"] >= 1
