#!/bin/sh
# A logical backup of the database, consistent as of one instant, made while the service runs.
#
#   OUTCOMES_DATABASE_URL=… backup.sh FOLDER        writes FOLDER/outcomes-YYYYMMDDTHHMMSSZ/
#     database.dump   pg_dump's custom format, for restore.sh
#     MANIFEST        what restore.sh checks the restored database against, and the dump's checksum
#
# NAME=…   a name instead of the time             KEEP=14  then remove all but the 14 newest (default: remove none)
# PG_BIN=… the folder of pg_dump and psql, of the server's major version or a newer one
#
# Run it as the owner of the schema. Put the password into ~/.pgpass: other users can see command lines.
# Exit status: 0 when the backup is complete, 1 when it failed (and left nothing), 2 for wrong arguments.
set -eu

say() { printf '%s\n' "$*" >&2; }
refuse() { say "backup: $*"; exit 2; }

[ $# -eq 1 ] || refuse "name a folder: backup.sh FOLDER"
[ -d "$1" ] || refuse "$1 is not a folder"
[ -n "${OUTCOMES_DATABASE_URL:-}" ] || refuse "set OUTCOMES_DATABASE_URL"
case ${KEEP:-1} in '' | *[!0-9]* | 0) refuse "KEEP takes a number, 1 or more" ;; esac
pg_dump=${PG_BIN:+$PG_BIN/}pg_dump
psql=${PG_BIN:+$PG_BIN/}psql
name=${NAME:-outcomes-$(date -u +%Y%m%dT%H%M%SZ)}
case $name in outcomes-*) ;; *) name=outcomes-$name ;; esac
case $name in */*) refuse "NAME takes a name without slashes" ;; esac
target=$1/$name
part=$1/.$name.part
[ ! -e "$target" ] || refuse "$target already exists"
umask 077
mkdir "$part" || refuse "$part already exists: another backup is running, or one was interrupted; if so, remove it"
trap 'rm -rf "$part"' EXIT
trap 'exit 1' HUP INT TERM

# One snapshot for the dump and the manifest. Its session stays open while pg_dump reads.
mkfifo "$part/ask" "$part/answer"
"$psql" "$OUTCOMES_DATABASE_URL" -XAtq -v ON_ERROR_STOP=1 <"$part/ask" >"$part/answer" &
session=$!
exec 3>"$part/ask" 4<"$part/answer"
rm "$part/ask" "$part/answer"
cat >&3 <<'SQL' || true
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot();
SELECT coalesce(max(version), '') FROM schema_migrations;
SELECT coalesce(max(position), 0) FROM outcomes;
SELECT count(*) FROM events;
SELECT current_setting('server_version');
SELECT coalesce(string_agg(DISTINCT r.rolname, ' '), '')
FROM pg_shdepend AS d JOIN pg_roles AS r ON r.oid = d.refobjid
WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND d.refclassid = 'pg_authid'::regclass AND d.deptype = 'a';
SQL
read_line() { IFS= read -r line <&4 || { say "backup: the database does not answer"; exit 1; }; }
read_line; snapshot=$line
read_line; schema=$line
read_line; feed_end=$line
read_line; events=$line
read_line; server=$line
read_line; roles=$line
taken_at=$(date -u +%Y-%m-%dT%H:%M:%SZ)

"$pg_dump" --format=custom --no-password --snapshot="$snapshot" --file="$part/database.dump" "$OUTCOMES_DATABASE_URL" || {
    say "backup: pg_dump failed"
    exit 1
}
echo '\q' >&3
exec 3>&- 4<&-
wait "$session"
{
    echo "format 1"
    echo "taken_at $taken_at"
    echo "server $server"
    echo "schema $schema"
    echo "feed_end $feed_end"
    echo "events $events"
    echo "roles $roles"
    (cd "$part" && sha256sum database.dump) | sed 's/^\([0-9a-f]*\)  */sha256 \1 /'
} >"$part/MANIFEST"
sync
mv "$part" "$target"
trap - EXIT
echo "$target"

if [ -n "${KEEP:-}" ]; then
    # Names end in their times, so the newest come last.
    find "$1" -mindepth 1 -maxdepth 1 -type d -name 'outcomes-[0-9]*T[0-9]*Z' | sort -r | tail -n "+$((KEEP + 1))" |
        while IFS= read -r old; do
            rm -rf "$old"
            say "removed $old"
        done
fi
