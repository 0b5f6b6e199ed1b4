"""How the cluster is reached: from a kubeconfig, or from inside a pod, to one client that repeats nothing unseen.

TLS, server name, proxy, client certificates, tokens, token files and exec plugins are what the kubeconfig says.  In a
cluster the token file is read again every minute.  Knows nothing of Jobs.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config import (
    ConfigException,
    list_kube_config_contexts,
    load_incluster_config,
    load_kube_config,
)

from worker.adapters.http import no_silent_replays
from worker.errors import Misconfigured
from worker.settings import KubernetesSettings

CONNECTIONS_MAX = 100
READ_BUFFER_BYTES = 2**21  # a line of a watch is a whole object, which etcd allows 1.5 MiB
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# It writes whole what an exec plugin says on stderr, which may be a credential, before it raises.
logging.getLogger("kubernetes_asyncio.config").setLevel(logging.CRITICAL + 1)
Connect = Callable[[], Awaitable[ApiClient]]


def connector(settings: KubernetesSettings, service_account: Path = SERVICE_ACCOUNT) -> Connect:
    """What makes a client with the credentials as they are now; it raises Misconfigured."""

    async def connect() -> ApiClient:
        configuration = Configuration()
        configuration.connection_pool_maxsize = CONNECTIONS_MAX
        if settings.kubeconfig:
            await _from_file(configuration, settings.kubeconfig, settings.context or None)
        else:
            _in_cluster(configuration, service_account)
        try:
            api = ApiClient(configuration)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise Misconfigured(f"kubernetes: a certificate or key cannot be used: {error}") from error
        api.user_agent = "verdict-worker"
        _repeat_nothing(api)
        return api

    return connect


async def _from_file(configuration: Configuration, path: str, context: str | None) -> None:
    if not _is_there(path):
        raise Misconfigured(f"WORKER_KUBERNETES__KUBECONFIG: {path}: no such file")
    try:
        await load_kube_config(path, context=context, client_configuration=configuration, persist_config=False)
    except Exception as error:  # noqa: BLE001  # the library lets YAML's, base64's and its own assertions through
        # Its messages quote whole entries of the file, tokens included: neither shown nor chained.
        contexts = _contexts(path)
        if context and contexts and context not in contexts:
            there_are = f"{path} has no context {context}; there are {', '.join(contexts)}"
            raise Misconfigured(f"WORKER_KUBERNETES__CONTEXT: {there_are}") from None
        raise Misconfigured(
            f"WORKER_KUBERNETES__KUBECONFIG: {path}: no usable kubeconfig ({type(error).__name__})"
        ) from None


def _contexts(path: str) -> list[str]:
    """Their names; none where the file cannot be read."""
    try:
        found, _ = list_kube_config_contexts(path)
    except Exception:  # noqa: BLE001  # as above
        return []
    return [str(each["name"]) for each in found]


def _is_there(paths: str) -> bool:
    """Of several files, separated by colons, those that are missing are passed over, as by kubectl."""
    return any(Path(path).expanduser().is_file() for path in paths.split(":") if path)


def _in_cluster(configuration: Configuration, service_account: Path) -> None:
    try:
        load_incluster_config(  # type: ignore[no-untyped-call]
            client_configuration=configuration,
            try_refresh_token=True,
            token_filename=str(service_account / "token"),
            cert_filename=str(service_account / "ca.crt"),
        )
    except (ConfigException, OSError) as error:
        where = "WORKER_KUBERNETES__KUBECONFIG is not set, and this is no pod with a service account"
        raise Misconfigured(f"{where}: {error}") from error


def _repeat_nothing(api: ApiClient) -> None:
    """The library makes its session itself and takes no middleware: ours goes over the same connector.

    Neither proxies nor netrc come from the environment, as in `worker.adapters.http`; the kubeconfig may name a proxy.
    """
    made = api.rest_client.pool_manager
    api.rest_client.pool_manager = ClientSession(
        connector=made.connector,
        middlewares=(no_silent_replays,),
        timeout=ClientTimeout(total=None),  # every request brings its own
        cookie_jar=DummyCookieJar(),
        trust_env=False,
        read_bufsize=READ_BUFFER_BYTES,
    )
    made.detach()
