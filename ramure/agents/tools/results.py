"""What a handler returns, as the model gets it: a text, and images beside it. Pure."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Picture", "Result", "result_of"]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image for the model: ``data`` is base64."""

    mime_type: str
    data: str


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a call."""

    text: str
    pictures: tuple[Picture, ...] = ()

    @property
    def size(self) -> int:
        """Characters, the images' base64 included."""
        return len(self.text) + sum(len(picture.data) for picture in self.pictures)


_SIGNATURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def result_of(result: object) -> Result:
    """A handler's result: a text as it is, nothing as ``Done.``, the bytes of an image (PNG, JPEG, GIF, WebP) as that
    image, all else as JSON, and what has none as its repr. A list or tuple may have images in it."""
    if result is None:
        return Result("Done.")
    if isinstance(result, str):
        return Result(result)
    if (picture := _picture(result)) is not None:
        return Result(f"(1 image, {picture.mime_type})", (picture,))
    if type(result) in (list, tuple):
        parts: Any = result
        pictures = tuple(each for each in map(_picture, parts) if each is not None)
        if pictures:
            rest = [part for part in parts if _picture(part) is None]
            said = rest[0] if len(rest) == 1 and isinstance(rest[0], str) else _json(rest) if rest else ""
            return Result(said or f"({len(pictures)} images)", pictures)
    return Result(_json(result))


def _picture(value: object) -> Picture | None:
    if not isinstance(value, bytes):
        return None
    kind = next((kind for start, kind in _SIGNATURES if value.startswith(start)), None)
    if kind is None and value[:4] == b"RIFF" and value[8:12] == b"WEBP":
        kind = "image/webp"
    return None if kind is None else Picture(kind, base64.b64encode(value).decode())


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        pass
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        plain = to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="constants")
        return json.dumps(plain, ensure_ascii=False)
    except (PydanticSerializationError, TypeError, ValueError, RecursionError):
        return repr(value)
