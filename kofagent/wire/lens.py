"""Lenses: further descriptors of a message we know, in which what is not read is declared as `bytes`.

upb (protobuf's C core) then walks the outer levels in C and hands the inner messages over as they are; fields that a lens
does not declare are kept as unknown fields and written back by `SerializeToString`, so a message edited through a lens
loses nothing. `optional` keeps an empty message apart from an absent one.

A lens is declared where it is used, with the fields that are read there: every further one would cost time at each message.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_TYPES = {
    "double": 1,
    "int64": 3,
    "uint64": 4,
    "int32": 5,
    "fixed64": 6,
    "fixed32": 7,
    "bool": 8,
    "bytes": 12,
    "uint32": 13,
    "sfixed64": 16,
    "sint32": 17,
}


def lenses(
    package: str, messages: dict[str, dict[str, tuple[int, str]]], oneofs: dict[str, dict[str, list[str]]] | None = None
) -> dict[str, Any]:
    """Message classes by name, in a separate pool.

    `messages[message][field] = (number, type)`; the type is a scalar type of protobuf or the name of another message of the
    call, with `*` in front for a repeated field. `oneofs[message][oneof]` lists the fields of a oneof.
    """
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for name, declared in messages.items():
        message = file.message_type.add(name=name)
        groups: dict[str, int] = {}
        for i, (oneof, members) in enumerate((oneofs or {}).get(name, {}).items()):
            message.oneof_decl.add(name=oneof)
            groups.update(dict.fromkeys(members, i))
        for field, (number, type) in declared.items():
            descriptor = message.field.add(name=field, number=number, label=3 if type[0] == "*" else 1)
            type = type.lstrip("*")
            if type in _TYPES:
                descriptor.type = _TYPES[type]  # type: ignore[assignment]
                # as writers of proto3 have it; readers take both
                descriptor.options.packed = descriptor.label == 3 and type != "bytes"
            else:
                descriptor.type, descriptor.type_name = 11, f".{package}.{type}"  # type: ignore[assignment]
            if field in groups:
                descriptor.oneof_index = groups[field]
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def parse(lens: Any, data: bytes) -> Any:
    """The message of class `lens` in `data`; ValueError where it is malformed."""
    try:
        return lens.FromString(data)
    except DecodeError:
        raise ValueError("malformed protobuf message") from None
