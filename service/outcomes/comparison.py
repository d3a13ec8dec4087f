"""Compares two sides: each figure with its sample, the interval of the difference, and a verdict. ``sides`` finds their
batches, ``comparison_figures`` compares the counts."""

from collections.abc import Sequence
from typing import Any

import msgspec

from service import wording
from service.errors import InvalidRequestError
from service.formant.events import STATUSES
from service.outcomes.comparison_figures import Share, compare_figures, compare_share, conclude
from service.outcomes.comparison_shapes import Compared, ComparedSide, Comparison, ComparisonNote
from service.outcomes.figures import describe_recipients
from service.outcomes.inference import CONFIDENCE_PERCENT, FALSE_DISCOVERY_PERCENT
from service.outcomes.sides import SideQuery, find_batches
from service.outcomes.slices import RESULT_PREFIX
from service.outcomes.summary import MAX_RESULT_NAMES, MAX_RESULT_VALUES
from service.store.database import Connection, Database

CALLER_NUMBERS = "caller_numbers"
SHOWN_BATCHES = 50


class Comparer:
    """Compares sides in one snapshot."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def compare(self, left: SideQuery, right: SideQuery, by: str | None, time_zone: str) -> Comparison:
        """Two sides; ``by`` is ``caller_numbers`` or ``results.NAME``.

        Raises NotFoundError for an unknown batch or campaign, and InvalidRequestError for sides with a batch in common,
        too many batches, and an unknown ``by``.
        """
        queries = self._database.queries
        async with self._database.snapshot() as connection:
            left_keys = await find_batches(queries, connection, "left", left)
            right_keys = await find_batches(queries, connection, "right", right)
            await self._refuse_common(connection, left_keys, right_keys)
            totals = await self._read_results(connection, left_keys, right_keys)
            values = await self._compare_values(connection, left_keys, right_keys, by, totals)
            rows = [await queries.sum_batches(connection, batch_keys=keys) for keys in (left_keys, right_keys)]
            ids = [
                [row["batch_id"] async for row in queries.list_batch_ids(connection, batch_keys=keys)]
                for keys in (left_keys, right_keys)
            ]
        sides = [
            _show_side(side, row, batch_ids) for side, row, batch_ids in zip((left, right), rows, ids, strict=True)
        ]
        figures = compare_figures(rows[0], rows[1])
        if text := wording.NO_BATCHES_ON.get((not left_keys, not right_keys)):
            figures = [row | {"verdict_text": text} for row in figures]
        return {
            "left": sides[0],
            "right": sides[1],
            "as_of": rows[1]["as_of"],
            "time_zone": time_zone,
            "confidence_percent": CONFIDENCE_PERCENT,
            "correction": {"method": "benjamini_hochberg", "false_discovery_percent": FALSE_DISCOVERY_PERCENT},
            "figures": figures,
            "by": by,
            "values": values,
            "results": list(totals),
            "notes": _list_notes(rows, sides, by),
        }

    async def _refuse_common(self, connection: Connection, left_keys: list[int], right_keys: list[int]) -> None:
        """A batch on both sides would be compared with itself, and the sides would not be independent."""
        if common := sorted(set(left_keys) & set(right_keys)):
            found = self._database.queries.list_batch_ids(connection, batch_keys=common[:1])
            ids = [row["batch_id"] async for row in found]
            raise InvalidRequestError(f"left, right: both have batch {ids[0]}; compare sides without a batch in common")

    async def _read_results(
        self, connection: Connection, left_keys: list[int], right_keys: list[int]
    ) -> dict[str, tuple[int, int]]:
        """By result, how many recipients of each side have one."""
        found = self._database.queries.list_compared_results(
            connection, left_keys=left_keys, right_keys=right_keys, names=MAX_RESULT_NAMES
        )
        return {row["name"]: (row["left_total"], row["right_total"]) async for row in found}

    async def _compare_values(
        self,
        connection: Connection,
        left_keys: list[int],
        right_keys: list[int],
        by: str | None,
        totals: dict[str, tuple[int, int]],
    ) -> list[Compared] | None:
        if by is None:
            return None
        queries, asked = self._database.queries, {"left_keys": left_keys, "right_keys": right_keys}
        if by == CALLER_NUMBERS:
            found = queries.compare_callers(connection, **asked, values=MAX_RESULT_VALUES)
            return conclude([
                compare_share(
                    row["value"],
                    Share(row["left_count"], row["left_total"], "attempts"),
                    Share(row["right_count"], row["right_total"], "attempts"),
                )
                async for row in found
            ])  # fmt: skip
        name = by.removeprefix(RESULT_PREFIX)
        if not by.startswith(RESULT_PREFIX) or name not in totals:
            known = [CALLER_NUMBERS, *(f"{RESULT_PREFIX}{one}" for one in totals)]
            raise InvalidRequestError(f"by: takes one of {', '.join(known)}")
        found = queries.compare_result_values(connection, **asked, name=name, values=MAX_RESULT_VALUES)
        left_total, right_total = totals[name]
        return conclude([
            compare_share(
                row["value"], Share(row["left_count"], left_total, by), Share(row["right_count"], right_total, by)
            )
            async for row in found
        ])  # fmt: skip


def _show_side(side: SideQuery, row: Any, batch_ids: list[int]) -> ComparedSide:
    states: dict[str, int] = msgspec.json.decode(row["states"])
    verdicts: dict[str, int] = msgspec.json.decode(row["verdicts"])
    processed = sum(states.get(status, 0) for status in STATUSES)
    waiting = states.get("pending_retry", 0)
    return {
        "side": side.text,
        "batches": row["batches"],
        "batch_ids": batch_ids[:SHOWN_BATCHES],
        "verdicts": verdicts,
        "is_final": set(verdicts) == {"complete"},
        "first_created_at": row["first_created_at"],
        "last_created_at": row["last_created_at"],
        "last_event_at": row["last_event_at"],
        "recipients": describe_recipients(
            row["total"], processed, in_progress=max(0, row["total"] - processed - waiting), pending_retry=waiting
        ),  # type: ignore[typeddict-item]
    }


def _list_notes(rows: Sequence[Any], sides: Sequence[ComparedSide], by: str | None) -> list[ComparisonNote]:
    found: list[tuple[str, str | None]] = []
    for name, row, side in zip(("left", "right"), rows, sides, strict=True):
        if not side["batches"]:
            found.append(("no_batches", name))
        elif not side["is_final"]:
            found.append(("not_final", name))
        if row["goal_counting"]:
            found.append(("goal_being_counted", name))
        if by == CALLER_NUMBERS and row["is_counting_calls"]:
            found.append(("callers_being_counted", name))
    if len({*rows[0]["goals"], *rows[1]["goals"]}) > 1:
        found.append(("different_goals", None))
    return [{"code": code, "side": side, "text": wording.describe_note(code, side)} for code, side in found]
