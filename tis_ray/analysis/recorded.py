"""What a study's record holds besides its cells, as plain values: made by stages, read by pages.

Each is what stands in a JSON file, so that a page can be drawn from `record.json` alone.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from tis_ray.analysis.study_values import Method


class Lengths(TypedDict):
    """How long some rows are: sums of tokens, and the 5%, 25%, 50%, 75% and 95% quantiles."""

    rows: int
    tokens: int
    response_tokens: int
    quantiles: list[float]
    response_quantiles: list[float]


Settings = dict[str, object]
"""Values by the dotted name of their field in a config."""


class Trial(TypedDict):
    """One trial of a search: the `query_loss` after each epoch, and why it `diverged`, if it did."""

    settings: Settings
    query_loss: list[float | None]
    diverged: str | None
    peak_mb: float


class Search(TypedDict):
    """A search for fine-tuning settings: the `best` ones, and the `epochs` of a whole trial."""

    best: Settings
    epochs: int
    trials: list[Trial]


class OverlapRow(TypedDict):
    """A pool row that repeats a query or test row; `excerpt` holds the words they share."""

    side: str
    kind: str
    part: str
    value: float
    pool_id: str
    target_id: str
    excerpt: str


class Overlaps(TypedDict, total=False):
    """Pool rows that repeat query or test rows: counts by side and kind, dropped rows by reason, and
    the strongest pairs."""

    counts: dict[str, dict[str, int]]
    dropped: dict[str, int]
    rows: list[OverlapRow]


class SelectedRow(TypedDict, total=False):
    """One selected example and the query that pulled it, by their numbers; -1 is no query.

    `margin` is that of `analysis.margins`; near-duplicates are those among the first rows of the
    ordering, as many as were looked at.
    """

    index: int
    score: float | None
    query: int
    margin: float | None
    duplicates: int | None
    nearest_rank: int | None
    nearest_cosine: float | None


class ScoreRange(TypedDict):
    """Ties and range of what an ordering ranked by (`analysis.margins.ScoreFacts`)."""

    rows: int
    tied: int
    tied_outside: int
    lowest: float
    median: float
    highest: float


class SelectedRows(TypedDict, total=False):
    """All rows of one ordering, best first; `budget` is the ordering's full length.

    `scores` is None where they are not known.
    """

    representation: str
    selector: str
    budget: int
    rows: list[SelectedRow]
    scores: ScoreRange | None


class AgreementPair(TypedDict):
    """How much two orderings agree; `left` and `right` are their places in the names."""

    left: int
    right: int
    jaccard: float
    rank_biased: float


class Agreement(TypedDict):
    """How much the orderings' first `rows` agree, each pair once.

    `random` is the Jaccard index that two random subsets of `candidates` are expected to have; `p`
    that of the rank-biased overlap.
    """

    names: list[Method]
    pairs: list[AgreementPair]
    rows: int
    candidates: int
    random: float
    p: float


class PoolMap(TypedDict, total=False):
    """A plane in which near points have similar features.

    `selected` holds each method's positions in `pool_xy`.
    """

    representation: str
    pool_xy: list[list[float]]
    pool_source: list[str]
    query_xy: list[list[float]]
    selected: dict[Method, list[int]]


class QuarantinedRow(TypedDict, total=False):
    """A row that could not be used, and why."""

    side: str
    id: str
    reason: str
    detail: str
    file: str
    line: str


class Recall(TypedDict):
    """Of the first `rows` of a sample by full scores, how many the cheap representation kept."""

    share: float
    rows: int
    kept: int
    low: float
    high: float


class CascadeRecall(TypedDict, total=False):
    """What the representation `by` kept of the pool, and its recall on a uniform sample."""

    by: str
    kept: int
    pool: int
    sample: int
    recall: list[Recall]


class RecordedCertificate(TypedDict, total=False):
    """How far one representation's scores are from exact (`analysis.certificate.Certificate`)."""

    representation: str
    projection: bool
    kind: str
    noise: float
    noise_within_query: float
    spread: float
    predicted_overlap: dict[str, float]
    columns: int
    queries: int
    cascade: CascadeRecall


class RecordedWasserstein(TypedDict):
    """`analysis.distances.Wasserstein`."""

    value: float
    upper: float
    method: Literal["network simplex", "sinkhorn"]
    reg: float | None


class RecordedMmd(TypedDict):
    """`analysis.distances.Mmd`."""

    linear: float
    rbf: float
    bandwidth: float


class RecordedDimension(TypedDict):
    """`analysis.bounds.EffectiveDimension`."""

    intrinsic: float | None
    participation: float
    neighbours: int
    rows: int


class SubsetDistances(TypedDict, total=False):
    """How far one subset is from the queries (`analysis.distances`, `analysis.bounds`).

    `digest` names the subset; equal subsets have the same. `candidates` of its `rows` have a score.
    `chord` is Wasserstein-1 over the chord, the cost of the bounds.
    """

    representation: str
    selector: str
    budget: int
    seed: int | None
    digest: str
    rows: int
    queries: int
    candidates: int
    w1: RecordedWasserstein
    assignment: float | None
    query_to_subset: float
    subset_to_query: float
    chamfer: float
    mmd: RecordedMmd | None
    chord: RecordedWasserstein
    sampling: float | None
    deviation: float | None


class RepresentationDistances(TypedDict, total=False):
    """The distances in one representation: of its subsets, of random's, of the pool.

    `reason` says why there are none.
    """

    representation: str
    reason: str
    columns: int
    pool: SubsetDistances
    dimension: RecordedDimension | None
    subsets: list[SubsetDistances]
