"""The twelve figures of ``GET /v1/batch-calls/{id}/metrics``. They count recipients, not attempts."""

from service.sandbox.records import Batch


def read_figures(batch: Batch) -> dict[str, int | float]:
    """The figures as of now; at any instant processed + in progress + waiting for a retry = all recipients.

    A recipient that nobody has called yet is in progress, and so is one whose retry is being dialled: there is no
    other figure for it. ``telephony_failed`` has none of its own either and is counted in ``failed_count``.
    """
    finished = batch.finished
    completed = finished["completed"]
    return {
        "avg_duration_seconds": round(batch.talk_seconds / completed, 1) if completed else 0.0,
        "busy_count": finished["busy"],
        "completed_count": completed,
        "failed_count": finished["failed"] + finished["telephony_failed"],
        "in_progress_count": batch.total - batch.processed - batch.pending_retry,
        "no_answer_count": finished["no_answer"],
        "pending_retry_count": batch.pending_retry,
        "socket_failure_count": finished["socket_failure"],
        "success_count": completed,
        "success_rate": round(100 * completed / batch.total, 1),
        "total_processed": batch.processed,
        "unreachable_count": finished["unreachable"],
    }
