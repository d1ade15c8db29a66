"""Base models and LoRA adapters: loading, attaching, saving whole, and the model that ships."""
