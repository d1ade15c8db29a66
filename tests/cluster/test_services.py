"""What stands beside Ray in the namespace: Prometheus's monitor, Kueue's queue, the tracking server, secrets."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.cluster.conftest import CLUSTERS, KUBERAY, ROOT, of_kind, read, templates
from tests.cluster.test_manifests import MADE


def test_prometheus_is_told_ports_that_the_pods_have() -> None:
    monitor = of_kind("PodMonitor")["ray"]["spec"]
    asked = {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]}
    for file in CLUSTERS:
        for name, template in templates(read(file)[0]).items():
            ports = {
                port["name"]: port["containerPort"]
                for port in template["spec"]["containers"][0].get("ports", [])
            }
            open_to = asked & ports.keys()
            assert open_to == {"head": asked, "submitter": set()}.get(name, {"metrics"})
    allowed = {
        port["port"]
        for port in of_kind("NetworkPolicy")["ray-head"]["spec"]["ingress"][-1]["ports"]
    }
    assert allowed == {8080, 44217, 44227}


def test_a_queue_has_the_flavours_and_quotas_that_the_groups_need() -> None:
    (queue,) = of_kind("LocalQueue").values()
    target = of_kind("ClusterQueue")[queue["spec"]["clusterQueue"]]["spec"]
    (group,) = target["resourceGroups"]
    flavors = of_kind("ResourceFlavor")
    assert {flavor["name"] for flavor in group["flavors"]} == flavors.keys()
    for flavor in group["flavors"]:
        assert [each["name"] for each in flavor["resources"]] == group["coveredResources"]
    (namespace,) = of_kind("Namespace")
    assert target["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}
    for file in CLUSTERS:
        document = read(file)[0]
        assert (
            document["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == queue["metadata"]["name"]
        )
        assert document["metadata"]["annotations"]["kueue.x-k8s.io/elastic-job"] == "true"
        groups = templates(document)
        # Kueue takes 8 sets of pods, and `head` is a name of its own.
        assert len(groups) <= 8
        for template in groups.values():
            for container in template["spec"]["containers"]:
                assert container["resources"]["requests"].keys() <= {*group["coveredResources"]}
        selectors = [t["spec"].get("nodeSelector", {}) for t in groups.values()]
        spot = flavors["spot"]["spec"]["nodeLabels"]
        assert spot in selectors
        assert all(selector in ({}, spot) for selector in selectors)


def test_the_tracking_server_is_behind_a_login_and_of_the_tested_version() -> None:
    (container,) = of_kind("Deployment")["mlflow"]["spec"]["template"]["spec"]["containers"]
    pinned = re.search(r"^mlflow==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert container["image"] == f"ghcr.io/mlflow/mlflow:v{pinned[1]}-full"
    program, *words = container["args"]
    assert program == "mlflow"
    from mlflow.cli import cli

    command: Any = cli.commands[words[0]]
    options = command.make_context(words[0], words[1:]).params
    assert options["app_name"] == "basic-auth"
    assert options["artifacts_destination"].startswith("s3://")
    assert options["port"] == container["ports"][0]["containerPort"]
    hosts = options["allowed_hosts"].split(",")
    (job,) = of_kind("RayJob").values()
    (head,) = templates(job)["head"]["spec"]["containers"]
    uri = next(each["value"] for each in head["env"] if each["name"] == "MLFLOW_TRACKING_URI")
    assert uri.removeprefix("http://") in hosts
    assert "*" not in "".join(hosts)
    names = {variable["name"] for variable in container["env"]}
    assert {"MLFLOW_BACKEND_STORE_URI", "MLFLOW_AUTH_ADMIN_PASSWORD"} <= names
    assert {"MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_CONFIG_PATH"} <= names
    from mlflow import environment_variables

    read_by_options = {option.envvar for option in command.params}
    for name in names - {"HOME"} - read_by_options:
        assert hasattr(environment_variables, name), name


KUBECTL = """#!{python}
import json, os, sys
from pathlib import Path
words = sys.argv[1:]
if "get" in words:
    sys.exit(words[-1] not in os.environ["THERE"].split())
files = {{p.name: p.read_text() for p in Path(words[-1].removeprefix("--from-file=")).iterdir()}}
with open(os.environ["NOTES"], "a") as notes:
    notes.write(json.dumps(dict(words=words, files=files)) + "\\n")
"""
"""Takes a note of each Secret that it is told to make; those in THERE are there."""


def secrets_made(folder: Path, there: str = "") -> list[dict[str, Any]]:
    """Run the script; return the Secrets that it made, with the words and the files that kubectl was given."""
    program = folder / "kubectl"
    program.write_text(KUBECTL.format(python=sys.executable))
    program.chmod(0o755)
    notes = folder / "notes"
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "NOTES": str(notes), "THERE": there}
    environment["TMPDIR"] = str(folder)
    done = subprocess.run(
        ["bash", KUBERAY / "secrets.sh"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} <= {
        "kubectl",
        "notes",
    }  # nothing is left lying about
    made = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    shown = done.stdout + done.stderr + " ".join(word for one in made for word in one["words"])
    for secret in (text for one in made for text in one["files"].values()):
        assert secret == "admin" or secret not in shown
    return made


def test_secrets_are_random_and_nobody_sees_them(tmp_path: Path) -> None:
    made = secrets_made(tmp_path)
    by_name = {one["words"][5]: one["files"] for one in made}
    assert {name: {*files} for name, files in by_name.items()} == MADE
    mlflow = by_name["tis-ray-mlflow"]
    random = [by_name["tis-ray-token"]["auth_token"], by_name["tis-ray-redis"]["password"]]
    random += [mlflow[key] for key in ("database-password", "admin-password", "session-key")]
    assert len({*random}) == 5
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in random)
    assert mlflow["database-uri"] == f"postgresql://mlflow:{random[2]}@postgres:5432/mlflow"
    assert by_name["tis-ray-mlflow-user"] == {"username": "admin", "password": random[3]}
    config = configparser.ConfigParser()
    config.read_string(mlflow["basic_auth.ini"])
    assert config["mlflow"]["database_uri"] == mlflow["database-uri"]
    shipped = find_spec("mlflow")
    assert shipped is not None
    assert shipped.origin is not None
    known = configparser.ConfigParser()
    known.read(Path(shipped.origin).parent / "server" / "auth" / "basic_auth.ini")
    assert {*config["mlflow"]} <= {*known["mlflow"]}


def test_secrets_that_are_there_stay(tmp_path: Path) -> None:
    assert secrets_made(tmp_path, " ".join(MADE)) == []
    (token,) = secrets_made(tmp_path, " ".join({*MADE} - {"tis-ray-token"}))
    assert token["words"][5] == "tis-ray-token"
