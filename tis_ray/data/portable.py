"""Templates as other programs are to use them: in Jinja, and with all that the study gave them.

`transformers` and vLLM give a template the dialogue and the special tokens, add nothing to its text,
and know the real date. So its arguments, its date, and the start token that a tokenizer puts before
texts of other templates than its own, are written into it.
"""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

from tis_ray.data.chat import Template, jinja_source, template_section
from tis_ray.data.places import special_around

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PARTS_OF_DAYS = "aAbBdHIjmMpSUwWyYxXc"
"""What a date can be written with, in `strftime`'s letters."""


def portable_source(tokenizer: PreTrainedTokenizerBase, template: Template) -> str | dict[str, str]:
    """Return a study's template for others; of a tokenizer with several, all of them by name."""
    template = template_section(template)
    source = jinja_source(tokenizer, template)
    given = "".join(f"{{%- set {k} = {_literal(v)} -%}}" for k, v in template.kwargs.items())
    if template.name != "chat":
        before, _ = special_around(tokenizer)
        start = "".join(tokenizer.convert_ids_to_tokens(before))
        return f"{{{{- {_literal(start)} -}}}}{source}" if start else source
    own = tokenizer.chat_template
    if template.file is None and isinstance(own, dict):
        return {name: _dated(given + each, template.date) for name, each in own.items()}
    return _dated(given + source, template.date)


def _dated(source: str, day: date) -> str:
    """Return a template that writes this day wherever it writes today's."""
    if "strftime_now" not in source:
        return source
    letters = [mark + letter for mark in ("%-", "%") for letter in PARTS_OF_DAYS]
    parts = "".join(f" | replace('{part}', {_literal(day.strftime(part))})" for part in letters)
    return f"{{%- macro strftime_now(form) -%}}{{{{ form{parts} }}}}{{%- endmacro -%}}{source}"


def _literal(value: Any) -> str:
    """Return JSON data as Jinja writes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
