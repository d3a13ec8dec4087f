"""JSON Schemas of the code's own types: msgspec's, with the strings below attributes as descriptions.

A field of ``msgspec.Raw`` passes JSON through; ``Annotated[msgspec.Raw, Meta(extra={"shape": T})]`` declares its shape.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, TypeAlias, get_args, get_origin, get_type_hints

import msgspec

Schema: TypeAlias = dict[str, Any]
REF = "#/components/schemas/{name}"


def describe_shapes(shapes: list[Any]) -> tuple[list[Schema], dict[str, Schema]]:
    """The schemas of ``shapes``, and by name the components that they refer to."""
    classes = _list_classes(shapes)
    passed = {(cls, field): shape for cls in classes for field, shape in _read_passed(cls).items()}
    classes += [cls for cls in _list_classes(list(passed.values())) if cls not in classes]
    every = [*shapes, *passed.values(), *classes]
    schemas, components = msgspec.json.schema_components(every, ref_template=REF)
    names = [schema["$ref"].rpartition("/")[2] for schema in schemas[-len(classes) :]] if classes else []
    named = {cls: components[name] for cls, name in zip(classes, names, strict=True)}
    for (cls, field), schema in zip(passed, schemas[len(shapes) :], strict=False):
        named[cls]["properties"][field] = dict(schema)
    for cls in classes:
        properties = named[cls]["properties"]
        for field, text in _read_attribute_docs(cls).items():
            if field in properties:
                properties[field]["description"] = text
    return _simplify(schemas[: len(shapes)]), {name: _simplify(components[name]) for name in sorted(components)}


def to_markdown(text: str) -> str:
    """A docstring as one line of Markdown."""
    return " ".join(text.split()).replace("``", "`")


def _list_classes(shapes: list[Any]) -> list[Any]:
    """The structs and typed dicts in some types, and in their fields."""
    found: dict[Any, None] = {}
    for info in msgspec.inspect.multi_type_info(shapes):
        found |= dict.fromkeys(_walk(info, set(found)))
    return list(found)


def _walk(info: Any, seen: set[Any]) -> Iterator[Any]:
    if isinstance(info, (msgspec.inspect.StructType, msgspec.inspect.TypedDictType)):
        if info.cls in seen:
            return
        seen.add(info.cls)
        yield info.cls
    inner = [getattr(info, name, None) for name in ("item_type", "key_type", "value_type", "type")]
    inner += [*getattr(info, "types", ()), *(field.type for field in getattr(info, "fields", ()))]
    for each in inner:
        if isinstance(each, msgspec.inspect.Type):
            yield from _walk(each, seen)


def _read_passed(cls: Any) -> dict[str, Any]:
    """The declared shapes of fields that pass JSON through, by field."""
    hints = get_type_hints(get_origin(cls) or cls, include_extras=True)
    metas = {name: get_args(hint)[1] for name, hint in hints.items() if get_origin(hint) is Annotated}
    return {name: meta.extra["shape"] for name, meta in metas.items() if isinstance(meta, msgspec.Meta) and meta.extra}


def _read_attribute_docs(cls: Any) -> dict[str, str]:
    """The strings below the attributes of a class and of its bases in this package, by attribute."""
    docs: dict[str, str] = {}
    for base in reversed(inspect.getmro(get_origin(cls) or cls)):
        if base.__module__.startswith("service."):
            docs |= _read_module_docs(base.__module__).get(base.__name__, {})
    return docs


@cache
def _read_module_docs(module: str) -> dict[str, dict[str, str]]:
    """The strings below attributes, by class of a module and attribute."""
    docs: dict[str, dict[str, str]] = {}
    for tree in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(tree, ast.ClassDef):
            docs[tree.name] = {
                ast.unparse(attribute.target): ast.literal_eval(text.value)
                for attribute, text in pairwise(tree.body)
                if isinstance(attribute, ast.AnnAssign) and isinstance(text, ast.Expr)
            }
    return docs


def _simplify(schema: Any) -> Any:
    """The schema with docstrings as Markdown, and with a choice between a type and null as a list of types."""
    if isinstance(schema, (list, tuple)):
        return [_simplify(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    simple = {name: _simplify(each) for name, each in schema.items()}
    if isinstance(simple.get("description"), str):
        simple["description"] = to_markdown(simple["description"])
    match simple.get("anyOf"):
        case [{"type": str(kind), **rest}, {"type": "null"}] if "enum" not in rest:
            del simple["anyOf"]
            simple |= {"type": [kind, "null"], **rest}
        case [{"enum": [*words], **rest}, {"type": "null"}]:
            del simple["anyOf"]
            simple |= rest | {"type": ["string", "null"], "enum": [*words, None]}
    return simple
