"""The limit on file descriptors follows that on connections; in a process of its own, as it is lowered for good."""

import subprocess
import sys

PROGRAM = """
import resource
from service.server.process import allow_descriptors
from service.server.limits import ConnectionLimits
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
allow_descriptors(ConnectionLimits(connections=300, reserve=10))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def run(soft: int, hard: int) -> list[str]:
    """What the process wrote: its log, and the limit in the end."""
    program = PROGRAM.format(soft=soft, hard=hard)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_it_is_raised_to_what_the_connections_need() -> None:
    assert run(200, 1000) == ["566"]


def test_one_that_is_high_enough_stays() -> None:
    assert run(700, 1000) == ["700"]


def test_where_the_system_allows_less_that_is_reported_with_the_setting_to_change() -> None:
    output = run(200, 400)
    assert output[-1] == "400"
    assert "file_descriptors_low" in output
    assert "setting=OUTCOMES_MAX_CONNECTIONS" in output
