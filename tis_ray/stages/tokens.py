"""The rows and tokens stages: the pool, the query set and the test set are read, then encoded.

Two artifacts a side: `rows-*` (what was read, by shards of `batch.shard_rows` usable rows, and what
was refused) and `tokens-*` (the same shards encoded for one tokenizer, template and length; a row
whose labels are all cut off is quarantined here). `row` is a row's number in its rows artifact: the
`index` of orderings; `content` is a hash of what it says, the key of its feature in a store.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import Any, cast

import pyarrow as pa

from tis_ray.analysis.study_values import StageCost
from tis_ray.config import Config
from tis_ray.data import (
    EncodedRow,
    Row,
    Template,
    TokenCounts,
    UnusableError,
    content_fingerprint,
    count_response_tokens,
    described,
    encode_row,
    files_by_kind,
    query_text,
    read_rows,
    template_identity,
)
from tis_ray.distributed.shards import ShardFacts, map_shards, pending
from tis_ray.errors import InputError
from tis_ray.log import peak_mb
from tis_ray.models.loading import load_tokenizer, model_identity
from tis_ray.settings import AnySource, ModelConfig
from tis_ray.stages.context import Context
from tis_ray.stages.row_facts import RowFacts
from tis_ray.stages.side_report import side_lines
from tis_ray.storage import Place, listed, place
from tis_ray.store import (
    Artifact,
    TableRow,
    fingerprint,
    footer_of,
    read_parquet,
    write_parquet,
)
from tis_ray.store.shard_layout import ShardLayout
from tis_ray.store.sides import (
    QUARANTINE,
    TOKENS,
    Side,
    SideName,
    row_dicts,
    rows_table,
)

ROWS_VERSION = 2
"""Of `rows-*`."""
TOKENS_VERSION = 5
"""Of `tokens-*`; 4: the manifest says how many rows each shard kept; 5: a row has its number of tokens."""
_COUNTS = b"counts"
"""In the metadata of a shard of tokens: what the encoding came to."""


def prepare_side(
    context: Context,
    name: SideName,
    rows: Artifact,
    model: ModelConfig | None = None,
    dropped: Mapping[str, tuple[str, str]] | None = None,
) -> Side:
    """Encode the rows that `read_side` left; finished artifacts are used as they are.

    `model` is whose tokenizer reads them, if it is not the one that is fine-tuned. `dropped` are ids
    of rows that go to the quarantine, with reason and detail.
    """
    config = context.config
    label = name if model is None else f"{name} for {place(model.name).name}"
    model = model or config.model
    shards = int(rows.manifest().details["shards"])
    tokens = Artifact(
        config.artifact_root,
        "tokens",
        {
            "rows": rows.fingerprint,
            "role": "query" if name != "pool" else "pool",
            "tokenizer": model_identity(model),
            "template": template_identity(config.data.template),
            "max_length": config.data.max_length,
            "dropped": fingerprint(dropped) if dropped else None,
        },
        TOKENS_VERSION,
    )
    reused = tokens.complete
    if not reused:
        clock = tokens.clock()
        todo = pending(tokens.path, "tokens-{:05d}.parquet", shards)
        arguments = {
            "rows": rows.path,
            "out": tokens.path,
            "side": name,
            "model": model,
            "template": config.data.template,
            "max_length": config.data.max_length,
            "dropped": dropped,
        }
        with clock.marked():
            facts = map_shards(Tokenise, arguments, todo, context, f"tokens {label}", light=True)
        encoded = [_encoded(tokens, shard) for shard in range(shards)]
        lost = _lost(tokens)
        write_parquet(tokens / "quarantine.parquet", lost)
        tokens.commit(
            rows=sum(kept for kept, _ in encoded),
            quarantined=lost.num_rows,
            seconds=clock.seconds,
            peak_mb=facts["peak_mb"],
            details={
                "shards": shards,
                "kept": [kept for kept, _ in encoded],
                "reasons": dict(Counter(lost["reason"].to_pylist()).most_common()),
                **sum((counts for _, counts in encoded), TokenCounts()).to_json(),
            },
        )
    manifest = tokens.manifest()
    if manifest.rows == 0:
        raise InputError(
            f"data.{name}: none of {manifest.quarantined + rows.manifest().quarantined} rows is usable; "
            f"see {tokens / 'quarantine.parquet'}"
        )
    side = Side(name, rows, tokens, shards)
    context.log.finished(
        StageCost(
            stage=label,
            kind="tokens",
            artifact=str(tokens.path),
            seconds=manifest.seconds + rows.manifest().seconds,
            reused=reused,
            rows=manifest.rows,
            quarantined=manifest.quarantined + rows.manifest().quarantined,
            device="cpu",
            peak_mb=manifest.peak_mb,
        ),
        details=list(side_lines(side)),
    )
    return side


def _encoded(tokens: Artifact, shard: int) -> tuple[int, TokenCounts]:
    """Return how many rows of a shard were kept, and what its encoding came to; the rows are not read."""
    rows, metadata = footer_of(tokens / f"tokens-{shard:05d}.parquet")
    return rows, TokenCounts.from_json(json.loads(metadata[_COUNTS]))


def _lost(tokens: Artifact) -> pa.Table:
    """Return the rows of all shards that cannot be used; a shard without any has no such file."""
    files = listed(tokens.path, "quarantine-*.parquet")
    return pa.concat_tables([QUARANTINE.empty_table(), *map(read_parquet, files)])


def read_side(config: Config, name: SideName, source: AnySource | None = None) -> Artifact:
    """Stream a source into row shards; quarantine what cannot be used. Needs no cluster.

    source: what to read in place of the study's own, such as another task's.
    """
    source = source or config.data.side(name)
    artifact = rows_artifact(config, name, source)
    if artifact.complete:
        return artifact
    clock = artifact.clock()
    facts = RowFacts()
    stream = facts.usable(read_rows(source, name))
    shard = 0
    layout = ShardLayout(config.batch.shard_rows)
    while chunk := list(islice(stream, layout.begin(shard + 1) - layout.begin(shard))):
        write_parquet(artifact / f"rows-{shard:05d}.parquet", rows_table(chunk))
        shard += 1
    write_parquet(artifact / "quarantine.parquet", facts.quarantine(name))
    if facts.kept == 0:
        raise InputError(facts.nothing_usable(f"data.{name}: {described(source)}"))
    artifact.commit(
        rows=facts.kept,
        quarantined=len(facts.rejected),
        seconds=clock.seconds,
        peak_mb=peak_mb(),
        details={"shards": shard, "files": files_by_kind(source), **facts.counts()},
    )
    return artifact


def rows_artifact(
    config: Config, name: SideName, source: AnySource, digests: Mapping[str, str] | None = None
) -> Artifact:
    """Return where the rows of a source are, or will be; `digests` are those of its files, if they are known."""
    inputs = {
        "side": name,
        "content": content_fingerprint(source, name, digests),
        "shard_rows": config.batch.shard_rows,
    }
    return Artifact(config.artifact_root, "rows", inputs, ROWS_VERSION)


class Tokenise:
    """Encodes one shard of rows; see `encode_row`."""

    def __init__(
        self,
        rows: Place,
        out: Place,
        side: SideName,
        model: ModelConfig,
        template: Template,
        max_length: int,
        dropped: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self.rows, self.out, self.side = rows, out, side
        self.template, self.max_length, self.dropped = template, max_length, dropped or {}
        self.tokenizer = load_tokenizer(model)

    @classmethod
    def for_side(cls, config: Config, rows: Place, side: SideName) -> Tokenise:
        """Return the encoder of one side of a study; it writes nothing until it is called."""
        data = config.data
        return cls(rows, rows, side, config.model, data.template, data.max_length)

    def __call__(self, shard: int) -> ShardFacts:
        """Encode one shard; write what is quarantined, if anything, and last its tokens."""
        start = time.monotonic()
        kept, lost, counts = [], [], TokenCounts()
        for row in row_dicts(self.rows / f"rows-{shard:05d}.parquet"):
            problem = self.dropped.get(row["id"])
            if problem is None:
                try:
                    encoded = self.encode(_as_given(row))
                except UnusableError as error:
                    problem = error.reason, error.detail
                else:
                    counts.add(encoded)
                    kept.append(_with_tokens(row, encoded))
                    continue
            reason, detail = problem
            place = {
                "side": self.side,
                "file": row["file"],
                "line": str(row["line"]),
                "id": row["id"],
            }
            lost.append({**place, "reason": str(reason), "detail": detail})
        if lost:
            table = pa.Table.from_pylist(lost, QUARANTINE)
            write_parquet(self.out / f"quarantine-{shard:05d}.parquet", table)
        metadata = {_COUNTS: json.dumps(counts.to_json()).encode()}
        table = pa.Table.from_pylist(kept, TOKENS).replace_schema_metadata(metadata)
        write_parquet(self.out / f"tokens-{shard:05d}.parquet", table)
        return {"rows": len(kept), "seconds": time.monotonic() - start}

    def stored(self, row: TableRow) -> TableRow | None:
        """Return a stored row with its tokens, of the schema TOKENS; None if it cannot be used."""
        try:
            return _with_tokens(row, self.encode(_as_given(row)))
        except UnusableError:
            return None

    def encode(self, row: Row) -> EncodedRow:
        """Return a row as token ids and labels; errors are those of `encode_row`."""
        return encode_row(row, self.side, self.tokenizer, self.max_length, self.template)


def _as_given(row: TableRow) -> Row:
    return cast(Row, {name: value for name, value in row.items() if name not in ("row", "content")})


def _with_tokens(row: TableRow, encoded: EncodedRow) -> TableRow:
    fact = {name: row[name] for name in ("row", "id", "source", "content")}
    tokens = count_response_tokens(encoded.labels)
    lengths = {"response_tokens": tokens, "tokens": len(encoded.input_ids)}
    return {**fact, **encoded.encoded(), **lengths}


def prompt_and_label(row: TableRow, tokenizer: Any, template: Template) -> tuple[str, str]:
    """Return a query or test row as templated prompt and label."""
    if "prompt" in row:
        return row["prompt"], row["label"]
    return query_text(row["messages"], tokenizer, template, row.get("tools"))
