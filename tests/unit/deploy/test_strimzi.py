"""Strimzi's topics are those of `stillwatch topics create`."""

from __future__ import annotations

import pytest

from streams.settings import load_settings
from streams.topics import topic_specs
from tests.unit.deploy.manifests import of_kind, render


@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("largest", [None, 3_000_000])
def test_topics_are_those_that_the_command_creates(replicas: int, largest: int | None) -> None:
    objects = render(
        {
            "strimzi": {"enabled": True, "cluster": "my-cluster"},
            "kafka": {"topicPrefix": "Team_A."},
            "topics": {"partitions": 8, "replicationFactor": replicas},
            "settings": {} if largest is None else {"max_record_bytes": largest},
        }
    )
    specs = topic_specs(
        load_settings(topic_prefix="Team_A.", partitions=8, replication_factor=replicas, max_record_bytes=largest)
    )
    made = {
        topic["spec"]["topicName"]: (
            topic["spec"]["partitions"],
            topic["spec"]["replicas"],
            {name: str(value) for name, value in topic["spec"]["config"].items()},
        )
        for topic in of_kind(objects, "KafkaTopic")
    }
    assert made == {spec.name: (spec.partitions, spec.replication_factor, spec.config) for spec in specs}
    for topic in of_kind(objects, "KafkaTopic"):
        assert topic["metadata"]["labels"]["strimzi.io/cluster"] == "my-cluster"
        assert topic["metadata"]["name"].islower()
