"""Downloads of lists as files, written for the person who looks at the list."""

from starlette.responses import Response

from service.console.visit import Visit

FORMATS = {"csv": "CSV", "xlsx": "Excel", "ndjson": "NDJSON", "parquet": "Parquet"}


async def download_table(visit: Visit, call: str, query: dict[str, str], **ids: str) -> Response:
    """The answer of an export in the format that the page's path ends in. Tables for people have results as columns,
    and times of the viewer's zone; days in the filters are always of that zone."""
    extension = visit.request.url.path.rpartition(".")[2]
    query = query | {"time_zone": visit.zone.key}
    if extension in {"csv", "xlsx"}:
        query |= {"results": "columns"}
    if extension == "csv":
        query |= {"bom": "true"}
    return await visit.call(call, query=query, format=extension, **ids)
