"""The admin client, as much of it as the adapter uses: no request is repeated, and some errors are dropped.

Answers have the shapes of aiokafka's.  Knows nothing of what is done with them.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

from aiokafka import errors
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from worker.simulation.kafka.broker import BROKER, Broker
from worker.simulation.kafka.link import Link
from worker.simulation.kafka.members import names
from worker.simulation.service import never

T = TypeVar("T")
NEVER_COMMITTED = (-1, "")


class AdminModel:
    """Stands for `AIOKafkaAdminClient`."""

    def __init__(self, broker: Broker, client_id: str, timeout_seconds: float) -> None:
        self._broker = broker
        self._link = Link(broker, client_id, timeout_seconds)
        self._closed = False

    async def start(self) -> None:
        await self._link.bootstrap()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._broker.faults.strikes("F15"):
                await never()

    async def describe_topics(self, topics: Sequence[str]) -> list[dict[str, Any]]:
        """A topic that is not there has an error code."""
        return await self._link.ask("Metadata", lambda: [self._described(name) for name in topics])

    def _described(self, name: str) -> dict[str, Any]:
        topic = self._broker.topics.get(name)
        if topic is None:
            code = errors.UnknownTopicOrPartitionError.errno
            return {"error_code": code, "topic": name, "partitions": []}
        partitions = [{"error_code": 0, "partition": number, "leader": 0} for number in range(topic.partitions)]
        return {"error_code": 0, "topic": name, "partitions": partitions}

    async def describe_cluster(self) -> dict[str, Any]:
        return await self._link.ask("Metadata", lambda: {"brokers": [{"node_id": 0, "host": "broker", "port": 9092}]})

    async def create_topics(self, new_topics: Sequence[Any]) -> Any:
        """-> the answer's `topic_errors`: name, code, text."""

        def serve() -> Any:
            return SimpleNamespace(topic_errors=[self._created(new) for new in new_topics])

        return await self._link.ask("CreateTopics", serve, ",".join(new.name for new in new_topics))

    def _created(self, new: Any) -> tuple[str, int, str | None]:
        try:
            self._broker.create(new.name, new.num_partitions, new.topic_configs)
        except errors.TopicAlreadyExistsError as error:
            return new.name, error.errno, str(error)
        return new.name, 0, None

    async def alter_configs(self, resources: Sequence[ConfigResource]) -> None:
        def serve() -> None:
            for resource in resources:
                self._broker.configure(resource.name, resource.configs)

        await self._link.ask("AlterConfigs", serve)

    async def describe_configs(self, resources: Sequence[ConfigResource]) -> list[Any]:
        """-> answers with `resources`: code, text, kind, name, entries that begin with key and value."""

        def serve() -> list[Any]:
            return [SimpleNamespace(resources=[self._configured(resource)]) for resource in resources]

        return await self._link.ask("DescribeConfigs", serve)

    def _configured(self, resource: ConfigResource) -> tuple[int, str, int, str, list[tuple[str, str]]]:
        topic = resource.resource_type is ConfigResourceType.TOPIC
        found = self._broker.topics[resource.name].configuration if topic else BROKER
        return 0, "", int(resource.resource_type), resource.name, list(found.items())

    async def delete_records(self, records_to_delete: dict[TopicPartition, Any]) -> dict[TopicPartition, int]:
        """-> the new start of each log."""

        def serve() -> dict[TopicPartition, int]:
            for place, records in records_to_delete.items():
                self._broker.trim(place.topic, place.partition, records.before_offset)
            return {place: self._broker.log(place).start for place in records_to_delete}

        return await self._link.ask("DeleteRecords", serve, str(list(records_to_delete)))

    async def list_consumer_group_offsets(
        self, group_id: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """It does not wait for a transaction that is being decided (K4), and a coordinator's error is dropped.

        Asked for what was never committed: offset -1.
        """

        def serve() -> dict[TopicPartition, OffsetAndMetadata]:
            positions = self._broker.group(group_id).positions
            return {place: OffsetAndMetadata(*positions.get(place, NEVER_COMMITTED)) for place in partitions}

        try:
            detail = f"{group_id} {[place.partition for place in partitions]}"
            return await self._ask_coordinator("OffsetFetch", serve, detail)
        except (errors.NotCoordinatorError, errors.CoordinatorLoadInProgressError):
            return {}

    async def describe_consumer_groups(self, group_ids: Sequence[str]) -> list[Any]:
        """-> answers with `groups`: code, name, state, protocol type, protocol, members."""

        def serve() -> list[Any]:
            return [SimpleNamespace(groups=[self._group(name)]) for name in group_ids]

        return await self._ask_coordinator("DescribeGroups", serve, ",".join(group_ids))

    def _group(self, name: str) -> tuple[int, str, str, str, str, list[tuple[str, str, str, bytes, bytes]]]:
        group = self._broker.group(name)
        return 0, name, group.state, "consumer", "roundrobin", names(list(group.members.values()))

    async def _ask_coordinator(self, what: str, serve: Callable[[], T], detail: str) -> T:
        """The real one looks the coordinator up for every request."""
        self._link.forget_coordinator()
        return await self._link.ask_coordinator(what, serve, detail)
