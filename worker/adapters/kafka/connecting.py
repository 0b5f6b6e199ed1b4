"""The first connection to Kafka, and what stands in its way.

aiokafka only logs why a broker would not have it, and raises the same for a wrong password, for a certificate that
nobody vouches for and for a broker that is away.  So where its start fails, one bare connection is opened, which tells.
At run time nobody asks: a credential that is refused then may be repaired, and is waited out like an outage.
"""

import asyncio
import ssl

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient

from worker.adapters.kafka.calling import calling
from worker.adapters.kafka.connection import Connection
from worker.adapters.kafka.ending import end
from worker.errors import Misconfigured, Unavailable, WorkerError
from worker.settings import KafkaSettings

STOP_SECONDS = 2.0
TLS_ALERT = 0x1503
"""What TLS says to a request that is none of it begins so: read as Kafka, it is the size of an answer."""


async def administrator(connection: Connection) -> AIOKafkaAdminClient:
    """An admin client, started.  Raises Unavailable, Misconfigured for a credential or a certificate."""
    admin = connection.admin()
    try:
        async with calling("connect", connection.settings.request_timeout_seconds):
            await admin.start()
    except BaseException as error:
        await end(admin, STOP_SECONDS)
        if isinstance(error, Unavailable):
            raise await _reason(connection, error) from error
        raise
    return admin


async def _reason(connection: Connection, failure: Unavailable) -> WorkerError:
    """What the addresses say; one that would not have us counts before one that is away."""
    addresses = connection.settings.bootstrap_servers.split(",")
    reasons = await asyncio.gather(*(_said(connection, address) for address in addresses))
    telling = [reason for reason in reasons if reason is not None]
    if not telling:  # as a broker does who first wants a credential
        return _doubted(f"{failure}, although {', '.join(addresses)} takes connections", connection.settings)
    return min(telling, key=lambda reason: not isinstance(reason, Misconfigured))


async def _said(connection: Connection, address: str) -> WorkerError | None:
    """None where all is well by now."""
    settings = connection.settings
    try:
        async with calling(f"connect to {address}", settings.request_timeout_seconds):
            await connection.greet(address)
    except WorkerError as error:
        match error.__cause__:
            case ssl.SSLCertVerificationError() as cause:
                return Misconfigured(f"WORKER_KAFKA__CA_FILE: {address} is not trusted: {cause.verify_message}")
            case errors.UnsupportedSaslMechanismError():
                return Misconfigured(f"WORKER_KAFKA__SASL_MECHANISM: {address} takes no {settings.sasl_mechanism}")
            case errors.SaslAuthenticationFailed() as cause:
                return Misconfigured(f"{_credential(settings)}: {address} refuses it: {cause}")
            case errors.IllegalSaslStateError():
                return Misconfigured(f"WORKER_KAFKA__SECURITY: {address} takes no SASL, and it is {settings.security}")
            case errors.KafkaConnectionError(__cause__=asyncio.IncompleteReadError(expected=int(size))) if (
                size >> 16 == TLS_ALERT
            ):
                return Misconfigured(f"WORKER_KAFKA__SECURITY: {address} speaks TLS, and it is {settings.security}")
            case ConnectionResetError():
                return _doubted(str(error), settings)
            case _:
                return error
    return None


def _doubted(text: str, settings: KafkaSettings) -> Unavailable:
    """A broker that is going down ends connections as one that cannot make sense of them: it may be either."""
    return Unavailable(f"{text}; unless it is away, WORKER_KAFKA__SECURITY={settings.security} is not what it speaks")


def _credential(settings: KafkaSettings) -> str:
    """The setting that holds it."""
    if settings.sasl_mechanism != "OAUTHBEARER":
        return "WORKER_KAFKA__SASL_PASSWORD"
    return f"WORKER_KAFKA__TOKEN_{'FILE' if settings.token_file else 'COMMAND'}"
