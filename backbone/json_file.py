"""JSON files of named values, with a checksum; reading checks it, and the types of the values that are needed."""

import json
import zlib
from pathlib import Path
from typing import Any

import dacite

from backbone.files import atomic_path
from backbone.reading import pass_on_lack_of_memory

CHECKSUM = "checksum"


def write_object(path: Path, data: dict[str, Any], **options: Any) -> None:
    """Write named values and their checksum, atomically.

    Args:
        path: the file.
        data: the values, of types that JSON can hold.
        options: keyword arguments of `json.dumps`.
    """
    as_read = json.loads(json.dumps(data, **options))  # as JSON has it: lists for tuples, text keys for numbers
    with atomic_path(path) as partial:
        text = json.dumps({**as_read, CHECKSUM: _checksum(as_read)}, **options)
        partial.write_text(text + "\n", encoding="utf-8")


def read_object(path: Path, shape: type, remedy: str) -> dict[str, Any]:
    """Read named values; a checksum, if the file has one, is compared and not returned.

    Args:
        path: the file.
        shape: a dataclass with the names and types of the values that the file must have; it may have more.
        remedy: advice for the error message: what to do if the file can't be used.

    Raises:
        ValueError: the file is damaged, or of another version; the message names it.
        OSError: the file can't be read.
    """
    try:
        data = json.loads(content := path.read_bytes())
        if not isinstance(data, dict):
            raise TypeError(f"expected values by name, got a {type(data).__name__}")
        if (saved := data.pop(CHECKSUM, None)) is not None and saved != _checksum(data):
            raise ValueError(f"the checksum of its {len(content):,} bytes is wrong")
        dacite.from_dict(shape, data)
    except OSError:
        raise
    except Exception as error:  # of many types: JSON's parser and dacite on values of any type
        pass_on_lack_of_memory(error)
        raise ValueError(f"{path} is damaged, or of another version ({error}): {remedy}") from error
    return data


def _checksum(data: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(data, sort_keys=True).encode())
