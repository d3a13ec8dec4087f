"""Checks a large contacts file: rows per second, and the peak memory of the checking process."""

import asyncio
import resource
import tempfile
import time
from pathlib import Path

from service.uploads.contacts import check_contacts
from service.uploads.report import ContactsOptions, Part


def run_contacts(rows: int = 500_000) -> None:
    """Prints the figures for one file of ``rows`` recipients with five columns."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "contacts.csv")
        with path.open("w") as file:
            file.write("customer_phone,customer_name,loan_id,amount,city\n")
            file.writelines(f"+9198{n:08},Customer {n},LN-{n},{n % 9999}.50,Pune\n" for n in range(rows))
        part = Part(batch_key=1, ref_token="t", upload_path=f"{folder}/upload.csv", copy_path=f"{folder}/copy.csv")
        begun = time.monotonic()
        report = asyncio.run(check_contacts(path, ContactsOptions(ref_column="outcome_ref"), (part,)))
        seconds = time.monotonic() - begun
    assert (report.recipients, report.error_count) == (rows, 0)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"Contacts: {rows:,} rows checked and written at {rows / seconds:,.0f} rows/s, peak {peak:.0f} MiB")


if __name__ == "__main__":
    run_contacts()
