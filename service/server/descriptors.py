"""File descriptors: each connection takes one, and a process that has none left accepts nobody."""

import resource

import structlog

from service.server.limits import ConnectionLimits

logger = structlog.get_logger()

OTHERS = 256  # the database's connections, uploads on disk


def allow_descriptors(limits: ConnectionLimits) -> None:
    """Lets this process have as many as its connections may need, as far as the system does; else tells so."""
    needed = limits.connections + limits.reserve + OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        logger.warning("few_file_descriptors", limit=allowed, setting="OUTCOMES_MAX_CONNECTIONS")
