"""A study's template for trainers: in Jinja, with marks around what is learnt. Needs no tokenizer."""

from __future__ import annotations

import json

from tis_ray.settings.template import TemplateConfig
from tis_ray.storage import Place, place

# As in the paper, the line break before the next turn is learnt as well.
_TULU = (
    "{% for m in messages %}{{ '<|' + ('system' if m['role'] == 'developer' else m['role']) + '|>\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'].strip() }}{{ eos_token }}"
    "{% if not loop.last %}{{ '\n' }}{% endif %}{% endgeneration %}"
    "{% if loop.last %}{{ '\n' }}{% endif %}"
    "{% else %}{{ m['content'].strip() }}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
_END = "<|im_end|>"
_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def trainer_template(template: TemplateConfig, model: Place) -> str | None:
    """Return what a trainer is to set as its tokenizer's chat template, so that it renders as the study does.

    None where that is the tokenizer's own, and for `chatml` with a model that is not in a folder here: the
    eos stands for its end mark where the tokenizer does not know it. The start token is the trainer's
    business.
    """
    if template.name == "tulu":
        return _TULU
    if template.name == "chatml":
        vocabulary = model / "tokenizer.json"
        if not vocabulary.is_file():
            return None
        known = json.dumps(_END) in vocabulary.read_text(encoding="utf-8")
        return _CHATML if known else _CHATML.replace(f"'{_END}'", "eos_token")
    return None if template.file is None else place(template.file).read_text(encoding="utf-8")
