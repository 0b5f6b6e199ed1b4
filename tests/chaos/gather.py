"""Copies all that a run left behind into a folder: topics, objects, positions, Jobs and pods.  Judges nothing.

`python -m tests.chaos.gather FOLDER` finds in FOLDER/access.json where the servers are.  Goes through librdkafka at
read_committed (aiokafka for positions), botocore and plain HTTP; imports nothing of the product and no test code that
does.
"""

import asyncio
import base64
import json
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import botocore.session
from aiokafka.admin import AIOKafkaAdminClient
from botocore.config import Config
from confluent_kafka import Consumer, KafkaError, TopicPartition

TOPICS = ("commands", "results", "status", "audit", "dead-letters")
SILENCE_SECONDS = 30.0
POLL_SECONDS = 0.2


def main(folder: Path) -> None:
    """Raises TimeoutError where a topic has no end in sight, and what the client libraries raise."""
    access = json.loads((folder / "access.json").read_text())
    for topic in TOPICS:
        with (folder / f"{topic}.jsonl").open("w") as out:
            for record in records(access, topic):
                out.write(json.dumps(record) + "\n")
    with (folder / "objects.jsonl").open("w") as out:
        for key, body in objects(access):
            out.write(json.dumps({"key": key, "body": encoded(body)}) + "\n")
    (folder / "positions.json").write_text(json.dumps(asyncio.run(positions(access))))
    (folder / "cluster.json").write_text(json.dumps({"jobs": listed(access, "jobs"), "pods": listed(access, "pods")}))


def records(access: dict[str, Any], topic: str) -> list[dict[str, Any]]:
    """All committed records of a topic, by partition and offset."""
    consumer = _consumer(access, "reader")
    name = f"{access['prefix']}.{topic}"
    partitions = consumer.list_topics(name, timeout=SILENCE_SECONDS).topics[name].partitions
    consumer.assign([TopicPartition(name, number, 0) for number in partitions])
    found, ended = list[dict[str, Any]](), set[int]()
    silent_since = time.monotonic()
    while len(ended) < len(partitions):
        messages = consumer.consume(1000, POLL_SECONDS)
        silent_since = time.monotonic() if messages else silent_since
        if time.monotonic() > silent_since + SILENCE_SECONDS:
            raise TimeoutError(f"{name}: no end within {SILENCE_SECONDS:g} s")
        for message in messages:
            if error := message.error():
                if error.code() == KafkaError._PARTITION_EOF:  # its public name; other errors pass
                    ended.add(message.partition())
            else:
                found.append(_record(message))
    consumer.close()
    return sorted(found, key=lambda record: (record["partition"], record["offset"]))


def _record(message: Any) -> dict[str, Any]:
    return {
        "partition": message.partition(),
        "offset": message.offset(),
        "key": (message.key() or b"").decode(),
        "value": encoded(message.value() or b""),
        "headers": {key.lower(): raw.decode() for key, raw in dict(message.headers() or ()).items()},
    }


async def positions(access: dict[str, Any]) -> list[dict[str, Any]]:
    """What the workers' group has committed, with the metadata, and where the commands end.

    Asks through aiokafka: librdkafka gives the metadata with whatever bytes follow it in memory.
    """
    consumer, name = _consumer(access, "reader"), f"{access['prefix']}.commands"
    admin = AIOKafkaAdminClient(bootstrap_servers=access["bootstrap_servers"])
    await admin.start()
    try:
        committed = await admin.list_consumer_group_offsets(access["prefix"])
    finally:
        await admin.close()
    found = [
        {
            "partition": at.partition,
            "offset": position.offset,
            "metadata": position.metadata,
            "end": consumer.get_watermark_offsets(TopicPartition(name, at.partition), timeout=SILENCE_SECONDS)[1],
        }
        for at, position in committed.items()
    ]
    consumer.close()
    return found


def objects(access: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Everything in the bucket."""
    client: Any = botocore.session.get_session().create_client(
        "s3", **access["s3"], config=Config(s3={"addressing_style": "path"})
    )
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=access["bucket"]):
        for each in page.get("Contents", ()):
            yield each["Key"], client.get_object(Bucket=access["bucket"], Key=each["Key"])["Body"].read()
    client.close()


def listed(access: dict[str, Any], what: str) -> list[dict[str, Any]]:
    """All Jobs, or all pods, of the cluster, as the API server has them."""
    api = access["api"]
    path = "/apis/batch/v1/jobs" if what == "jobs" else "/api/v1/pods"
    request = Request(api["url"] + path, headers={"Authorization": f"Bearer {api['token']}"})  # noqa: S310  # https
    trusting = ssl.create_default_context(cadata=api["authority"])
    with urlopen(request, timeout=SILENCE_SECONDS, context=trusting) as answer:  # noqa: S310  # the same
        found: list[dict[str, Any]] = json.load(answer)["items"]
    return found


def encoded(body: bytes) -> str:
    return base64.b64encode(body).decode()


def _consumer(access: dict[str, Any], group: str) -> Any:
    return Consumer(
        {
            "bootstrap.servers": access["bootstrap_servers"],
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
