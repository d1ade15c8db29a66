"""Running studies: the plan carried out, their price, their record, and what MLflow is told."""
