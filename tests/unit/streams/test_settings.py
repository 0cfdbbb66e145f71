"""Settings: where they come from, and that a wrong one is told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streams.settings import Settings, SettingsError, load_settings

PASSWORD = "hunter2"  # noqa: S105


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("STILLWATCH_")]:
        monkeypatch.delenv(name)


def test_flags_win_over_the_environment_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "stillwatch.toml"
    file.write_text('group_id = "file"\ntopic_prefix = "file."\nslab_rows = 64\n')
    monkeypatch.setenv("STILLWATCH_GROUP_ID", "environment")
    monkeypatch.setenv("STILLWATCH_TOPIC_PREFIX", "environment.")
    settings = load_settings(file, group_id="flag", topic_prefix=None)
    assert (settings.group_id, settings.topic_prefix, settings.slab_rows) == ("flag", "environment.", 64)


def test_the_environment_can_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "stillwatch.toml"
    file.write_text("slab_rows = 64\n")
    monkeypatch.setenv("STILLWATCH_CONFIG", str(file))
    assert load_settings().slab_rows == 64


def test_every_setting_is_described_and_its_default_is_valid() -> None:
    assert load_settings()
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"brokers": "kafka"}, "brokers=kafka: 'kafka' is not host:port"),
        ({"brokers": "kafka:99999"}, "is not host:port"),
        ({"checkpoint_interval_seconds": 0}, "checkpoint_interval_seconds=0:"),
        ({"slab_rows": "many"}, "slab_rows=many:"),
        ({"false_findings_per_1000_account_days": -1}, "false_findings_per_1000_account_days=-1:"),
        ({"store": "redis"}, "'memory' or 'rocksdict'"),
        ({"topic_prefix": "a b"}, "topic_prefix=a b:"),
        ({"ssl_ca_file": "/nowhere"}, "there is no file /nowhere"),
        ({"chekpoint": 1}, "chekpoint is not a setting"),
        ({"security_protocol": "SASL_SSL"}, "needs sasl_username and sasl_password"),
        ({"account_ids": "hashed"}, "needs account_hash_key"),
        (
            {"finding_quiet_hours": 48, "state_expiry_days": 2},
            "finding_quiet_hours=48 must be shorter than state_expiry_days=2 (48 hours)",
        ),
        ({"session_timeout_seconds": 60}, "session_timeout_seconds may not be above request_timeout_seconds"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**wrong)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["brokers = ", "\xff"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(SettingsError, match=r"broken\.toml"):
        load_settings(file)


def test_an_unknown_key_in_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "stillwatch.toml"
    file.write_text("slab_row = 3\n")
    with pytest.raises(SettingsError, match="slab_row is not a setting"):
        load_settings(file)


def test_a_secret_is_in_no_message_and_no_repr() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(sasl_password=[PASSWORD], slab_rows=0)
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in repr(load_settings(sasl_password=PASSWORD))


def test_security_reaches_every_client() -> None:
    settings = load_settings(
        security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-256", sasl_username="me", sasl_password=PASSWORD
    )
    options = settings.client_options()
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_mechanism"] == "SCRAM-SHA-256"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("me", PASSWORD)
    assert options["ssl_context"] is not None
    credentials = settings.faust_options()["broker_credentials"]
    assert credentials.protocol.value == "SASL_SSL"
    assert credentials.mechanism.value == "SCRAM-SHA-256"
    assert (credentials.username, credentials.password) == ("me", PASSWORD)


def test_several_brokers_reach_faust() -> None:
    options = load_settings(brokers="a:1, b:2").faust_options()
    assert options["broker"] == "kafka://a:1;b:2"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("STILLWATCH_BROKER", "did you mean STILLWATCH_BROKERS?"),
        ("STILLWATCH_TOPICS_PREFIX", "did you mean STILLWATCH_TOPIC_PREFIX?"),
        ("STILLWATCH_XYZZY", "`stillwatch config` lists the settings"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest_name_and_without_its_value(
    name: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "hunter2")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert str(raised.value) == f"{name} in the environment is not a setting; {hint}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stillwatch_group_id", "lower case"),
        ("STILLWATCH_SHARED", "/somewhere"),
        ("STILLWATCH_TEST_SEED", "7"),
        ("STILLWATCH_SERVICE_HOST", "10.0.0.1"),
        ("STILLWATCH_SERVICE_PORT_METRICS", "9100"),
        ("STILLWATCH_PORT", "tcp://10.0.0.1:9100"),
        ("STILLWATCH_PORT_9100_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_variables_of_tests_and_of_kubernetes_services_are_passed_over(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert load_settings().brokers == "127.0.0.1:9092"


@pytest.mark.parametrize("name", ["STILLWATCH_METRICS_PORT", "stillwatch_metrics_port"])
def test_the_address_of_a_kubernetes_service_named_like_a_setting_is_passed_over_with_a_warning(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, "tcp://10.96.0.7:9464")
    settings = load_settings()
    assert settings.metrics_port == 9464
    assert "metrics_port" not in settings.model_fields_set
    assert caplog.messages == [
        "STILLWATCH_METRICS_PORT in the environment is an address that Kubernetes gives for a service, no setting: "
        "passed over"
    ]
    assert load_settings(metrics_port=7).metrics_port == 7


def test_a_port_in_the_environment_is_a_setting_and_a_wrong_one_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLWATCH_METRICS_PORT", "9100")
    assert load_settings().metrics_port == 9100
    monkeypatch.setenv("STILLWATCH_METRICS_PORT", "9100/tcp")
    with pytest.raises(SettingsError, match="metrics_port=9100/tcp"):
        load_settings()


def test_a_password_may_lie_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    user = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "me"}
    settings = load_settings(**user, sasl_password_file=file)
    assert settings.client_options()["sasl_plain_password"] == PASSWORD
    assert settings.faust_options()["broker_credentials"].password == PASSWORD
    assert settings.credential_files == (file,)
    assert PASSWORD not in repr(settings)
    with pytest.raises(SettingsError, match="both set"):
        load_settings(**user, sasl_password=PASSWORD, sasl_password_file=file)
    file.write_text("\n")
    with pytest.raises(SettingsError, match="must not be empty"):
        load_settings(**user, sasl_password_file=file)
