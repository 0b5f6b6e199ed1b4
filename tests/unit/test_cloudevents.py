"""The envelope, judged by the official CloudEvents SDK: what one side writes the other side reads, in both modes."""

import json
from datetime import timedelta
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import (
    KafkaMessage,
    from_kafka_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent

from schemas import examples
from schemas.cloudevents import Unreadable, headers, read
from tests.unit.given import NOW

DATA: dict[str, Any] = {"actor": {"subject": "Zoë"}, "evaluation_id": "e", "nested": [1, None, "é"]}
ATTRIBUTES: dict[str, Any] = {
    "id": "c1",
    "type": "evaluation.cancel",
    "source": "/api/eu",
    "specversion": "1.0",
    "subject": "evaluation/e",
    "time": NOW + timedelta(milliseconds=7),
    "dataschema": "urn:verdict-worker:evaluation.cancel/v1",
    "datacontenttype": "application/json",
}


def their_event(message: KafkaMessage) -> tuple[dict[str, Any], Any]:
    event = from_kafka_event(message)
    return dict(event.get_attributes()), event.get_data()


def test_what_we_write_is_the_same_event_for_the_sdk() -> None:
    ours = headers(id="v1", type="command.verdict", time=NOW, subject="evaluation/e", extra=(("ce_dataref", b"x"),))
    attributes, data = their_event(KafkaMessage(dict(ours), b"evaluation/e", json.dumps(DATA).encode()))
    assert attributes == {
        "specversion": "1.0",
        "id": "v1",
        "type": "command.verdict",
        "source": "verdict-worker",
        "time": NOW,
        "subject": "evaluation/e",
        "dataref": "x",
        "datacontenttype": "application/json",
        "partitionkey": "evaluation/e",
    }
    assert data == DATA


@pytest.mark.parametrize("write", [to_binary_event, to_structured_event])
def test_what_the_sdk_writes_is_the_same_event_for_us(write: Any) -> None:
    message = write(CloudEvent(ATTRIBUTES, DATA))
    envelope = read(message.headers.items(), message.value)
    assert envelope == ("c1", "evaluation.cancel", "/api/eu", ATTRIBUTES["time"], DATA)


@pytest.mark.parametrize("write", [to_binary_event, to_structured_event])
@pytest.mark.parametrize("dropped", ["id", "time", "type"])
def test_an_attribute_that_is_missing_or_empty_is_named(write: Any, dropped: str) -> None:
    message = write(CloudEvent(ATTRIBUTES, DATA))
    changed = {name: value for name, value in message.headers.items() if name != f"ce_{dropped}"}
    value = message.value
    if write is to_structured_event:
        value = json.dumps(json.loads(value) | {dropped: ""}).encode()
    with pytest.raises(Unreadable, match=f"ce_{dropped}"):
        read(changed.items(), value)


@pytest.mark.parametrize("name", [n for n in examples.names() if examples.load(n).headers and n != "dead_letter"])
def test_the_sdk_reads_every_example_in_both_modes_alike(name: str) -> None:
    example = examples.load(name)
    binary = {header: text.encode() for header, text in example.headers.items()}
    attributes, data = their_event(KafkaMessage(binary, None, json.dumps(example.payload).encode()))
    whole = json.dumps(example.structured()).encode()
    structured = their_event(KafkaMessage({"content-type": b"application/cloudevents+json"}, None, whole))
    assert (attributes, data) == structured
    assert attributes["type"] == example.headers["ce_type"]
    assert data == example.payload


def test_structured_data_may_come_as_base64() -> None:
    event = {"specversion": "1.0", "id": "c1", "source": "api", "type": "x", "time": "2026-01-31T12:00:00Z"}
    how = [("content-type", b"application/cloudevents+json")]
    value = json.dumps({**event, "data_base64": "eyJhIjogMX0="}).encode()
    assert read(how, value).data == {"a": 1}
    with pytest.raises(Unreadable, match="data_base64: must be base64"):
        read(how, json.dumps({**event, "data_base64": "?"}).encode())
