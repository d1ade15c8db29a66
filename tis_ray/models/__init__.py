"""Base models and LoRA adapters: loading, training, checkpoints, saving, and the model that ships."""
