"""The stream: groups of webhooks in the files of NATS JetStream, on three servers where three are configured.

A group is stored once the stream's leader acknowledges it, which a server does after its own write. That write is on
disk only with ``sync_interval: always``: the default writes back every two minutes. So the settings of the servers and
the stream are checked after each connection, and every ten seconds, since the client does not see other servers come
back. A stream whose servers may lose what they acknowledged is not used.
"""

import asyncio
import contextlib
import hashlib
import re
from datetime import datetime

import msgspec
import nats
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from service.errors import ConfigurationError, OutcomesError
from service.spill.codec import ROW_BYTES, Part
from service.spill.servers import check_servers

logger = structlog.get_logger()

STREAM = "outcomes-spill"
SUBJECT = "outcomes.spill"
CONSUMER = "drain"
REPLICAS = 3
DUPLICATES_SECONDS = 120
"""How long the stream recognises a repeated message: far longer than a group is held."""
CONNECT_SECONDS = 2
PUBLISH_SECONDS = 2.0
RECONNECT_SECONDS = 0.2
PING_SECONDS = 2
ACK_WAIT_SECONDS = 60
CHECK_SECONDS = 10.0
_NUMBER = re.compile("[0-9]{1,6}")


class SpillError(OutcomesError):
    """The stream did not take the group: it is full, has no leader, or cannot be reached."""


class StreamState(msgspec.Struct):
    """What waits in the stream. ``identity`` changes if it is created again."""

    identity: str
    messages: int
    bytes: int
    events: int
    oldest_at: datetime | None


class _State(msgspec.Struct):
    messages: int
    bytes: int
    first_ts: datetime
    subjects: dict[str, int] | None = None


class _Info(msgspec.Struct):
    created: datetime
    state: _State


_read_info = msgspec.json.Decoder(_Info).decode


