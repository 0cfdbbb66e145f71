"""The chart: its manifests are valid, and say what they should."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.settings import load_settings
from tests.unit.deploy.manifests import (
    CHART,
    KAFKA,
    MUTUAL_TLS,
    PROFILES,
    RENDERINGS,
    REPOSITORY,
    SCRAM,
    Object,
    environment,
    helm,
    of_kind,
    one,
    pod_specs,
    render,
    tools,
    with_kafka,
)
from tests.unit.deploy.strict import faults, is_defined


@pytest.fixture(scope="module", params=RENDERINGS)
def rendered(request: pytest.FixtureRequest) -> list[Object]:
    values, profile = RENDERINGS[request.param]
    return render(values, profile)


def valid(objects: list[Object], folder: Path) -> str:
    """Complaints of kubernetes-validate, of which the newest schemas allow no field that Kubernetes does not know."""
    file = folder / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    command = [tools() / "bin" / "kubernetes-validate", "--strict", "--no-warn", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


# ---- valid


def test_every_object_is_valid(rendered: list[Object], tmp_path: Path) -> None:
    wrong = {f"{found['kind']} {found['metadata']['name']}": faults(found) for found in rendered if is_defined(found)}
    assert {name: said for name, said in wrong.items() if said} == {}
    ours = [found for found in rendered if not is_defined(found)]
    assert len(ours) >= 6
    assert valid(ours, tmp_path) == ""


def test_the_checks_see_what_they_look_for(tmp_path: Path) -> None:
    objects = render({"strimzi": {"enabled": True, "cluster": "c"}, "autoscaling": {"enabled": True}})
    policy, scaled, user = (of_kind(objects, kind)[0] for kind in ("NetworkPolicy", "ScaledObject", "KafkaUser"))
    policy["spec"]["egres"] = []
    assert "egres" in valid([policy], tmp_path)
    scaled["spec"]["triggers"][0]["metadata"]["lagTreshold"] = "1"
    assert faults(scaled) == ["trigger kafka: unknown lagTreshold"]
    acl = user["spec"]["authorization"]["acls"][0]
    acl["operation"] = acl.pop("operations")[0]  # as before API v1
    assert faults(user) != []
    assert faults({"apiVersion": "v1", "kind": "Nothing"}) != []


def test_lint_finds_nothing() -> None:
    command = [
        tools() / "bin" / "helm",
        "lint",
        "--strict",
        CHART,
        "--set",
        f"kafka.brokers={KAFKA},networkPolicy.kafkaAnywhere=true,image.repository={REPOSITORY}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_names_are_unique_and_stay_short(rendered: list[Object]) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in rendered]
    assert len(names) == len(set(names))
    assert max(len(name) for _, name in names) <= 63


# ---- secure


def test_every_pod_is_restricted(rendered: list[Object]) -> None:
    """What Pod Security `restricted` asks, and a read-only root; of controllers it would only be warned."""
    for name, spec in pod_specs(rendered):
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] >= 10_000, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }, name  # fmt: skip
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert "memory" in container["resources"]["limits"], name
        kinds = {next(kind for kind in volume if kind != "name") for volume in spec["volumes"]}
        assert kinds <= {"configMap", "emptyDir", "projected", "persistentVolumeClaim"}, name


def test_no_secret_is_in_a_manifest(rendered: list[Object]) -> None:
    held = {key for secret in of_kind(rendered, "Secret") for key in secret.get("stringData", {})}
    assert held <= {"username"}
    for name, spec in pod_specs(rendered):
        given = environment(spec["containers"][0])
        for variable in ("STILLWATCH_SASL_PASSWORD", "STILLWATCH_SSL_KEY_PASSWORD", "STILLWATCH_ACCOUNT_HASH_KEY"):
            assert not isinstance(given.get(variable), str), name


def test_what_a_pod_talks_to_is_named() -> None:
    brokers = "a.kafka:9092, b.kafka:9093"
    policies = of_kind(render({"kafka": {"brokers": brokers}}), "NetworkPolicy")
    assert {policy["metadata"]["name"] for policy in policies} == {"sw-stillwatch", "sw-stillwatch-topics"}
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        names, kafka = policy["spec"]["egress"]
        assert {port["port"] for port in names["ports"]} == {53}
        assert names["to"][0]["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
        assert {port["port"] for port in kafka["ports"]} == {9092, 9093}
    (ingress,) = one(policies, "NetworkPolicy", "sw-stillwatch")["spec"]["ingress"]
    assert ingress["ports"] == [{"port": "metrics", "protocol": "TCP"}]
    assert ingress["from"] != []


COLLECTOR = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "observability"}}}]


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://otel.observability:4318", 4318),
        ("https://otel.example/tenant", 443),
        ("http://otel", 80),
        ("http://[fd00::7]:4318", 4318),
        ("http://[fd00::7]", 80),
    ],
)
def test_with_traces_workers_may_reach_the_collector_and_nobody_else(endpoint: str, port: int) -> None:
    values = {
        "traces": {"endpoint": endpoint},
        "networkPolicy": {"kafkaAnywhere": True, "collectorPeers": COLLECTOR},
    }
    objects = render(values)
    policy = one(objects, "NetworkPolicy", "sw-stillwatch")["spec"]["egress"]
    assert policy[2:] == [{"ports": [{"port": port, "protocol": "TCP"}], "to": COLLECTOR}]
    topics = one(objects, "NetworkPolicy", "sw-stillwatch-topics")["spec"]["egress"]
    assert len(topics) == 2


def test_traces_are_off_until_asked_for_and_then_the_workers() -> None:
    def variables(values: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
        jobs = {
            "canary": {"enabled": True},
            "settings": {"canary_prefix": "canary-7e2a9b-"},
            "networkPolicy": {"kafkaAnywhere": True, "collectorAnywhere": True},
        }
        entries = {name: spec["containers"][0]["env"] for name, spec in pod_specs(render(REPLAY | jobs | values))}
        return {
            name: [(entry["name"], entry["value"]) for entry in env if entry["name"] in wanted]
            for name, env in entries.items()
        }

    wanted = ("STILLWATCH_OTLP_ENDPOINT", "OTEL_SERVICE_NAME")
    assert not any(variables({}).values())
    traces = {"traces": {"endpoint": "http://otel:4318"}}
    endpoint = (wanted[0], "http://otel:4318")
    found = variables(traces)
    assert found.pop("StatefulSet sw-stillwatch") == [endpoint, (wanted[1], "sw-stillwatch")]
    assert len(found) >= 2
    assert not any(found.values())
    theirs = {"extraEnv": [{"name": "OTEL_SERVICE_NAME", "value": "theirs"}]}
    assert sorted(variables(traces | theirs)["StatefulSet sw-stillwatch"]) == sorted([endpoint, (wanted[1], "theirs")])


@pytest.mark.parametrize("values", [SCRAM, MUTUAL_TLS], ids=["SCRAM", "mutual TLS"])
def test_the_files_that_settings_name_are_mounted(values: dict[str, Any]) -> None:
    objects = render(values | REPLAY)
    assert len(list(pod_specs(objects))) == 3
    for name, spec in pod_specs(objects):
        (container,) = spec["containers"]
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        sources = volumes["credentials"]["projected"]["sources"]
        held = {item["path"] for source in sources for item in source["secret"]["items"]}
        wanted = {
            Path(value).name
            for variable, value in environment(container).items()
            if variable.endswith("_FILE") and str(value).startswith("/etc/stillwatch/credentials/")
        }
        assert wanted == held, name
        assert wanted, name
        assert "subPath" not in mounts["/etc/stillwatch/credentials"], name
        # Readable for the group of the pod's user, and for nobody else.
        assert volumes["credentials"]["projected"]["defaultMode"] == 0o440, name


# ---- as it should run


def test_a_stateful_worker_keeps_its_name_and_its_states() -> None:
    workload = one(render(profile="standard"), "StatefulSet")
    spec = workload["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    given = environment(container)
    assert given["STILLWATCH_STORE"] == "rocksdict"
    # One that a release of the same name in another namespace does not have.
    assert given["STILLWATCH_INSTANCE_ID"] == "$(POD_NAMESPACE).$(POD_NAME)"
    assert given["POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert given["POD_NAMESPACE"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    names = [entry["name"] for entry in container["env"]]
    for reference in ("POD_NAME", "POD_NAMESPACE"):  # a reference back is resolved, no other
        assert names.index(reference) < names.index("STILLWATCH_INSTANCE_ID")
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["data"] == given["STILLWATCH_DATA_DIR"]
    assert [claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]] == ["data"]
    assert one(render(profile="standard"), "Service")["metadata"]["name"] == workload["spec"]["serviceName"]


def test_a_worker_of_a_deployment_has_states_in_memory_and_no_lasting_name() -> None:
    objects = render(profile="trial")
    workload = one(objects, "Deployment")
    given = environment(workload["spec"]["template"]["spec"]["containers"][0])
    assert given["STILLWATCH_STORE"] == "memory"
    assert "STILLWATCH_INSTANCE_ID" not in given
    assert of_kind(objects, "StatefulSet") == []


@pytest.mark.parametrize("profile", PROFILES)
def test_probes_ask_what_they_mean_and_the_end_is_waited_for(profile: str) -> None:
    (workload,) = [found for found in render(profile=profile) if found["kind"] in ("StatefulSet", "Deployment")]
    spec = workload["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/ready", "readiness": "/ready", "liveness": "/live"}
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 180
    defaults = load_settings()
    assert spec["terminationGracePeriodSeconds"] >= defaults.shutdown_grace_seconds + 15


def test_a_profile_is_what_it_says() -> None:
    trial, standard, large = (render(profile=profile) for profile in PROFILES)
    assert one(trial, "Deployment")["spec"]["replicas"] == 1
    assert one(standard, "StatefulSet")["spec"]["replicas"] == 2
    spec = one(large, "StatefulSet")["spec"]["template"]["spec"]
    assert "podAntiAffinity" in spec["affinity"]
    spread = {entry["topologyKey"]: entry["whenUnsatisfiable"] for entry in spec["topologySpreadConstraints"]}
    assert spread["topology.kubernetes.io/zone"] == "DoNotSchedule"
    arguments = one(large, "Job")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--partitions=48" in arguments


@pytest.mark.parametrize("profile", PROFILES)
def test_a_budget_lets_one_worker_go_at_a_time(profile: str) -> None:
    objects = render(profile=profile)
    budget = one(objects, "PodDisruptionBudget")["spec"]
    (workload,) = [found for found in objects if found["kind"] in ("StatefulSet", "Deployment")]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == workload["spec"]["selector"]
    # The pods of the topics' Job and of a replay are no workers.
    for job in of_kind(objects, "Job"):
        labels = job["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/component"] != budget["selector"]["matchLabels"]["app.kubernetes.io/component"]


def test_settings_reach_the_worker_as_they_are_given(tmp_path: Path) -> None:
    settings = {
        "slab_rows": 1_000_000, "checkpoint_interval_seconds": 0.5, "check_topics": False, "log_level": "DEBUG",
        "embedding_model": 'my "model"', "max_record_bytes": 2 * 1024 * 1024,
    }  # fmt: skip
    file = tmp_path / "stillwatch.toml"
    file.write_text(one(render({"settings": settings}), "ConfigMap", "sw-stillwatch")["data"]["stillwatch.toml"])
    read = load_settings(file)
    assert {name: getattr(read, name) for name in settings} == settings


def test_the_environment_of_every_pod_is_one_that_stillwatch_takes(
    rendered: list[Object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt variable would end the worker at its start."""
    (tmp_path / "file").write_text("made up")
    config = tmp_path / "stillwatch.toml"
    config.write_text(one(rendered, "ConfigMap", "sw-stillwatch")["data"]["stillwatch.toml"])
    assert tomllib.loads(config.read_text()) is not None
    for _, spec in pod_specs(rendered):
        with monkeypatch.context() as patch:
            for name, value in environment(spec["containers"][0]).items():
                if name == "STILLWATCH_CONFIG":
                    value = config
                elif name.endswith("_FILE"):
                    value = tmp_path / "file"
                elif not isinstance(value, str):
                    value = "from a secret or the pod"
                patch.setenv(name, str(value))
            assert load_settings().brokers == with_kafka()["kafka"]["brokers"]


