"""What a caller asks for with an upload, and what came of one."""

import hashlib
from pathlib import Path

import msgspec

from service.uploads.report import Duplicates


class UploadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An upload as asked for. ``path`` is the file as received, ``file_digest`` its SHA-256."""

    agent_id: int
    name: str
    file_name: str
    path: Path
    file_digest: bytes
    duplicates: Duplicates = "reject"
    accept_columns: bool = False
    force: bool = False
    idempotency_key: str | None = None
    test_recipients: int = 0
    promote_at_success_rate: float | None = None

    def digest(self) -> bytes:
        """Of everything that makes it the same request or another."""
        asked = (
            self.agent_id,
            self.name,
            self.file_digest.hex(),
            self.duplicates,
            self.accept_columns,
            self.force,
            self.test_recipients,
            self.promote_at_success_rate,
        )
        return hashlib.sha256(msgspec.json.encode(asked)).digest()
