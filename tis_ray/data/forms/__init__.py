"""Rows in the forms that trainers read: one file a trainer, each a pure function from a row.

A form says what is trained of a row, or it is not the row's form: `UnsaidError` says why. Nothing is ever
trained that the row takes out of training (`weight: 0`, `train: false`, `train_on: last`).
"""

from tis_ray.data.forms import axolotl, llamafactory, messages, trl
from tis_ray.data.forms.form import Form, Formed, Setting, UnsaidError, formed

FORMS: dict[str, Form] = {
    form.name: form for form in (messages.FORM, trl.FORM, axolotl.FORM, llamafactory.FORM)
}

__all__ = ["FORMS", "Form", "Formed", "Setting", "UnsaidError", "formed"]
