"""Every manifest for Kubernetes: a known kind with known fields, no secret in it, and parts that find each other."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import (
    CLUSTERS,
    KUBERAY,
    Document,
    all_pods,
    manifests,
    of_kind,
    read,
    schema,
    templates,
)

VERSIONS = ("1.30", "1.37")
"""The oldest and the newest Kubernetes whose schemas the manifests are held to."""
CUSTOM = {
    "ray.io/v1": "kuberay",
    "kueue.x-k8s.io/v1beta2": "kueue",
    "monitoring.coreos.com/v1": "podmonitor",
}
MADE = {
    "tis-ray-token": {"auth_token"},
    "tis-ray-redis": {"password"},
    "tis-ray-mlflow": {
        *("database-uri", "database-password", "admin-password", "session-key", "basic_auth.ini"),
    },
    "tis-ray-mlflow-user": {"username", "password"},
}
"""Secrets and their keys, as `secrets.sh` makes them (test_services.py runs it)."""
ALL = [
    pytest.param(document, id=f"{name}:{document['kind']}:{document['metadata']['name']}")
    for name, document in manifests()
]


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield each value of a document and where it stands."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in pairs:
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def references(document: Document, kind: str) -> set[tuple[str, str]]:
    """Return name and key of what a document's `secretKeyRef`s and the like name."""
    found = {}
    for path, value in leaves(document):
        if kind in path:
            found.setdefault(path[: path.index(kind)], {})[path[-1]] = value
    return {(each["name"], each["key"]) for each in found.values()}


@pytest.mark.parametrize("document", ALL)
def test_it_has_only_fields_that_its_kind_knows(document: Document) -> None:
    if document["apiVersion"] in CUSTOM:
        schema(CUSTOM[document["apiVersion"]]).validate(document)
        return
    kubernetes = pytest.importorskip("kubernetes_validate")
    for version in VERSIONS:
        kubernetes.validate(document, version, strict=True)


@pytest.mark.parametrize("template", all_pods())
def test_every_pod_is_one_of_kubernetes(template: Document) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
    for version in VERSIONS:
        kubernetes.validate(pod, version, strict=True)


def test_a_schema_of_a_custom_resource_refuses_a_field_that_is_not_there() -> None:
    for document in (of_kind("PodMonitor")["ray"], of_kind("ClusterQueue")["tis-ray"]):
        validator = schema(CUSTOM[document["apiVersion"]])
        assert validator.is_valid(document)
        assert not validator.is_valid({**document, "spec": {**document["spec"], "extra": 1}})
        assert not validator.is_valid({**document, "apiVersion": "v1"})


@pytest.mark.parametrize("template", all_pods())
def test_a_pod_runs_without_rights(template: Document) -> None:
    spec = template["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not re.search(r":latest$|^[^:]+$", container["image"])
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("file", CLUSTERS)
def test_only_the_head_gets_a_token_of_kubernetes(file: str) -> None:
    for name, template in templates(read(file)[0]).items():
        assert template["spec"]["automountServiceAccountToken"] is (name == "head"), name


@pytest.mark.parametrize("document", ALL)
def test_no_secret_stands_in_a_file(document: Document) -> None:
    assert document["kind"] != "Secret"
    for path, value in leaves(document):
        name = ".".join(map(str, path))
        assert not re.search(r"-----BEGIN|AKIA[0-9A-Z]{16}|://[^/\s:]+:[^@\s]+@", str(value)), name
    for _, template in templates(document).items():
        for container in template["spec"]["containers"]:
            for variable in container.get("env", []):
                if re.search("PASSWORD|SECRET|TOKEN|_KEY|AUTH$|STORE_URI", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], variable["name"]
            words = [*container.get("command", []), *container.get("args", [])]
            assert not [word for word in words if re.search("(?i)password|token", word)]


def test_a_secret_in_a_file_would_be_seen() -> None:
    for value in ("postgresql://mlflow:hunter2@postgres/db", "-----BEGIN RSA PRIVATE KEY-----"):
        document = {"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": value}}
        with pytest.raises(AssertionError):
            test_no_secret_stands_in_a_file(document)


def test_every_secret_that_is_asked_for_is_made() -> None:
    asked = {pair for _, document in manifests() for pair in references(document, "secretKeyRef")}
    assert len(asked) >= 6
    for name, key in asked:
        assert key in MADE[name], (name, key)
    (volume,) = (
        volume["secret"]
        for _, document in manifests()
        for template in templates(document).values()
        for volume in template["spec"].get("volumes", [])
        if "secret" in volume
    )
    assert {item["key"] for item in volume["items"]} <= MADE[volume["secretName"]]
    assert of_kind("RayCluster")["tis-ray"]["spec"]["authOptions"]["secretName"] in MADE


def test_all_is_in_one_namespace() -> None:
    (namespace,) = of_kind("Namespace")
    for _, document in manifests():
        if document["kind"] not in ("Namespace", "ResourceFlavor", "ClusterQueue"):
            assert document["metadata"]["namespace"] == namespace


@pytest.mark.parametrize("template", all_pods())
def test_every_mount_has_its_volume_and_every_account_is_there(template: Document) -> None:
    spec = template["spec"]
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    claims = {"data"} if not volumes else set()  # of a StatefulSet
    for container in spec["containers"]:
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert volumes <= mounted <= volumes | claims
    account = spec.get("serviceAccountName")
    assert account is None or account in of_kind("ServiceAccount")


def test_what_is_applied_together_is_there() -> None:
    whole = yaml.safe_load((KUBERAY / "kustomization.yaml").read_text())
    (every,) = read("kustomization.yaml", whole=True)
    on, possible = whole["resources"], every["resources"]
    assert [*on, "queue.yaml", "monitoring.yaml", "storage.yaml"] == possible
    files = {path.name for path in KUBERAY.glob("*.yaml")} - {"kustomization.yaml"}
    assert {*possible} == files - {*CLUSTERS}


def test_kubectl_renders_what_is_written(tmp_path: Any) -> None:
    """The real kubectl reads all files, YAML's anchors and merges among them, as these tests do."""
    if not (kubectl := shutil.which("kubectl")):
        pytest.skip("no kubectl on this machine")
    for path in KUBERAY.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": sorted({name for name, _ in manifests()})})
    )
    done = subprocess.run([kubectl, "kustomize", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def by_name(documents: list[Document]) -> dict[tuple[str, str], Document]:
        return {(one["kind"], one["metadata"]["name"]): one for one in documents}

    assert by_name([*yaml.safe_load_all(done.stdout)]) == by_name([d for _, d in manifests()])
