"""How a dialogue becomes text: which template, and what is done to dialogues that it does not take."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from tis_ray.section import Section

TemplateName = Literal["tulu", "chat", "chatml"]


class TemplateConfig(Section):
    """A chat template. A name alone is short for a section with nothing else."""

    name: TemplateName = "tulu"
    """`tulu` is the paper's template; `chat` is the tokenizer's own; `chatml` is for base models."""
    file: str | None = None
    """A file with a template in Jinja, for `chat`, in place of the tokenizer's own."""
    system: Literal["keep", "prepend", "drop"] = "keep"
    """System turns: kept, put before the next user turn's text, or dropped. For templates without them."""
    merge: bool = False
    """Join neighbouring turns of one role, with a blank line. For templates that refuse them."""
    kwargs: dict[str, Any] = {}
    """Arguments of the template, such as `enable_thinking: false`."""
    date: dt.date = dt.date(2024, 7, 26)
    """What a template that writes today's date is told: a real one would change the tokens every day."""

    @model_validator(mode="after")
    def _fits(self) -> TemplateConfig:
        if self.name != "chat" and self.file is not None:
            raise ValueError(f"`file` is of no use to `{self.name}`; use `name: chat`")
        if self.name != "chat" and self.kwargs:
            raise ValueError(f"`kwargs` are of no use to `{self.name}`; use `name: chat`")
        if taken := {"messages", "tools", "documents", "add_generation_prompt"} & set(self.kwargs):
            raise ValueError(f"kwargs: {min(taken)!r} is the dialogue's own; leave it out")
        return self

    @model_serializer(mode="wrap")
    def _short(self, whole: SerializerFunctionWrapHandler) -> Any:
        return self.name if self == TemplateConfig(name=self.name) else whole(self)


def as_template(value: object) -> object:
    """Return a template's name as the section it is short for."""
    return {"name": value} if isinstance(value, str) else value


TemplateChoice = Annotated[TemplateConfig, BeforeValidator(as_template)]