class Stream:
    """A connection to the servers and the stream there. ``max_body_bytes`` is the largest webhook."""

    def __init__(self, servers: list[str], *, max_body_bytes: int, allow_unsafe: bool = False) -> None:
        self._servers = servers
        self._least_payload = max_body_bytes + 2 * ROW_BYTES
        self._allow_unsafe = allow_unsafe
        self._replicas = REPLICAS if len(servers) >= REPLICAS else 1
        self._client = Client()
        self._context: JetStreamContext | None = None
        self._connections = self._checked = 0
        """The number of connections so far, and the one that was checked."""
        self._changed = asyncio.Event()
        """Set when the connection is there again, or is closed."""
        self._unsafe = ""
        self._consumer: JetStreamContext.PullSubscription | None = None

    @property
    def is_ready(self) -> bool:
        """Whether groups can be published: connected, checked, and the stream is there."""
        return self._context is not None and self._client.is_connected and self._checked == self._connections

    async def open(self) -> None:
        """Connects, however long that takes, and creates the stream if missing. Raises ConfigurationError, with the
        remedy, when the servers may lose what they acknowledge or cannot take the largest webhook."""
        self._client = Client()
        self._connections += 1
        self._changed.clear()
        try:
            await self._connect()
            await self._check(self._client.jetstream(timeout=PUBLISH_SECONDS))
        except BaseException:
            await self._client.close()
            raise

    async def examine(self) -> str:
        """Checks the servers and the stream, if it is there, and closes the connection. Returns what is unsafe and
        allowed nevertheless, if anything; raises ConfigurationError as ``open`` does."""
        self._client = Client()
        try:
            await self._connect()
            unsafe = await self._check_servers()
            with contextlib.suppress(NotFoundError):
                context = self._client.jetstream(timeout=PUBLISH_SECONDS)
                self._refuse_faults((await context.stream_info(STREAM)).config)
            return unsafe
        finally:
            await self._client.close()

    async def keep_checked(self) -> None:
        """Checks the servers and the stream again after each new connection and every ``CHECK_SECONDS``. Returns once
        the client has given up: it connects again after a broken connection, but not where it is refused, such as with
        a password that was changed. Raises ConfigurationError as ``open`` does, and closes the stream then."""
        while not self._client.is_closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            if not self._client.is_connected or self._context is None:
                continue
            connection = self._connections
            try:
                await self._check(self._context)
            except ConfigurationError:
                if connection == self._connections and self._client.is_connected:
                    await self.close()
                    raise
            except (nats.errors.Error, OSError) as error:  # the connection is broken
                logger.debug("spill_not_checked", reason=type(error).__name__)

    async def note_lost(self) -> None:
        """Ends what was checked: the client may connect to another server."""
        self._connections += 1

    async def close(self) -> None:
        """Closes the connection."""
        self._context = None
        await self._client.close()

    @property
    def max_message_bytes(self) -> int:
        """The largest message that the servers take."""
        return self._client.max_payload - ROW_BYTES

    async def publish(self, part: Part) -> None:
        """Stores a message; returns once the servers have acknowledged it. The same message is stored once. Raises
        SpillError otherwise: it may be stored nevertheless."""
        if self._context is None or not self.is_ready:
            raise SpillError("There is no checked connection to the stream")
        connection = self._connections
        headers = {"Nats-Msg-Id": hashlib.sha256(part.payload).hexdigest()}
        try:
            await self._context.publish(
                f"{SUBJECT}.{part.events}", part.payload, timeout=PUBLISH_SECONDS, stream=STREAM, headers=headers
            )
        except (nats.errors.Error, OSError, ValueError) as error:
            raise SpillError(f"The stream did not take the group: {type(error).__name__}") from error
        if connection != self._connections:
            raise SpillError("The connection was lost meanwhile: a server that is not checked may have the group")

    async def read_state(self) -> StreamState:
        """What waits. Raises SpillError when the stream does not answer."""
        try:
            request = b'{"subjects_filter":"' + SUBJECT.encode() + b'.*"}'
            answer = await self._client.request(f"$JS.API.STREAM.INFO.{STREAM}", request, timeout=PUBLISH_SECONDS)
            info = _read_info(answer.data)
        except (nats.errors.Error, OSError, msgspec.MsgspecError) as error:
            raise SpillError(f"The stream does not answer: {type(error).__name__}") from error
        counts = (info.state.subjects or {}).items()
        events = sum(_count_events(subject) * messages for subject, messages in counts)
        oldest = info.state.first_ts if info.state.messages else None
        return StreamState(info.created.isoformat(), info.state.messages, info.state.bytes, events, oldest)

    async def begin_fetching(self) -> None:
        """Makes this the only reader: everything that was fetched and not acknowledged is delivered again."""
        assert self._context is not None
        with contextlib.suppress(NotFoundError):
            await self._context.delete_consumer(STREAM, CONSUMER)
        config = ConsumerConfig(
            durable_name=CONSUMER, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_SECONDS, max_deliver=-1
        )
        await self._context.add_consumer(STREAM, config)
        await self.end_fetching()
        self._consumer = await self._context.pull_subscribe_bind(CONSUMER, STREAM)

    async def end_fetching(self) -> None:
        """Leaves the messages to another reader."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.unsubscribe()

    async def fetch(self, most: int, seconds: float) -> "list[Fetched]":
        """The next messages, as many as there are; none when none came within that time."""
        assert self._consumer is not None
        try:
            return [Fetched(message) for message in await self._consumer.fetch(most, timeout=seconds)]
        except TimeoutError:
            return []

    async def _note_connected(self) -> None:
        self._changed.set()

    async def _note_closed(self) -> None:
        self._context = self._consumer = None
        self._changed.set()

    async def _connect(self) -> None:
        await self._client.connect(
            servers=self._servers,
            name="outcomes",
            connect_timeout=CONNECT_SECONDS,
            reconnect_time_wait=RECONNECT_SECONDS,  # type: ignore[arg-type]  # it is only slept
            max_reconnect_attempts=-1,
            ping_interval=PING_SECONDS,
            error_cb=_ignore,
            disconnected_cb=self.note_lost,
            reconnected_cb=self._note_connected,
            closed_cb=self._note_closed,
        )

    async def _check(self, context: JetStreamContext) -> None:
        """Checks servers and stream, which is created if missing; then groups may go there over this connection."""
        connection = self._connections
        unsafe = await self._check_servers()
        if unsafe and unsafe != self._unsafe:
            logger.warning("spill_unsafe", setting="sync_interval", reason=unsafe)
        self._unsafe = unsafe
        await self._ensure(context)
        self._context, self._checked = context, connection

    async def _check_servers(self) -> str:
        return await check_servers(
            self._client, len(self._servers), self._least_payload, allow_unsafe=self._allow_unsafe
        )

    async def _ensure(self, context: JetStreamContext) -> None:
        has_logged = False
        while True:
            try:
                config = (await context.stream_info(STREAM)).config
                break
            except NotFoundError:
                pass
            except nats.errors.ConnectionClosedError:
                raise
            except nats.errors.Error as error:  # there is no leader yet, or the account has no JetStream
                if not has_logged:
                    logger.warning("spill_stream_not_readable", reason=type(error).__name__)
                has_logged = True
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            try:
                config = (await context.add_stream(_describe(self._replicas))).config
                break
            except nats.errors.Error as error:
                logger.warning("spill_stream_not_created", reason=type(error).__name__)
                await asyncio.sleep(1.0)
        self._refuse_faults(config)

    def _refuse_faults(self, config: StreamConfig) -> None:
        if faults := _find_faults(config, self._replicas):
            raise ConfigurationError(
                f"OUTCOMES_SPILL_URL: the stream {STREAM} may lose webhooks: it needs {', '.join(faults)}. Correct it "
                "(`nats stream edit`), or remove it while it is empty"
            )


class Fetched:
    """A message of the stream that is to be committed."""

    def __init__(self, message: Msg) -> None:
        self._message = message

    @property
    def payload(self) -> bytes:
        """The encoded rows."""
        payload: bytes = self._message.data
        return payload

    @property
    def events(self) -> int:
        """The number of its rows."""
        return _count_events(self._message.subject)

    async def acknowledge(self) -> None:
        """Removes it from the stream; returns once the servers have."""
        await self._message.ack_sync(timeout=PUBLISH_SECONDS)

    async def put_back(self, seconds: float) -> None:
        """Has it delivered again after that time."""
        await self._message.nak(delay=seconds)


async def find_silence(server: str) -> str:
    """Why a server does not answer, in words that follow its name; empty if it does."""
    client = Client()
    try:
        await client.connect(
            servers=[server],
            connect_timeout=CONNECT_SECONDS,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            error_cb=_ignore,
        )
    except (nats.errors.Error, OSError) as error:
        is_refusal = "authorization" in str(error).lower()
        return "refuses the user or the password" if is_refusal else "does not answer"
    else:
        return ""
    finally:
        await client.close()


def _count_events(subject: str) -> int:
    """The number of events, by the subject: so the stream's state says how many wait. A message with another subject
    is not the service's, and counts as one."""
    number = subject.rpartition(".")[2]
    return int(number) if _NUMBER.fullmatch(number) else 1


def _find_faults(config: StreamConfig, replicas: int) -> list[str]:
    """What a stream needs so that it keeps each message until it is acknowledged. A bound on its messages or bytes is
    harmless: a full stream refuses."""
    needs = {
        "file storage": config.storage == StorageType.FILE,
        "workqueue retention": config.retention == RetentionPolicy.WORK_QUEUE,
        f"{replicas} replicas": (config.num_replicas or 1) >= replicas,
        "discard new": config.discard == DiscardPolicy.NEW,
        "no max_age": not config.max_age,
        "no max_msgs_per_subject": (config.max_msgs_per_subject or -1) < 0,
    }
    return [need for need, is_met in needs.items() if not is_met]


def _describe(replicas: int) -> StreamConfig:
    return StreamConfig(
        name=STREAM,
        subjects=[f"{SUBJECT}.*"],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        num_replicas=replicas,
        duplicate_window=DUPLICATES_SECONDS,
    )


async def _ignore(error: Exception) -> None:
    """The client reconnects by itself; a publish that fails is reported by its caller."""
