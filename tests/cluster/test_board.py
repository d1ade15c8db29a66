"""The Grafana board: it asks for metrics that there are, by labels that they have, and is a board to Grafana."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import KUBERAY, ROOT
from tests.distributed.test_submit import free_ports
from tests.hosts import wait_for
from tis_ray.distributed.metrics import METRICS, prometheus_name

BOARD: dict[str, Any] = json.loads((KUBERAY / "board.json").read_text())
OURS = {prometheus_name(name): metric for name, metric in METRICS.items()}
DERIVED = {"SessionName", "NodeAddress", "WorkerId", "instance"}
"""Labels that Ray and Prometheus put beside ours."""
VARIABLES = {"$study": ".*", "$__range": "30m"}
MONITORING = ROOT / "cluster" / "monitoring"
TARGETS = [
    pytest.param(panel, target, id=f"{panel['title']}-{target['refId']}")
    for panel in BOARD["panels"]
    for target in panel["targets"]
]


def metrics_in(expression: str) -> set[str]:
    """Return the metrics that a PromQL expression asks for: all names that begin as Ray's do."""
    return set(re.findall(r"\bray_\w+", expression))


def labels_in(expression: str) -> set[str]:
    """Return the labels by which an expression selects and groups."""
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)
    selected = re.findall(r'[{,] *(\w+)(?:=~|!=|!~|=)"', expression)
    return {*selected, *(label.strip() for group in grouped for label in group.split(","))}


def answerable(expression: str) -> str:
    """Return an expression with values in place of Grafana's variables."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


@pytest.mark.parametrize(("panel", "target"), TARGETS)
def test_a_panel_asks_for_what_there_is(panel: Any, target: Any) -> None:
    asked = metrics_in(target["expr"])
    assert asked
    rays = (
        resources.files("ray.dashboard.modules.metrics.dashboards") / "default_dashboard_panels.py"
    ).read_text()
    for name in asked:
        if name in OURS:
            given = {*OURS[name].labels, *DERIVED}
            assert labels_in(target["expr"]) <= given
            assert {*re.findall(r"{{(\w+)}}", target["legendFormat"])} <= given
            assert ("rate(" in target["expr"]) <= (OURS[name].kind == "counter")
        else:  # one of Ray's own, which Ray's own boards ask for
            assert re.search(rf"\b{name}\b", rays), name
    assert "$" not in answerable(target["expr"])


def test_every_metric_is_on_the_board() -> None:
    asked = set().union(*(metrics_in(target["expr"]) for _, target in (p.values for p in TARGETS)))
    # `starts` and `shards` are for those who want to know more than the board shows.
    left = {prometheus_name("starts"), prometheus_name("shards")}
    assert set(OURS) - asked == left


def test_the_list_of_studies_comes_from_a_metric_with_that_label() -> None:
    (study,) = [each for each in BOARD["templating"]["list"] if each["name"] == "study"]
    name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", study["query"]["query"]).groups()  # type: ignore[union-attr]
    assert label in OURS[name].labels


def test_panels_lie_beside_each_other_on_24_columns() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert all(x < 24 for x, _ in cells)
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_it_is_a_dashboard_to_grafanas_own_types() -> None:
    """Whatever Grafana's types do not know is lost when they read the board and write it again."""
    dashboard = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    from grafana_foundation_sdk.cog import encoder, plugins

    plugins.register_default_plugins()
    read = dashboard.Dashboard.from_json(json.loads(json.dumps(BOARD)))
    again = json.loads(encoder.JSONEncoder().encode(read))
    assert contained(BOARD, again) == []


def contained(part: Any, whole: Any, where: str = "") -> list[str]:
    """Return where `whole` lacks something of `part` or has something else."""
    if isinstance(part, dict) and isinstance(whole, dict):
        gone = [f"{where}.{key}" for key in part.keys() - whole.keys()]
        both = part.keys() & whole.keys()
        return gone + [
            e for key in both for e in contained(part[key], whole[key], f"{where}.{key}")
        ]
    if isinstance(part, list) and isinstance(whole, list) and len(part) == len(whole):
        pairs = enumerate(zip(part, whole, strict=True))
        return [e for i, (a, b) in pairs for e in contained(a, b, f"{where}[{i}]")]
    return [] if part == whole else [f"{where}: {part!r} became {whole!r}"]


def test_kubernetes_gets_it_as_a_config_map_that_grafana_finds() -> None:
    if not (kubectl := shutil.which("kubectl")):
        pytest.skip("no kubectl on this machine")
    done = subprocess.run(
        [kubectl, "kustomize", KUBERAY], capture_output=True, text=True, check=True
    )
    (board,) = [
        document
        for document in yaml.safe_load_all(done.stdout)
        if document["metadata"]["name"] == "tis-ray-board"
    ]
    assert board["kind"] == "ConfigMap"
    assert board["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert json.loads(board["data"]["board.json"]) == BOARD


def test_on_one_machine_grafana_is_told_of_the_board_and_of_prometheus() -> None:
    grafana = MONITORING / "grafana"
    (source,) = yaml.safe_load((grafana / "datasources/prometheus.yaml").read_text())["datasources"]
    (folder,) = yaml.safe_load((grafana / "dashboards/tis-ray.yaml").read_text())["providers"]
    assert source["type"] == "prometheus"
    assert folder["options"]["path"] == "$TIS_RAY_BOARDS"
    assert [path.name for path in KUBERAY.glob("*.json")] == ["board.json"]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real Prometheus with our settings for one machine; the address of its API."""
    if not (program := shutil.which("prometheus")):
        pytest.skip("no prometheus on this machine")
    folder = tmp_path_factory.mktemp("prometheus")
    (port,) = free_ports(1)
    running = subprocess.Popen(
        [
            program,
            f"--config.file={MONITORING / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    )
    # It listens before it answers: until it has read its log it says 503.
    wait_for(lambda: answers(f"http://127.0.0.1:{port}/-/ready"), 60)
    yield f"http://127.0.0.1:{port}"
    running.terminate()
    running.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


@pytest.mark.parametrize(("panel", "target"), TARGETS)
def test_prometheus_understands_each_expression(prometheus: str, panel: Any, target: Any) -> None:
    query = urllib.parse.urlencode({"query": answerable(target["expr"])})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query?{query}", timeout=60) as answer:
        assert json.load(answer)["status"] == "success"


def test_docs_list_every_metric() -> None:
    page = Path(ROOT / "docs" / "monitoring.md").read_text()
    for name in OURS:
        assert f"`{name}`" in page
