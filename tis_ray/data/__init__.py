"""Rows of training data: reading, checking and encoding them, and finding overlaps between them."""

from tis_ray.data.chat import (
    CHATML_JINJA,
    Encoded,
    EncodedRow,
    EndMarks,
    PromptTemplate,
    Template,
    count_response_tokens,
    encode_dialogue,
    encode_messages,
    encode_prompt,
    end_marks,
    end_tokens,
    jinja_source,
    plain_text,
    template_identity,
)
from tis_ray.data.checking import checked_rows, sample_rows
from tis_ray.data.originals import Originals, original_records, original_rows
from tis_ray.data.portable import portable_source
from tis_ray.data.queries import (
    encode_query,
    encode_query_dialogue,
    encode_query_row,
    encode_row,
    query_text,
)
from tis_ray.data.rendering import TemplateError
from tis_ray.data.rows import (
    FunctionCall,
    Message,
    Record,
    Rejected,
    RejectReason,
    Row,
    StoredRow,
    ToolCall,
    UnusableError,
    content_id,
)
from tis_ray.data.shown_text import dialogue_text
from tis_ray.data.sources import (
    content_fingerprint,
    described,
    files_by_kind,
    read_records,
    read_rows,
)
from tis_ray.data.token_counts import TokenCounts
from tis_ray.data.tulu import TULU_JINJA, format_tulu

__all__ = [
    "CHATML_JINJA",
    "TULU_JINJA",
    "Encoded",
    "EncodedRow",
    "EndMarks",
    "FunctionCall",
    "Message",
    "Originals",
    "PromptTemplate",
    "Record",
    "RejectReason",
    "Rejected",
    "Row",
    "StoredRow",
    "Template",
    "TemplateError",
    "TokenCounts",
    "ToolCall",
    "UnusableError",
    "checked_rows",
    "content_fingerprint",
    "content_id",
    "count_response_tokens",
    "described",
    "dialogue_text",
    "encode_dialogue",
    "encode_messages",
    "encode_prompt",
    "encode_query",
    "encode_query_dialogue",
    "encode_query_row",
    "encode_row",
    "end_marks",
    "end_tokens",
    "files_by_kind",
    "format_tulu",
    "jinja_source",
    "original_records",
    "original_rows",
    "plain_text",
    "portable_source",
    "query_text",
    "read_records",
    "read_rows",
    "sample_rows",
    "template_identity",
]
