"""What a study's template and tokenizer are, in words."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from tis_ray.config import Config
from tis_ray.data import end_marks
from tis_ray.data.chat import chat_template
from tis_ray.data.tulu import ASSISTANT_HEADER
from tis_ray.settings.template import TemplateConfig


def template_facts(config: Config, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, str]]:
    """Return what the template and the tokenizer are, name by name."""
    template = config.data.template
    marks = end_marks(tokenizer, template)
    ends = [repr(token) for token in tokenizer.convert_ids_to_tokens(marks.tokens)]
    for text in marks.texts:
        count = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        ends.append(f"{text!r} (not a token: written in {count})")
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return [
        ("model", config.model.name),
        ("tokenizer", f"{type(tokenizer).__name__}, {len(tokenizer):,} tokens"),
        (
            "special tokens",
            ", ".join(f"{name.removesuffix('_token')} {token}" for name, token in special.items()),
        ),
        ("template", _template(template)),
        ("generation prompt", repr(_generation_prompt(tokenizer, template))),
        ("end marks", ", ".join(ends)),
        ("max_length", f"{config.data.max_length:,} tokens"),
    ]


def _template(template: TemplateConfig) -> str:
    """Return which template it is, where it is from, and what is done to dialogues for it."""
    if template.name == "tulu":
        origin = "tulu, the paper's"
    elif template.name == "chatml":
        origin = "chatml"
    else:
        origin = f"chat, {'from ' + template.file if template.file else 'the one of the tokenizer'}"
    parts = [origin, *([f"system: {template.system}"] if template.system != "keep" else [])]
    parts += ["merge"] if template.merge else []
    if template.name == "chat":
        parts += [f"{name}: {value}" for name, value in template.kwargs.items()]
        parts.append(f"its date is {template.date}")
    return ", ".join(parts)


def _generation_prompt(tokenizer: PreTrainedTokenizerBase, template: TemplateConfig) -> str:
    if template.name == "tulu":
        return ASSISTANT_HEADER
    return chat_template(tokenizer, template).generation_prompt
