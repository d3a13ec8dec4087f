"""The CRM sync job: reads the feed over HTTP as a named consumer, and upserts recipients' outcomes into a CRM.

It is a client of the service: it needs the service's address and a key with the scope ``feed``, no database, and
imports nothing of the service but settings, errors and logs. What it promises:

- A position is acknowledged only after everything up to it is in the CRM or in the failures file (with ``fsync``), so a
  killed job repeats at most its last page, and upserts can be repeated.
- A record counts as sent only when the CRM's answer confirms it.
- No recipient is left out silently: every reason for not sending is counted and printed, and a mapping that does not
  match the recipients' fields stops the job before it starts.
"""
