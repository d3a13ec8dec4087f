#!/bin/sh
# Restores a backup made by backup.sh into an empty database, and checks the result against the manifest.
#
#   OUTCOMES_DATABASE_URL=postgresql://…/NEW ERASURES=LIST restore.sh FOLDER/outcomes-…
#
# ERASURES=… the newest list of erasures (`outcomes erasures list`): people erased after the backup are in the backup, and
#            are erased again. ERASURES=none: nobody was erased since.
# PG_BIN=… the folder of pg_restore and psql         PROGRAM=… the program `outcomes`, of this or a newer version
# JOBS=2   number of tables restored at once
#
# Run it as the role that will own the schema, before a service uses the new database. It needs no more than to own that
# database: CREATEDB, or an administrator's CREATE DATABASE … OWNER. Roles are not part of the backup: create them first; they
# get their grants back. Where another role owned the schema, what is made later is granted by `outcomes grant-service`.
#
# Exit status: 0 when every check passes, 1 when one fails (do not use the database then), 2 for wrong arguments.
set -eu

say() { printf '%s\n' "$*" >&2; }
refuse() { say "restore: $*"; exit 2; }
fail() { say "restore: $*"; exit 1; }

[ $# -eq 1 ] || refuse "name the backup: restore.sh FOLDER/outcomes-…"
folder=$1
[ -f "$folder/MANIFEST" ] || refuse "$folder/MANIFEST does not exist: not a complete backup"
[ -n "${OUTCOMES_DATABASE_URL:-}" ] || refuse "set OUTCOMES_DATABASE_URL to the new, empty database"
[ -n "${ERASURES:-}" ] || refuse "set ERASURES to the newest list of erasures, or to none if nobody was erased since the backup"
[ "$ERASURES" = none ] || [ -f "$ERASURES" ] || refuse "ERASURES: $ERASURES does not exist"
pg_restore=${PG_BIN:+$PG_BIN/}pg_restore
psql=${PG_BIN:+$PG_BIN/}psql
outcomes=${PROGRAM:-outcomes}
export OUTCOMES_LOG_LEVEL="${OUTCOMES_LOG_LEVEL:-error}"

ask() { "$psql" "$OUTCOMES_DATABASE_URL" -XAtq -v ON_ERROR_STOP=1 -c "$1"; }
manifest() { sed -n "s/^$1 //p" "$folder/MANIFEST"; }

[ "$(manifest format)" = 1 ] || refuse "$folder/MANIFEST has an unknown format"
sed -n 's/^sha256 \([0-9a-f]\{64\}\) \(.*\)$/\1  \2/p' "$folder/MANIFEST" | (cd "$folder" && sha256sum --check --strict --quiet) ||
    fail "a file of the backup has changed since it was written"
used=$(ask "SELECT count(*) FROM pg_class WHERE relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_|^information_schema$')") ||
    fail "the database does not answer"
[ "$used" = 0 ] || refuse "the database is not empty ($used tables, views and other objects): restore into a new one (createdb)"

for role in $(manifest roles); do
    [ "$(ask "SELECT count(*) FROM pg_roles WHERE rolname = '$role'")" = 1 ] ||
        refuse "the backup has grants for the role $role, which this server lacks: CREATE ROLE \"$role\" first"
done

say "restoring"
# The privileges of tables to come can only be set for oneself.
me=$(ask 'SELECT current_user')
list=$(mktemp)
trap 'rm -f "$list"' EXIT
"$pg_restore" --list "$folder/database.dump" |
    awk -v me=" $me" '/ DEFAULT ACL / && substr($0, length($0) - length(me) + 1) != me { print ";" $0; next } { print }' >"$list"
"$pg_restore" --exit-on-error --no-password --no-owner --jobs="${JOBS:-2}" --use-list="$list" --dbname="$OUTCOMES_DATABASE_URL" \
    "$folder/database.dump" || fail "pg_restore failed: drop the database and start again with a new one"
! grep -q '^;.* DEFAULT ACL ' "$list" ||
    say "another role owned the schema: when this is done, run outcomes grant-service and outcomes bi role for your roles"
[ "$(ask "SELECT coalesce(max(version), '') FROM schema_migrations")" = "$(manifest schema)" ] || fail "the schema differs from the manifest"
[ "$(ask 'SELECT count(*) FROM events')" = "$(manifest events)" ] || fail "the number of events differs from the manifest"
[ "$(ask 'SELECT coalesce(max(position), 0) FROM outcomes')" = "$(manifest feed_end)" ] || fail "the end of the feed differs from the manifest"
# Not the catalogs, which are not ours.
"$psql" "$OUTCOMES_DATABASE_URL" -XAtq -v ON_ERROR_STOP=1 <<'SQL' || fail "ANALYZE failed"
SELECT format('ANALYZE %I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^pg_|^information_schema$' \gexec
SQL

say "migrating the schema"
"$outcomes" migrate >&2 || fail "outcomes migrate failed"
say "restarting the feed after the last position that any reader has seen"
"$outcomes" restart-feed >&2 || fail "outcomes restart-feed failed"
if [ "$ERASURES" != none ]; then
    say "repeating erasures"
    "$outcomes" erasures repeat "$ERASURES" >&2 || fail "outcomes erasures repeat failed: people erased since the backup are in the database"
fi
say "repairing data of older versions"
"$outcomes" repair >&2 || fail "outcomes repair failed"
say "placing again the calls that an earlier version placed by phone"
"$outcomes" reattribute >&2 || fail "outcomes reattribute failed"
say "verifying"
"$outcomes" verify --full >&2 || fail "verify found differences"
echo "restored: $(manifest events) events, taken at $(manifest taken_at)"