def test_a_change_of_configuration_rolls_out() -> None:
    def annotation(values: dict[str, Any]) -> str:
        workload = one(render(values), "StatefulSet")
        return str(workload["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    usual = annotation({})
    assert annotation({"replicas": 5}) == usual
    assert annotation({"settings": {"slab_rows": 64}}) != usual
    assert annotation({"baseline": {"content": "{}"}}) != usual


# ---- topics, replays, scaling

WINDOW = {"enabled": True, "until": "2026-01-07T00:00:00Z"}
REPLAY = {"replay": WINDOW, "topics": {"job": "off"}}


@pytest.mark.parametrize(("job", "words"), [("create", "create"), ("check", "check")])
def test_the_topics_are_seen_to_before_anything_starts(job: str, words: str) -> None:
    values = SCRAM | {"topics": {"job": job, "username": "admin", "passwordSecret": {"name": "admin"}}}
    made = one(render(values), "Job")
    assert made["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    spec = made["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == "default"  # ours is not there yet
    (container,) = spec["containers"]
    assert container["args"] == ["topics", words, "--partitions=12", "--replication-factor=3"]
    assert environment(container)["STILLWATCH_SASL_USERNAME"] == "admin"
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "credentials"]
    secrets = [source["secret"]["name"] for source in volume["projected"]["sources"]]
    assert secrets == ["admin", "my-cluster-ca-cert"]
    worker = one(render(values), "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    assert environment(worker)["STILLWATCH_SASL_USERNAME"] == "stillwatch"


def test_large_numbers_stay_numbers() -> None:
    """Helm reads numbers of files as floats, and would write a million as 1e+06."""
    objects = render(
        {
            "replay": WINDOW | {"ttlSecondsAfterFinished": 2_000_000},
            "autoscaling": {"enabled": True, "lagThreshold": 5_000_000},
        }
    )
    (replay,) = [job for job in of_kind(objects, "Job") if "-replay-" in job["metadata"]["name"]]
    assert replay["spec"]["ttlSecondsAfterFinished"] == 2_000_000
    assert one(objects, "ScaledObject")["spec"]["triggers"][0]["metadata"]["lagThreshold"] == "5000000"


def test_with_strimzi_or_when_told_so_no_job_makes_topics() -> None:
    job = one(render(SCRAM | {"strimzi": {"enabled": True, "cluster": "c"}}), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["config"]
    # The operator makes the users' Secrets once the release is there.
    assert "credentials" not in {volume["name"] for volume in job["spec"]["template"]["spec"]["volumes"]}
    assert of_kind(render({"topics": {"job": "off"}}), "Job") == []


def test_a_replay_splits_the_partitions_over_its_pods() -> None:
    objects = render({"replay": WINDOW | {"pods": 3, "claim": "replays"}})
    (job,) = [found for found in of_kind(objects, "Job") if "-replay-" in found["metadata"]["name"]]
    assert (job["spec"]["completionMode"], job["spec"]["completions"], job["spec"]["parallelism"]) == ("Indexed", 3, 3)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert "--partitions=$(JOB_COMPLETION_INDEX)/3" in container["args"]
    assert "--out=/out/alerts-$(JOB_COMPLETION_INDEX).jsonl" in container["args"]
    given = environment(container)
    assert "STILLWATCH_GROUP_ID" not in given
    assert given["STILLWATCH_CONFIG"]


def test_another_replay_is_another_job() -> None:
    def name(**replay: Any) -> str:
        return str(one(render(REPLAY | {"replay": WINDOW | replay}), "Job")["metadata"]["name"])

    assert name(since="2026-01-05") == name(since="2026-01-05")
    assert name(since="2026-01-05") != name(since="2026-01-06")


@pytest.mark.parametrize(
    "values",
    [
        {"image": {"tag": "0.2.0"}},
        {"serviceAccount": {"create": False}},
        {"nodeSelector": {"disk": "ssd"}},
        {"tolerations": [{"operator": "Exists"}]},
        {"accountHashKeySecret": {"name": "key"}},
        {"settings": {"slab_rows": 64}},
        {"baseline": {"content": "{}"}},
        SCRAM,
    ],
    ids=str,
)
def test_a_job_whose_pods_change_is_another_one(values: dict[str, Any]) -> None:
    """An upgrade that changed the pods of a Job would be refused."""
    usual, other = (one(render(REPLAY | given), "Job") for given in ({}, values))
    assert usual["spec"]["template"] != other["spec"]["template"]
    assert usual["metadata"]["name"] != other["metadata"]["name"]


def test_a_replay_has_its_own_settings_and_baseline() -> None:
    own = {"settings": {"log_level": "DEBUG"}, "baseline": {"content": '{"made": "up"}'}}
    objects = render(REPLAY | own)
    volumes = one(objects, "Job")["spec"]["template"]["spec"]["volumes"]
    named = {volume["name"]: volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    assert one(objects, "ConfigMap", named["config"])["data"] == {"stillwatch.toml": 'log_level = "DEBUG"\n'}
    assert one(objects, "ConfigMap", named["baseline"])["data"] == {"baseline.json": '{"made": "up"}'}
    of_workers = one(objects, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    assert not set(named.values()) & {volume["configMap"]["name"] for volume in of_workers if "configMap" in volume}


def test_a_long_name_leaves_room_for_the_numbers_of_a_replays_pods() -> None:
    (job,) = of_kind(render(REPLAY | {"fullnameOverride": "n" * 45}), "Job")
    assert len(f"{job['metadata']['name']}-999") <= 63


def test_scaling_ends_at_one_worker_a_partition_and_owns_the_number_of_workers() -> None:
    objects = render({"autoscaling": {"enabled": True}, "topics": {"partitions": 24}, "kafka": {"groupId": "g"}})
    scaled = one(objects, "ScaledObject")["spec"]
    workload = one(objects, "StatefulSet")
    assert scaled["maxReplicaCount"] == 24
    assert scaled["scaleTargetRef"]["name"] == workload["metadata"]["name"]
    assert "replicas" not in workload["spec"]
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["consumerGroup"] == "g"
    assert trigger["metadata"]["topic"] == "stillwatch.requests"
    assert "authenticationRef" not in trigger


def test_keda_says_who_it_is_as_the_workers_do() -> None:
    objects = render(SCRAM | {"autoscaling": {"enabled": True}})
    (trigger,) = one(objects, "ScaledObject")["spec"]["triggers"]
    assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha512", "enable")
    references = one(objects, "TriggerAuthentication")["spec"]["secretTargetRef"]
    assert {reference["parameter"]: reference["name"] for reference in references} == {
        "username": "sw-stillwatch-keda", "password": "stillwatch", "ca": "my-cluster-ca-cert",
    }  # fmt: skip


def test_monitors_select_the_workers() -> None:
    objects = render({"monitoring": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}})
    labels = one(objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    pods, services = one(objects, "PodMonitor")["spec"], one(objects, "ServiceMonitor")["spec"]
    assert pods["selector"]["matchLabels"].items() <= labels.items()
    assert services["selector"]["matchLabels"].items() <= one(objects, "Service")["metadata"]["labels"].items()
    ports = one(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert pods["podMetricsEndpoints"][0]["port"] == ports[0]["name"]


def test_what_prometheus_and_grafana_take_is_off_until_asked_for() -> None:
    assert {"PrometheusRule", "PodMonitor", "ServiceMonitor"} & {found["kind"] for found in render()} == set()
    objects = render({"monitoring": {"prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}}})
    files = {path.name for path in (CHART / "files").glob("*")}
    assert len(of_kind(objects, "PrometheusRule")) == ("rules.yaml" in files)
    dashboards = [found for found in of_kind(objects, "ConfigMap") if found["metadata"]["name"].endswith("dashboard")]
    assert len(dashboards) == ("dashboard.json" in files)


@pytest.mark.parametrize(("section", "job"), [("topics", "topics"), ("replay", "replay"), ("canary", "canary")])
def test_pods_that_are_another_user_are_so_with_certificates_too(section: str, job: str) -> None:
    own = {"certificateSecret": {"name": "own", "keyKey": "user.key", "certificateKey": "user.crt"}}
    features = {"replay": WINDOW, "canary": {"enabled": True}, "topics": {}}
    values = MUTUAL_TLS | features | {section: features[section] | own, "settings": {"canary_prefix": "canary-7e2a9b-"}}
    found = {}
    for name, spec in pod_specs(render(values)):
        (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "credentials"]
        found[name] = [source["secret"]["name"] for source in volume["projected"]["sources"]]
    assert len(found) == 5
    for name, secrets in found.items():
        assert secrets == ["my-cluster-ca-cert", "own" if f"-{job}" in name else "stillwatch"], name


def test_topics_and_users_outlive_the_release() -> None:
    objects = render({"strimzi": {"enabled": True, "cluster": "c"}})
    kept = of_kind(objects, "KafkaTopic") + of_kind(objects, "KafkaUser")
    assert len(kept) == 10
    for found in kept:
        assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}, found["metadata"]["name"]


VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
FREE = {"nodeSelector", "podAnnotations", "podLabels", "commonLabels", "affinity"}
"""Sections that may as well be absent."""
SECTIONS = [name for name, value in VALUES.items() if isinstance(value, dict) and name not in FREE]


@pytest.mark.parametrize("section", SECTIONS)
def test_what_an_older_release_does_not_have_is_named(section: str) -> None:
    """With --reuse-values sections that are new in the chart are absent."""
    done = helm("--set", f"{section}=null", values=with_kafka())
    assert f"{section} is missing among the values" in done.stderr
    assert "--reset-then-reuse-values" in done.stderr


# ---- what is wrong is said


WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no brokers": ({"kafka": {"brokers": ""}}, ("kafka.brokers is needed", "host:port")),
    "no port": ({"kafka": {"brokers": "kafka"}}, ("kafka.brokers", '"kafka" is not host:port')),
    "unknown workload": ({"workload": "DaemonSet"}, ("/workload", "'StatefulSet', 'Deployment'")),
    "unknown value": ({"replica": 3}, ("additional properties 'replica' not allowed",)),
    "unknown setting": ({"settings": {"slab_row": 3}}, ("/settings", "'slab_row' not allowed")),
    "setting of the chart": ({"settings": {"brokers": "k:1"}}, ("/settings", "'brokers' not allowed")),
    "setting out of range": ({"settings": {"slab_rows": 1}}, ("/settings/slab_rows", "got 1, want 16")),
    "setting of the wrong type": ({"settings": {"slab_rows": "many"}}, ("/settings/slab_rows", "want integer")),
    "SASL without a user": (
        {"kafka": {"security": {"protocol": "SASL_SSL"}}},
        ("needs kafka.security.username", "kafka.security.passwordSecret.name"),
    ),
    "a user without SASL": ({"kafka": {"security": {"username": "u"}}}, ("asks nobody for a user", "SASL_SSL")),
    "a CA without TLS": ({"kafka": {"security": {"caSecret": {"name": "ca"}}}}, ("uses none", "SASL_SSL")),
    "killed in its last checkpoint": (
        {"settings": {"shutdown_grace_seconds": 120}},
        ("terminationGracePeriodSeconds=90", "shutdown_grace_seconds is 120"),
    ),
    "hashed ids without a key": ({"settings": {"account_ids": "hashed"}}, ("accountHashKeySecret.name",)),
    "two baselines": ({"baseline": {"content": "{}", "configMap": "mine"}}, ("are both set",)),
    "more workers than partitions": (
        {"autoscaling": {"enabled": True, "maxReplicas": 13}},
        ("autoscaling.maxReplicas=13", "topics.partitions=12"),
    ),
    "fewest above most": ({"autoscaling": {"enabled": True, "minReplicas": 13}}, ("autoscaling.minReplicas",)),
    "Strimzi without a cluster": ({"strimzi": {"enabled": True}}, ("strimzi.cluster",)),
    "a tag and a digest": (
        {"image": {"tag": "1", "digest": "sha256:" + "0" * 64}},
        ("image.tag and image.digest are both set",),
    ),
    "Kafka nowhere": (
        {"networkPolicy": {}},
        ("networkPolicy.kafkaPeers is needed", "networkPolicy.kafkaAnywhere=true"),
    ),
    "a collector nowhere": (
        {"traces": {"endpoint": "https://otel"}},
        ("networkPolicy.collectorPeers", "networkPolicy.collectorAnywhere=true", "port, 443"),
    ),
    "a collector that is none": ({"traces": {"endpoint": "otel:4318"}}, ("/traces/endpoint",)),
    "none at rest": ({"autoscaling": {"minReplicas": 0}}, ("/autoscaling/minReplicas", "got 0, want 1")),
    "another user without a password": (
        SCRAM | {"replay": {"username": "reader"}},
        ("replay.username needs replay.passwordSecret.name",),
    ),
    "another user's password alone": (
        SCRAM | {"topics": {"passwordSecret": {"name": "admin"}}},
        ("topics.passwordSecret.name is set, and topics.username is not",),
    ),
    "another user by name where certificates tell": (
        MUTUAL_TLS | {"canary": {"username": "c", "passwordSecret": {"name": "c"}}},
        ("canary.username is set, and kafka.security.protocol=SSL", "canary.certificateSecret.name"),
    ),
    "another user's certificate without TLS": (
        {"replay": {"certificateSecret": {"name": "c"}}},
        ("replay.certificateSecret names a certificate", "PLAINTEXT uses none"),
    ),
    "a digest that is none": ({"image": {"digest": "latest"}}, ("/image/digest",)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_refused_by_name(case: str) -> None:
    values, words = WRONG[case]
    done = helm(values=with_kafka(values))
    assert done.returncode != 0
    for said in words:
        assert said in done.stderr
