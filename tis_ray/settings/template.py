"""How a dialogue becomes text: which template, and what is done to dialogues that it does not take."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from tis_ray.section import Section
from tis_ray.storage import location

TemplateName = Literal["tulu", "chat", "chatml"]


TAKEN = {
    *("self", "messages", "conversation", "tools", "documents", "chat_template"),
    *("add_generation_prompt", "continue_final_message", "sanitize_control_tokens"),
    *("tokenize", "tokenizer_kwargs", "padding", "truncation", "max_length"),
    *("return_tensors", "return_dict", "return_assistant_tokens_mask"),
}
"""What `transformers` takes for itself when it applies a template."""

NO_NAMES = {"and", "else", "for", "if", "in", "is", "not", "or", "none", "true", "false", "loop"}
"""Jinja's own words (with those that Python writes with a capital)."""


def _day_as_text(value: object) -> object:
    return (
        value.isoformat() if isinstance(value, dt.date) else value
    )  # YAML reads 2024-07-26 as one


def _whole_path(path: str) -> str:
    return location(path)  # workers have other working folders


class TemplateConfig(Section):
    """A chat template. A name alone is short for a section with nothing else."""

    name: TemplateName = "tulu"
    """`tulu` is the paper's template; `chat` is the tokenizer's own; `chatml` is for base models."""
    file: Annotated[str, AfterValidator(_whole_path)] | None = None
    """A file with a template in Jinja, for `chat`, in place of the tokenizer's own."""
    system: Literal["keep", "prepend", "drop"] = "keep"
    """System turns: kept, put before the next user turn's text, or dropped. For templates without them."""
    merge: bool = False
    """Join neighbouring turns of one role, with a blank line. For templates that refuse them."""
    kwargs: dict[str, Annotated[JsonValue, BeforeValidator(_day_as_text)]] = {}
    """Arguments of the template, such as `enable_thinking: false`."""
    date: dt.date = dt.date(2024, 7, 26)
    """What a template that writes today's date is told: a real one would change the tokens every day."""

    @model_validator(mode="after")
    def _fits(self) -> TemplateConfig:
        if self.name != "chat" and self.file is not None:
            raise ValueError(f"`file` is of no use to `{self.name}`; use `name: chat`")
        if self.name != "chat" and self.kwargs:
            raise ValueError(f"`kwargs` are of no use to `{self.name}`; use `name: chat`")
        for name in self.kwargs:
            if name in TAKEN:
                raise ValueError(
                    f"kwargs: {name!r} is not the template's to be given; leave it out"
                )
            if not name.isidentifier() or name in NO_NAMES:
                raise ValueError(f"kwargs: {name!r} is no name that a template can use; rename it")
        return self

    @model_serializer(mode="wrap")
    def _short(self, whole: SerializerFunctionWrapHandler) -> Any:
        return self.name if self == TemplateConfig(name=self.name) else whole(self)


def as_template(value: object) -> object:
    """Return a template's name as the section it is short for."""
    return {"name": value} if isinstance(value, str) else value


TemplateChoice = Annotated[TemplateConfig, BeforeValidator(as_template)]
