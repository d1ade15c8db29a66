"""The manifests of `cluster/kuberay`, read once: as they are, and with what stands there as a comment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "cluster" / "kuberay"
CLUSTERS = ("rayjob.yaml", "raycluster.yaml")
Document = dict[str, Any]


def uncommented(text: str) -> str:
    """Return YAML with its commented-out code active: prose has one space after `#`, code not."""
    return re.sub(r"^( +)#(?! \S)(?=[- \w])", r"\1", text, flags=re.MULTILINE)


@cache
def read(name: str, whole: bool = False) -> list[Document]:
    """Return the documents of a manifest; `whole` with its commented-out lines."""
    text = (KUBERAY / name).read_text()
    return [*yaml.safe_load_all(uncommented(text) if whole else text)]


def manifests() -> Iterator[tuple[str, Document]]:
    """Yield every document of every manifest, and the file that it is in."""
    for path in sorted(KUBERAY.glob("*.yaml")):
        for document in read(path.name):
            if document["kind"] != "Kustomization":
                yield path.name, document


def of_kind(kind: str) -> dict[str, Document]:
    """Return the documents of a kind by name."""
    return {d["metadata"]["name"]: d for _, d in manifests() if d["kind"] == kind}


def cluster_of(document: Document) -> Document:
    """Return the cluster that a RayJob or a RayCluster describes."""
    spec: Document = document["spec"]
    return spec["rayClusterSpec"] if document["kind"] == "RayJob" else spec


def templates(document: Document) -> dict[str, Document]:
    """Return the pod templates of a document by what they are for; one that makes no pods has none."""
    if document["kind"] in ("Deployment", "StatefulSet"):
        return {document["metadata"]["name"]: document["spec"]["template"]}
    if document["kind"] not in ("RayJob", "RayCluster"):
        return {}
    cluster = cluster_of(document)
    found = {"head": cluster["headGroupSpec"]["template"]}
    found |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    if "submitterPodTemplate" in document["spec"]:
        found["submitter"] = document["spec"]["submitterPodTemplate"]
    return found


def all_pods() -> list[Any]:
    """Return a parameter for each pod of all manifests: its template."""
    return [
        pytest.param(template, id=f"{file}:{name}")
        for file, document in manifests()
        for name, template in templates(document).items()
    ]


def schema(name: str) -> jsonschema.Draft202012Validator:
    """Return one of the schemas of custom resources."""
    found = json.loads((Path(__file__).parent / "schemas" / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.fixture(params=CLUSTERS)
def ray(request: pytest.FixtureRequest) -> Document:
    """A RayJob or a RayCluster."""
    return read(request.param)[0]
