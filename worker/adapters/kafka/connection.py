"""How Kafka is reached, and every client object that the adapter uses: they are made here and nowhere else.

A simulator gives its own objects by overriding these methods.  Defaults of aiokafka that matter are written out.
"""

import ssl
from functools import cached_property
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn, get_ip_port_afi
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from worker.adapters.kafka.token import Token
from worker.errors import Misconfigured
from worker.ports import Topic
from worker.settings import KafkaSettings

BATCH_BYTES_MAX = 512 * 1024
"""Of one partition, uncompressed: a broker's bound is on batches, so this stays well below that of a record."""
HEADERS_BYTES_MAX = 64 * 1024
"""Headers, key and framing of the largest command, beside its value."""
FETCH_WAIT_SECONDS = 0.2


class Connection:
    """Makes clients, which are not started yet; needs a running event loop when it does.  `settings` are public."""

    def __init__(self, settings: KafkaSettings, command_bytes_max: int) -> None:
        self.settings, self.command_bytes_max = settings, command_bytes_max

    def topic(self, topic: Topic) -> str:
        """The topic's whole name."""
        return f"{self.settings.topic_prefix}.{topic.value}"

    def admin(self) -> AIOKafkaAdminClient:
        return AIOKafkaAdminClient(**self._shared)

    def member(self) -> AIOKafkaConsumer:
        """A member of the group, without a subscription: commits nothing itself, never resets a position."""
        settings = self.settings
        return AIOKafkaConsumer(
            **self._shared,
            **self._reading,
            group_id=settings.group,
            group_instance_id=settings.group_instance_id or None,
            # Exactly one (K9): with several, a JoinGroup is sent for each.
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            session_timeout_ms=_milliseconds(settings.session_timeout_seconds),
            rebalance_timeout_ms=_milliseconds(settings.session_timeout_seconds),
            heartbeat_interval_ms=_milliseconds(settings.heartbeat_interval_seconds),
        )

    def reader(self) -> AIOKafkaConsumer:
        """Reads what it is told to, and belongs to no group."""
        return AIOKafkaConsumer(**self._shared, **self._reading, group_id=None)

    def transactional(self, partition: int) -> AIOKafkaProducer:
        """The producer of one owned input partition: its transactional id fences whoever had the partition (K2)."""
        return self._transactional(self.transactional_id(partition))

    def trial(self) -> AIOKafkaProducer:
        """A producer whose transactional id begins as those of the workers, and is none of theirs."""
        return self._transactional(f"{self.settings.group}-check")

    def _transactional(self, name: str) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self._shared,
            **self._writing,
            transactional_id=name,
            transaction_timeout_ms=_milliseconds(self.settings.transaction_timeout_seconds),
        )

    def transactional_id(self, partition: int) -> str:
        """Of an input partition, and never of a worker (K2)."""
        return f"{self.settings.group}-{self.topic(Topic.COMMANDS)}-{partition}"

    def idempotent(self) -> AIOKafkaProducer:
        """Publishes commands: repetitions of its own are dropped by the broker, and order is kept."""
        return AIOKafkaProducer(**self._shared, **self._writing, enable_idempotence=True)

    async def greet(self, address: str) -> None:
        """Open one bare connection to `address`, and close it.

        Raises whatever stands in the way, which the start of a client only logs: OSError, ssl.SSLError, KafkaError.
        """
        host, port, _ = get_ip_port_afi(address)
        bare = await create_conn(host, port, **self._dialling)
        await bare.close()

    @property
    def _writing(self) -> dict[str, Any]:
        return {
            "acks": "all",
            "compression_type": None,
            "linger_ms": 0,
            "max_batch_size": BATCH_BYTES_MAX,
            "max_request_size": self.command_bytes_max + 3 * HEADERS_BYTES_MAX,  # topics bound records, not this
        }

    @property
    def _reading(self) -> dict[str, Any]:
        return {
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "fetch_max_wait_ms": _milliseconds(FETCH_WAIT_SECONDS),
            "max_partition_fetch_bytes": 1024 * 1024,
        }

    @property
    def _shared(self) -> dict[str, Any]:
        return {
            **self._dialling,
            "bootstrap_servers": self.settings.bootstrap_servers.split(","),
            "retry_backoff_ms": 100,
            "metadata_max_age_ms": 60_000,
        }

    @cached_property
    def _dialling(self) -> dict[str, Any]:
        """What each single connection is opened with."""
        settings = self.settings
        with_tls, with_sasl = settings.security.endswith("SSL"), settings.security.startswith("SASL")
        return {
            "client_id": settings.client_id,
            "request_timeout_ms": _milliseconds(settings.request_timeout_seconds),
            "security_protocol": settings.security,
            "ssl_context": self._tls() if with_tls else None,
            **(self._sasl() if with_sasl else {}),
        }

    def _tls(self) -> ssl.SSLContext:
        path = self.settings.ca_file
        if path and not Path(path).is_file():
            raise Misconfigured(f"WORKER_KAFKA__CA_FILE: there is no file {path}")
        try:
            return ssl.create_default_context(cafile=path or None)
        except OSError as error:
            raise Misconfigured(f"WORKER_KAFKA__CA_FILE: {path}: {error.strerror or error}") from error

    def _sasl(self) -> dict[str, Any]:
        settings = self.settings
        if settings.sasl_mechanism == "OAUTHBEARER":
            return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": Token(settings)}
        if not settings.sasl_username:
            raise Misconfigured(f"WORKER_KAFKA__SASL_USERNAME: {settings.sasl_mechanism} needs one")
        return {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
