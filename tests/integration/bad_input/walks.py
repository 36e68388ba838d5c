"""Walks over the descriptors of requests, nested messages too, and changes of a message by a field's path."""

import re
from collections.abc import Iterator
from typing import Any, cast

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

LAST = "[1]"
"""Which item of a list walks go into: the second and last one of valid requests."""
REQUIRED_ELSEWHERE = {
    "google.type.Money.currency_code",
    "google.type.PostalAddress.region_code",
    "google.type.PostalAddress.address_lines",
}
"""What our comments require of messages that are not ours."""


def fields_of(descriptor: Descriptor, prefix: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """Go through the fields of a message and of the messages inside, each with its path."""
    for field in descriptor.fields:
        path = prefix + field.name
        yield path, field
        if field.message_type is not None:
            yield from fields_of(field.message_type, f"{path}{LAST if field.is_repeated else ''}.")


def required_paths(descriptor: Descriptor) -> list[str]:
    """Return the paths of all fields that are required."""
    return [path for path, field in fields_of(descriptor) if _required(field)]


def _required(field: FieldDescriptor) -> bool:
    behaviour: Any = field_behavior_pb2.field_behavior
    return (
        field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[behaviour] or field.full_name in REQUIRED_ELSEWHERE
    )


def descriptor_of(message: Message) -> Descriptor:
    """Return what a message is made of, in the type that the stubs have for it elsewhere."""
    return cast("Descriptor", message.DESCRIPTOR)


def owner_of(message: Message, path: str) -> tuple[Any, str]:
    """Return the message, inside a message, that has the field of a path, and the field's name."""
    *steps, name = path.split(".")
    owner: Any = message
    for step in steps:
        found = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", step)
        assert found is not None, path
        owner = getattr(owner, found[1])
        if found[2] is not None:
            owner = owner[int(found[2])]
    return owner, name


def clear(message: Message, path: str) -> None:
    """Clear the field of a path."""
    owner, name = owner_of(message, path)
    owner.ClearField(name)


def is_set(message: Message, path: str) -> bool:
    """Tell whether the field of a path has a value."""
    owner, name = owner_of(message, path)
    return name in {field.name for field, _ in owner.ListFields()}


def change(message: Message, path: str, value: Any) -> None:  # noqa: ANN401 - each field has a type of its own.
    """Give the field of a path, a list's item too, another value."""
    owner, name = owner_of(message, path)
    if name.endswith("]"):
        name, _, index = name[:-1].partition("[")
        getattr(owner, name)[int(index)] = value
    elif isinstance(value, Message):
        getattr(owner, name).CopyFrom(value)
    else:
        setattr(owner, name, value)


def leaves(message: Message) -> Iterator[tuple[str, FieldDescriptor]]:
    """Go through the fields of plain values, those that are not set too; of a list that has items, through the last.

    Lists without items are left out.
    """
    for path, field in fields_of(descriptor_of(message)):
        if field.message_type is not None:
            continue
        if not field.is_repeated:
            yield path, field
            continue
        owner, name = owner_of(message, path)
        if getattr(owner, name):
            yield f"{path}[{len(getattr(owner, name)) - 1}]", field


def misread(message: Message, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """Go through the fields, each with bytes that give it a wrong wire type when they stand behind the message."""
    for field in descriptor_of(message).fields:
        path = prefix + field.name
        yield path, _with_wrong_wire_type(field)
        if field.message_type is None:
            continue
        items = getattr(message, field.name)
        inner, place = (items[0], f"[{len(items)}]") if field.is_repeated else (items, "")
        for inner_path, data in misread(inner, f"{path}{place}."):
            yield inner_path, _varint(field.number << 3 | 2) + _varint(len(data)) + data


def _with_wrong_wire_type(field: FieldDescriptor) -> bytes:
    """Write a text, bytes or message as a varint, and a number as four bytes."""
    if field.message_type is not None or field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}:
        return _varint(field.number << 3) + b"\x07"
    return _varint(field.number << 3 | 5) + b"\0" * 4


def _varint(number: int) -> bytes:
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])
