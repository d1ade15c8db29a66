"""Data sets as MLflow keeps them: name, digest, schema and source, so that `mlflow.data` finds the rows again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa

from tis_ray.study.tracked_data import DataSet

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput
    from mlflow.types.schema import Array, DataType, Object

NAME_LENGTH, DIGEST_LENGTH = 500, 36
"""MLflow's limits."""


def dataset_input(data: DataSet) -> DatasetInput:
    """Return a data set as the input of a run; its side stands in the tag that MLflow shows beside it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.types.schema import ColSpec, Schema

    columns = [ColSpec(_type(field.type), field.name, required=False) for field in data.schema]
    dataset = Dataset(
        name=data.name[:NAME_LENGTH],
        digest=data.digest[:DIGEST_LENGTH],
        source_type=data.source_type,
        source=json.dumps(dict(data.source)),
        schema=json.dumps({"mlflow_colspec": Schema(columns).to_dict()}),
        profile=json.dumps({"num_rows": data.rows, "quarantined": data.quarantined}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", data.side)])


def _type(of: pa.DataType) -> Array | Object | DataType:
    """Return MLflow's type of a column; whatever is neither text nor number nor nested is text."""
    from mlflow.types.schema import Array, DataType, Object, Property

    if pa.types.is_list(of):
        return Array(_type(of.value_type))
    if pa.types.is_struct(of):
        fields = [of.field(i) for i in range(of.num_fields)]
        return Object([Property(field.name, _type(field.type), required=False) for field in fields])
    return DataType.long if pa.types.is_integer(of) else DataType.string
