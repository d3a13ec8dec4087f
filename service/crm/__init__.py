"""The CRM sync job: reads the feed over HTTP as a named consumer, and upserts recipients' outcomes into a CRM.

It is a client of the service: it needs the service's address and a key with the scope ``feed``, no database, and
imports nothing of the service but settings, errors and logs. What it promises:

- A position is acknowledged only after everything up to it is in the CRM or in the failures file (with ``fsync``), so a
  job that was killed repeats at most its last page, and upserts bear repeating.
- Nobody is left out silently: who is not sent is counted by reason and told.
"""
