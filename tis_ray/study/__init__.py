"""Running studies: their steps in order, their price, their record, and their tracking in MLflow."""
