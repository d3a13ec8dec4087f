"""A clean root folder: this machine's, with changes that stay in memory, and with processes that end with it.

It needs root's rights, or those of a user namespace. What a test cannot have, packages from the network and systemd, is
answered by the scripts in ``STAND_INS``.
"""

import functools
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

APT_GET = "#!/bin/sh\nexit 0\n"
PYTHON3 = f"""\
#!/bin/sh
# The real venv, but its pip fetches nothing: dependencies come from the environment of the tests, by path.
[ "$1 $2" = "-m venv" ] || exec {sys.base_exec_prefix}/bin/python3 "$@"
{sys.base_exec_prefix}/bin/python3 -m venv --without-pip "$3" || exit 1
cat > "$3/bin/pip" <<'END'
#!/bin/sh
case $2 in
    --require-hashes)
        site=$(echo /opt/outcomes/lib/python3.*/site-packages)
        [ -f "$4" ] && echo {sysconfig.get_path("purelib")} > "$site/tests.pth" ;;
    --no-deps)
        exec {sys.executable} -m uv pip install --compile-bytecode --quiet --offline --no-cache --no-deps \\
            --python /opt/outcomes/bin/python "$3" ;;
    *) exit 1 ;;
esac
END
chmod +x "$3/bin/pip"
"""
SYSTEMCTL = """\
#!/bin/sh
# Starts the installed unit as systemd would: as its user, in its folder, with its environment.
unit=/etc/systemd/system/outcomes.service
field() { sed -n "s/^$1=//p" $unit; }
case "$*" in
    "enable --now outcomes")
        ! command -v systemd-analyze > /dev/null || systemd-analyze verify --man=no $unit || exit 1
        folder=$(field WorkingDirectory)
        install --directory --owner="$(field User)" "$folder" && cd "$folder" || exit 1
        set -a && . "$(field EnvironmentFile)" && set +a || exit 1
        runuser -u "$(field User)" -- $(field ExecStart) > /dev/null 2> /var/log/outcomes.log &
        ;;
    daemon-reload | "reload nginx") ;;
    *) exit 1 ;;
esac
"""
STAND_INS = {"apt-get": APT_GET, "python3": PYTHON3, "systemctl": SYSTEMCTL}
ENTER = """\
set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/changes" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" "$1/root"
root=$1/root
shift
mount -t proc proc "$root/proc"
for folder in /dev /sys "$@"; do
    mkdir -p "$root$folder"
    mount --rbind "$folder" "$root$folder"
    while [ "$folder" != / ]; do folder=$(dirname "$folder"); chmod o+rx "$root$folder"; done
done
exec chroot "$root" env PATH=/stand-ins:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    bash -euxo pipefail -s
"""
NAMESPACES = (
    ("unshare", "--mount", "--pid", "--fork", "--kill-child"),
    ("unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--pid", "--fork", "--kill-child"),
)


@functools.cache
def find_namespace() -> tuple[str, ...] | None:
    """The command that can give a process a root folder of its own; None where the machine allows none."""
    for command in NAMESPACES:
        try:
            done = subprocess.run(
                [*command, "sh", "-c", ENTER, "sh", "/mnt"], input=b"id", capture_output=True, timeout=60, check=False
            )
        except OSError:
            continue
        if done.returncode == 0:
            return command
    return None


def make_command(shared: Iterable[Path]) -> list[str]:
    """A command that runs a shell script from its standard input in a clean root folder, as root.

    ``shared``: folders that are the same inside and outside. ``STAND_INS`` are found first.
    """
    namespace = find_namespace()
    assert namespace is not None
    return [*namespace, "sh", "-c", ENTER, "sh", "/mnt", *map(str, shared)]


def write_stand_ins() -> str:
    """The lines of a script that make the stand-ins."""
    scripts = [
        f"cat > /stand-ins/{name} <<'END-OF-STAND-IN'\n{script}END-OF-STAND-IN\nchmod +x /stand-ins/{name}\n"
        for name, script in STAND_INS.items()
    ]
    return "mkdir /stand-ins\n" + "".join(scripts)
