"""The CRM sync job: reads the feed over HTTP as a named consumer, and upserts recipients' outcomes into a CRM.

It is a client of the service: it needs the service's address and a key with the scope ``feed``, no database, and
imports nothing of the service but settings, errors and logs. What it promises:

- A position is acknowledged only after everything up to it is in the CRM or in the failures file (with ``fsync``), so a
  job that was killed repeats at most its last page, and upserts bear repeating.
- What was not confirmed was not sent: a record counts as sent only when the CRM's answer says so.
- Nobody is left out silently: each reason for not being sent is counted and shown, and a mapping that does not fit what
  there is stops the job before it begins.
"""
