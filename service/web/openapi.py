"""The OpenAPI 3.1 document of this service, made from its operations: see ``operations`` and ``parameters``."""

import re
from collections.abc import Iterable
from typing import Any, get_args

from service.errors import (
    ApiError,
    AuthenticationError,
    BodyTooLargeError,
    InvalidRequestError,
    PermissionDeniedError,
    ProviderError,
    UnavailableError,
)
from service.web.operations import RETRY_AFTER, Answer, File, Form, Json, Operation
from service.web.parameters import Parameter, Schema
from service.web.problems import Error
from service.web.schemas import describe_shapes, to_markdown
from service.web.scopes import Scope

JSON = "application/json"
PROVIDER_STATUSES = {
    400: "The provider refused it and says why; its other 4xx answers are passed on too",
    404: "The provider does not know it",
    429: "The provider's rate limit",
    502: "The provider cannot be reached, refuses our key, or fails",
    504: "Sent, but the provider's answer was lost. The service searches for the batch: see `GET /v1/uploads`",
}
HEADERS = {401: ("WWW-Authenticate", "`Bearer`"), 429: RETRY_AFTER, 503: RETRY_AFTER}
INTRODUCTION = """\
Receives a voice-AI provider's webhooks and returns exact outcomes per batch. The provider's own four calls keep its
paths, shapes and limits, and ignore unknown parameters; every other call refuses them. The figures of a batch are final
once its `verdict` is `complete`. Errors always have the shape `Error` and say what to do. Each answer carries the id of
its request in `X-Request-Id`: quote it when you report a problem."""
SECURITY = {
    "type": "http",
    "scheme": "bearer",
    "description": f"An API key with the scope that the operation names: {', '.join(get_args(Scope))}.",
}


def build_document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """The document as a JSON object."""
    operations = list(operations)
    shapes, components = _describe_all(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = {"operationId": _name(operation, operations)} | _describe_operation(operation, shapes)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    tags = dict.fromkeys(operation.tag for operation in operations)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Outcomes",
            "version": version,
            "summary": "Exact outcomes of a voice-AI provider's batches",
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in tags],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"key": SECURITY}},
    }


def _describe_all(operations: list[Operation]) -> tuple[dict[Any, Schema], dict[str, Schema]]:
    """The schemas of all types that the operations name, and the components that they refer to."""
    shapes: list[Any] = [Error]
    for operation in operations:
        bodies = [body.shape for body in operation.bodies if isinstance(body, Json)]
        answers = [answer.shape for answer in operation.answers if answer.shape is not None]
        shapes += [shape for shape in (*bodies, *answers) if shape not in shapes]
    schemas, components = describe_shapes(shapes)
    return dict(zip(shapes, schemas, strict=True)), components


def _describe_operation(operation: Operation, shapes: dict[Any, Schema]) -> dict[str, Any]:
    text = to_markdown(operation.handler.__doc__ or "")
    scope = f"a key with the scope `{operation.scope}`" if operation.scope else "no key"
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": text.partition(". ")[0].rstrip("."),
        "description": f"{text}\n\nNeeds {scope}.",
    }
    if operation.parameters:
        described["parameters"] = [_describe_parameter(parameter) for parameter in operation.parameters]
    if operation.bodies:
        described["requestBody"] = _describe_bodies(operation.bodies, shapes)
    described["responses"] = _describe_answers(operation, shapes)
    described["security"] = [{"key": []}] if operation.scope else []
    if operation.scope:
        described["x-required-scope"] = operation.scope
    return described


def _name(operation: Operation, operations: list[Operation]) -> str:
    """Such as ``uploads-list``: class and handler, and the path's parameters where paths share a handler."""
    group, _, handler = operation.handler.__qualname__.rpartition(".")
    is_shared = sum(other.handler == operation.handler for other in operations) > 1
    parts = [group, handler.strip("_"), *(re.findall(r"{(\w+)}", operation.path) if is_shared else ())]
    return "-".join(parts).lower().replace("_", "-")


def _describe_parameter(parameter: Parameter[Any, Any]) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.is_required,
        "description": parameter.description,
        "schema": parameter.schema,
        **({} if parameter.is_exploded is None else {"style": "form", "explode": parameter.is_exploded}),
    }


def _describe_bodies(bodies: tuple[Form | File | Json, ...], shapes: dict[Any, Schema]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    text = ""
    for body in bodies:
        match body:
            case Form(fields, needed):
                properties = {field.name: field.schema | {"description": field.description} for field in fields}
                # Generators of clients know a file by its format, which JSON Schema lacks.
                file = {
                    "type": "string", "format": "binary", "contentMediaType": "text/csv", "description": "The CSV",
                }  # fmt: skip
                content["multipart/form-data"] = {
                    "schema": {
                        "type": "object",
                        "properties": {**properties, "file": file},
                        "required": [*(field.name for field in needed), "file"],
                    },
                    "encoding": {"file": {"contentType": "text/csv"}},
                }
            case File(description):
                content["text/csv"] = {"schema": {"type": "string", "format": "binary", "description": description}}
            case Json(shape, description):
                content[JSON] = {"schema": shapes[shape]}
                text = description
    return {"required": True, "content": content} | ({"description": text} if text else {})


def _describe_answers(operation: Operation, shapes: dict[Any, Schema]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for answer in operation.answers:
        _add_answer(described, answer, shapes)
    for status, text in _list_errors(operation).items():
        if str(status) not in described:
            headers = [HEADERS[status]] if status in HEADERS and (operation.scope or status != 401) else []
            _add_answer(described, Answer(Error, text, status, headers=tuple(headers)), shapes)
    return dict(sorted(described.items()))


def _add_answer(described: dict[str, Any], answer: Answer, shapes: dict[Any, Schema]) -> None:
    """Adds an answer to those that have the same status."""
    known = described.setdefault(str(answer.status), {"description": answer.description})
    if known["description"] != answer.description:
        known["description"] += f". {answer.description}"
    for name, text in answer.headers:
        known.setdefault("headers", {})[name] = {"description": text, "schema": {"type": "string"}}
    if answer.shape is None:
        return
    content, schema = known.setdefault("content", {}), shapes[answer.shape]
    before = content.get(answer.media_type, {}).get("schema")
    content[answer.media_type] = {"schema": {"anyOf": [before, schema]} if before else schema}


def _list_errors(operation: Operation) -> dict[int, str]:
    """What may go wrong, by status: what follows from the operation's parameters, and what it declares itself."""
    kinds: list[type[ApiError]] = []
    if operation.scope is not None:
        kinds += [AuthenticationError, PermissionDeniedError, UnavailableError]
    if not operation.is_tolerant or operation.list_query():
        kinds.append(InvalidRequestError)
    if operation.bodies:
        kinds += [InvalidRequestError, BodyTooLargeError]
    kinds += [parameter.refusal for parameter in operation.parameters if parameter.refusal is not None]
    texts: dict[int, list[str]] = {}
    for kind in dict.fromkeys([*kinds, *operation.errors]):
        if kind is ProviderError:
            for status, text in PROVIDER_STATUSES.items():
                texts.setdefault(status, []).append(text)
        else:
            texts.setdefault(kind.status, []).append(_read_meaning(kind))
    if operation.scope is not None:
        texts[500] = ["The service failed to answer; a read may be repeated"]
    return {status: ". ".join(dict.fromkeys(lines)) for status, lines in texts.items()}


def _read_meaning(kind: type[ApiError]) -> str:
    """The error's docstring without its status."""
    text = re.sub(r"^\d{3}: ", "", to_markdown(kind.__doc__ or "")).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}"
