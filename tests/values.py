"""How a value is written in a test file: one place, the same for every engine and every outside reader.

| value | text |
|---|---|
| NULL | `NULL` |
| the empty string | `(empty)` |
| boolean | `true`, `false` |
| integer, decimal | its digits, never an exponent |
| float | the shortest text that reads back as the same number; `NaN`, `Infinity`, `-Infinity`, `-0.0` |
| date | `1969-07-20` |
| timestamp | `1969-07-20 20:17:40` and, where there are any, `.000001` |
| timestamp with time zone | the same in UTC with `+00` behind it |
| bytes | `\\x` and hexadecimal digits |
| text | itself; backslash, tab, line feed, carriage return and NUL as `\\\\`, `\\t`, `\\n`, `\\r`, `\\0` |
"""

from __future__ import annotations

import datetime
import decimal
import math
import struct

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})


def text(value: object, single: bool = False) -> str:
    """The text of a value; `single` says that a float has 32 bits."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value, single)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, str):
        return value.translate(_ESCAPES) if value else "(empty)"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "\\x" + bytes(value).hex()
    if isinstance(value, datetime.datetime):
        return _timestamp(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise TypeError(f"no text is defined for {type(value).__name__}: {value!r}")


def _float(value: float, single: bool) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if not single:
        return repr(value)
    bits = struct.pack("<f", value)
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        try:
            if struct.pack("<f", short) == bits:
                return repr(short)
        except OverflowError:
            continue
    return repr(value)


def _timestamp(value: datetime.datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat(sep=" ")
    return value.astimezone(datetime.timezone.utc).replace(tzinfo=None).isoformat(sep=" ") + "+00"
