#!/bin/sh
# Restores a backup of backup.sh into an empty database, and does not end well before it is what the manifest says.
#
#   OUTCOMES_DATABASE_URL=postgresql://…/NEW ERASURES=LIST restore.sh FOLDER/outcomes-…
#
# ERASURES=… the newest list of who was erased (`outcomes erasures list`): whoever was erased after the backup stands in it,
#            would be back, and is erased again. ERASURES=none: nobody was.
# PG_BIN=… the folder of pg_restore and psql         PROGRAM=… the program `outcomes`, of this or a newer version
# JOBS=2   how many tables are restored at once
#
# Run it as the owner of the schema, under the name that it had, with no service on the new database yet. Roles that read and
# serve belong to the server and not to the backup: they have to be there, and get back what they were granted.
#
# Ends with 0 when all of it holds, 1 when something does not (do not use the database then), 2 when it was asked wrong.
set -eu

say() { printf '%s\n' "$*" >&2; }
refuse() { say "restore: $*"; exit 2; }
fail() { say "restore: $*"; exit 1; }

[ $# -eq 1 ] || refuse "say which backup: restore.sh FOLDER/outcomes-…"
folder=$1
[ -f "$folder/MANIFEST" ] || refuse "$folder/MANIFEST is not there: not a whole backup"
[ -n "${OUTCOMES_DATABASE_URL:-}" ] || refuse "set OUTCOMES_DATABASE_URL to the new, empty database"
[ -n "${ERASURES:-}" ] || refuse "set ERASURES to the newest list of who was erased, or to none if nobody was since the backup"
[ "$ERASURES" = none ] || [ -f "$ERASURES" ] || refuse "ERASURES: $ERASURES is not there"
pg_restore=${PG_BIN:+$PG_BIN/}pg_restore
psql=${PG_BIN:+$PG_BIN/}psql
outcomes=${PROGRAM:-outcomes}
export OUTCOMES_LOG_LEVEL="${OUTCOMES_LOG_LEVEL:-error}"

ask() { "$psql" "$OUTCOMES_DATABASE_URL" -XAtq -v ON_ERROR_STOP=1 -c "$1"; }
told() { sed -n "s/^$1 //p" "$folder/MANIFEST"; }

[ "$(told format)" = 1 ] || refuse "$folder/MANIFEST is not of a kind that is known here"
sed -n 's/^sha256 \([0-9a-f]\{64\}\) \(.*\)$/\1  \2/p' "$folder/MANIFEST" | (cd "$folder" && sha256sum --check --strict --quiet) ||
    fail "a file of the backup is not as it was written"
used=$(ask "SELECT count(*) FROM pg_class WHERE relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_|^information_schema$')") ||
    fail "the database does not answer"
[ "$used" = 0 ] || refuse "the database is not empty ($used tables, views and the like): restore into a new one (createdb)"

for role in $(told roles); do
    [ "$(ask "SELECT count(*) FROM pg_roles WHERE rolname = '$role'")" = 1 ] ||
        refuse "the backup has grants for the role $role, which this server lacks: CREATE ROLE \"$role\" first"
done

say "restoring"
"$pg_restore" --exit-on-error --no-password --no-owner --jobs="${JOBS:-2}" --dbname="$OUTCOMES_DATABASE_URL" "$folder/database.dump" ||
    fail "pg_restore failed: drop the database, and begin again with a new one"
[ "$(ask "SELECT coalesce(max(version), '') FROM schema_migrations")" = "$(told schema)" ] || fail "the schema is not the one of the manifest"
[ "$(ask 'SELECT count(*) FROM events')" = "$(told events)" ] || fail "the number of events is not that of the manifest"
[ "$(ask 'SELECT coalesce(max(position), 0) FROM outcomes')" = "$(told feed_end)" ] || fail "the feed does not end where the manifest says"
ask 'ANALYZE'

say "bringing the schema up to this version"
"$outcomes" migrate >&2 || fail "the schema could not be brought up to this version"
say "letting the feed go on beyond what anybody has read"
"$outcomes" restart-feed >&2 || fail "the feed could not be restarted"
if [ "$ERASURES" != none ]; then
    say "erasing again"
    "$outcomes" erasures repeat "$ERASURES" >&2 || fail "who was erased since the backup is not erased again"
fi
say "repairing what older versions stored as it came"
"$outcomes" repair >&2 || fail "what is stored could not be repaired"
say "placing again what an earlier version placed by phone"
"$outcomes" reattribute >&2 || fail "outcomes reattribute failed"
say "verifying"
"$outcomes" verify >&2 || fail "verify found differences"
echo "restored: $(told events) events, taken at $(told taken_at)"
