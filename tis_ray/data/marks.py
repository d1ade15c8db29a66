"""What a record says of itself as a whole: that nothing is to be learnt from it, or that it is not all text.

- `label` (TRL) or `kto_tag` (LLaMA-Factory) false: its answer is a bad one.
- `train` false or `weight` 0 beside a dialogue: it is not trained.
- `images` and their like: what it says stands in files that are not read.
"""

from __future__ import annotations

from tis_ray.data.rows import RejectReason, Side, UnusableError
from tis_ray.data.values import Fields

_GOOD = ("label", "kto_tag")
_TRAINED = ("train", "weight")
_MEDIA = ("image", "images", "video", "videos", "audio", "audios")
MARKS = (*_GOOD, *_TRAINED, *_MEDIA)

_FLAGS = {"true": True, "false": False}


def check_marks(fields: Fields, side: Side) -> None:
    """Raise UnusableError if a record says that it is not to be learnt, or cannot be by text alone."""
    check_media(fields, "")
    for name in _GOOD:
        if _flag(fields, name) is False:
            detail = (
                f"{name}: false, so the answer is a bad one; drop {name} if it means something else"
            )
            raise UnusableError(RejectReason.UNDESIRABLE, detail)
    for name in _TRAINED if side == "pool" else ():
        if _flag(fields, name) is False:
            detail = f"{name}: the row is not to be trained; drop {name} if it means something else"
            raise UnusableError(RejectReason.NOTHING_TRAINED, detail)


def check_media(fields: Fields, place: str) -> None:
    """Raise UnusableError if fields hold an image, a video or a sound."""
    for name in _MEDIA:
        if name not in fields:
            continue
        if fields.take(name) not in ("", [], (), {}):
            detail = f"{place}{name}: is not empty; only text can be used"
            raise UnusableError(RejectReason.NOT_TEXT, detail)


def _flag(fields: Fields, name: str) -> bool | None:
    """Return what a field says as true or false; None, and the field is left out, where it says neither."""
    if name not in fields:
        return None
    value = fields.take(name)
    if isinstance(value, str):
        value = _FLAGS.get(value.strip().lower())
    elif name == "weight" and not isinstance(value, bool) and value in (0, 1):
        value = bool(value)
    if isinstance(value, bool):
        return value
    fields.put_back(name)
    return None
