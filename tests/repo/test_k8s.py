# SPDX-License-Identifier: Apache-2.0
"""The manifests hold: for the API server, for the restricted Pod Security Standard, and for the programs they start."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from iap_authz.bootstrap.settings import sidecar_settings
from iap_authz.config import SidecarConfig, parse_config
from iap_authz.facts.keyset import parse_jwks
from iap_authz.policy.compile import load_policy
from iap_authz.policy.source import SourceFile
from tests.repo.tree import ROOT

MANIFEST = ROOT / "k8s" / "sidecar.yaml"

VERSIONS = ("1.30", "1.33", "1.37")
"""The first with all that is used here (sidecars, preStop.sleep) on by default, one between, the newest known."""

Document = dict[str, Any]


def documents() -> list[Document]:
    """What stands in the manifest; a key that stands twice in a mapping is an error."""
    return list(YAML(typ="safe", pure=True).load_all(MANIFEST.read_text()))


def one(kind: str, name: str = "") -> Document:
    (found,) = (
        document for document in documents() if document["kind"] == kind and name in document["metadata"]["name"]
    )
    return found


def pod() -> Document:
    spec: Document = one("Deployment")["spec"]["template"]["spec"]
    return spec


def containers() -> list[Document]:
    return [*pod()["initContainers"], *pod()["containers"]]


def container(name: str) -> Document:
    (found,) = (item for item in containers() if item["name"] == name)
    return found


def config() -> SidecarConfig:
    text: str = one("ConfigMap", "config")["data"]["sidecar.yaml"]
    return parse_config(text.encode(), Path("/etc/iap/config/sidecar.yaml"))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_api_server_takes_it(version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed").validate
    for document in documents():
        validate(document, version, strict=True)


def test_what_the_api_server_would_not_take_is_found() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    document = one("Deployment")
    document["spec"]["template"]["spec"]["hostIpc"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[0], strict=True)


def test_names_are_used_as_they_are_given() -> None:
    volumes = {volume["name"] for volume in pod()["volumes"]}
    assert {mount["name"] for item in containers() for mount in item.get("volumeMounts", ())} == volumes
    referred = {volume["configMap"]["name"] for volume in pod()["volumes"] if "configMap" in volume}
    assert referred == {document["metadata"]["name"] for document in documents() if document["kind"] == "ConfigMap"}
    (claim,) = (volume["persistentVolumeClaim"] for volume in pod()["volumes"] if "persistentVolumeClaim" in volume)
    assert claim["claimName"] == one("PersistentVolumeClaim")["metadata"]["name"]
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    for selector in (
        one("Deployment")["spec"]["selector"]["matchLabels"],
        one("Service")["spec"]["selector"],
        one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels


# ---- the restricted standard


def test_the_pod_is_restricted() -> None:
    spec = pod()
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & spec.keys()
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all(volume.keys() & {"emptyDir", "configMap", "persistentVolumeClaim"} for volume in spec["volumes"])


@pytest.mark.parametrize("name", ["iap-authz", "envoy", "app"])
def test_each_container_is_restricted(name: str) -> None:
    context = container(name)["securityContext"]
    assert context["runAsUser"] == context["runAsGroup"] >= 10_000
    assert (context["runAsNonRoot"], context["allowPrivilegeEscalation"]) == (True, False)
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(name)["resources"]["limits"].keys() == {"memory"}
    assert container(name)["resources"]["requests"].keys() == {"cpu", "memory"}


def test_users_differ() -> None:
    assert len({item["securityContext"]["runAsUser"] for item in containers()}) == len(containers())


# ---- order, probes, end


def test_the_sidecars_start_first_and_in_order() -> None:
    assert [(item["name"], item["restartPolicy"]) for item in pod()["initContainers"]] == [
        ("iap-authz", "Always"),
        ("envoy", "Always"),
    ]
    for item in pod()["initContainers"]:
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= item.keys()


def test_the_end_fits_its_time() -> None:
    wait = container("app")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert wait >= 2 * container("envoy")["readinessProbe"]["periodSeconds"]
    assert pod()["terminationGracePeriodSeconds"] >= wait + 20 + 5


def test_probes_ask_where_the_sidecar_listens() -> None:
    probes = [
        container("iap-authz")[kind]["exec"]["command"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    ]
    alive = ["iap-authz", "probe", config().listen]
    assert probes == [alive, ["iap-authz", "probe", "--sources", config().listen], alive]


# ---- who reaches what


def mounts(name: str) -> Iterator[str]:
    yield from (mount["mountPath"] for mount in container(name).get("volumeMounts", ()))


def test_the_application_has_no_sockets_of_ours() -> None:
    assert list(mounts("app")) == []
    assert "ports" not in container("app")


def test_envoys_port_is_the_only_way_in() -> None:
    policy = one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": sidecar_settings().listener_port}]}]
    ports = {port["name"]: port["containerPort"] for port in container("envoy")["ports"]}
    assert ports == {"http": sidecar_settings().listener_port, "readiness": sidecar_settings().readiness_port}
    (service,) = one("Service")["spec"]["ports"]
    assert service["targetPort"] == "http"


def test_sockets_lie_on_memory_that_both_sidecars_mount() -> None:
    (volume,) = (volume for volume in pod()["volumes"] if volume["name"] == "sockets")
    assert volume["emptyDir"]["medium"] == "Memory"
    assert "/run/iap" in mounts("iap-authz")
    assert "/run/iap" in mounts("envoy")
    settings = sidecar_settings()
    assert [f"unix:{path}" for path in settings.authz_sockets] == [config().listen]
    assert settings.admin_socket.startswith("/run/iap/")


# ---- the files inside


def test_the_bootstrap_is_the_one_in_envoy() -> None:
    got = one("ConfigMap", "envoy")["data"]["envoy.yaml"]
    want = (ROOT / "envoy" / "sidecar.yaml").read_text()
    assert got == want, "indent envoy/sidecar.yaml by four columns and put it under envoy.yaml in k8s/sidecar.yaml"


def test_the_configuration_and_its_files_load() -> None:
    settings = config()
    folders = {mount["mountPath"]: mount["name"] for mount in container("iap-authz")["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    files = {
        f"{path}/{file}": content
        for path, name in folders.items()
        if "configMap" in volumes[name]
        for file, content in one("ConfigMap", volumes[name]["configMap"]["name"])["data"].items()
    }
    assert container("iap-authz")["args"][-1] in files
    sources = [SourceFile(name=str(path), content=files[str(path)].encode()) for path in settings.policies]
    assert load_policy(sources).routes
    for issuer in settings.issuers:
        assert parse_jwks(files[str(issuer.jwks_file)].encode()).problems == ()
    assert settings.journal.directory.is_relative_to("/var/lib/iap")
    assert sidecar_settings().authz_timeout > settings.deadline


def test_the_policy_is_for_the_hosts_of_the_bootstrap() -> None:
    (host,) = sidecar_settings().hosts
    text = one("ConfigMap", "policy")["data"]["orders.yaml"]
    policy = YAML(typ="safe", pure=True).load(text)
    assert policy["name"] == host.policy
    assert [route["match"]["hosts"] for route in policy["routes"]] == [list(host.domains)]
