"""Who reaches what in the namespace: rules about pods that there are, and nobody by accident."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import manifests, of_kind, templates


def test_a_network_rule_is_about_pods_that_there_are() -> None:
    pods = [
        template["metadata"].get("labels", {})
        for _, document in manifests()
        for template in templates(document).values()
    ]
    # What KubeRay puts on the pods of a cluster, on its own, and what Kubernetes puts on a namespace.
    ray_pods = [
        {"ray.io/is-ray-node": "yes", "ray.io/node-type": kind} for kind in ("head", "worker")
    ]
    for policy in of_kind("NetworkPolicy").values():
        selectors = [policy["spec"]["podSelector"]]
        for rule in policy["spec"]["ingress"]:
            selectors += [
                peer["podSelector"]
                for peer in rule["from"]
                if len(peer) == 1 and "podSelector" in peer
            ]
        for selector in selectors:
            wanted = selector.get("matchLabels")
            assert wanted is None or any(
                wanted.items() <= labels.items() for labels in pods + ray_pods
            )


def test_only_the_cluster_and_a_named_submitter_reach_the_head() -> None:
    rules = of_kind("NetworkPolicy")["ray-head"]["spec"]
    assert rules["podSelector"] == {"matchLabels": {"ray.io/node-type": "head"}}
    assert rules["policyTypes"] == ["Ingress"]
    job_ports = []
    for rule in rules["ingress"]:
        (peer,) = rule["from"]
        ports = {port["port"] for port in rule.get("ports", [])}
        if not ports:
            assert peer == {"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}
        elif 8265 in ports:
            job_ports.append(peer)
        else:
            assert ports <= {8080, 44217, 44227}  # metrics, and nothing that runs code
    submitter, operator = job_ports
    labels = submitter["podSelector"]["matchLabels"]
    (job,) = of_kind("RayJob").values()
    assert labels.items() <= job["spec"]["submitterPodTemplate"]["metadata"]["labels"].items()
    for template in templates(job).values():
        if template is not job["spec"]["submitterPodTemplate"]:
            assert not labels.items() <= template["metadata"]["labels"].items()
    assert {"namespaceSelector", "podSelector"} == operator.keys()


@pytest.mark.parametrize("selected", ["redis", "postgres", "mlflow"])
def test_a_service_leads_to_its_pods_and_a_rule_guards_them(selected: str) -> None:
    service, policy = of_kind("Service")[selected], of_kind("NetworkPolicy")[selected]
    workload = (of_kind("Deployment") | of_kind("StatefulSet"))[selected]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    port = service["spec"]["ports"][0]["port"]
    assert container["ports"] == [{"containerPort": port}]
    assert [p["port"] for rule in policy["spec"]["ingress"] for p in rule["ports"]] == [port]
    assert all(rule["from"] for rule in policy["spec"]["ingress"])
