"""Objects in JSON files, checked where they are read: their checksum, and the types of what is needed of them."""

import json
import zlib
from pathlib import Path
from typing import Any

import dacite

from backbone.files import replacing
from backbone.tensor_file import pass_on_lack_of_memory

CHECKSUM = "checksum"


def write_object(path: Path, data: dict[str, Any], **options: Any) -> None:
    """Write values by name, with their checksum, all or nothing.

    Args:
        path: the file.
        data: what JSON can hold.
        options: of `json.dumps`.
    """
    as_read = json.loads(json.dumps(data, **options))  # lists for tuples, texts for the numbers that are keys
    with replacing(path) as partial:
        text = json.dumps({**as_read, CHECKSUM: _checksum(as_read)}, **options)
        partial.write_text(text + "\n", encoding="utf-8")


def read_object(path: Path, shape: type, remedy: str) -> dict[str, Any]:
    """Read values by name; a checksum, if the file has one, is compared and left out.

    Args:
        path: the file.
        shape: a dataclass: which names there have to be, and of which types; others may be there, too.
        remedy: what can be done about a file that can't be used, for the message.

    Raises:
        ValueError: the file is damaged, or of another version; the message names it.
        OSError: it can't be read.
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
