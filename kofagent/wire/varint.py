"""Varints, tags and length-delimited fields of the protobuf wire format (protobuf.dev/programming-guides/encoding)."""

_ONE_BYTE = [bytes([i]) for i in range(128)]


def varint(value: int) -> bytes:
    """The varint of `value`, 0 <= value < 2**64."""
    if value < 128:
        return _ONE_BYTE[value]
    out = bytearray()
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The varint at `at` and the offset behind it. ValueError where it is cut off or longer than ten bytes."""
    shift = value = 0
    try:
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 128:
                return value & 0xFFFFFFFFFFFFFFFF, at
            shift += 7
            if shift > 63:
                raise ValueError("varint of more than ten bytes")
    except IndexError:
        raise ValueError("varint cut off") from None


def length_delimited(field: int, payload: bytes) -> bytes:
    """Field number `field` of wire type 2 with this payload."""
    return varint(field << 3 | 2) + varint(len(payload)) + payload
