"""The stages of a study: each takes its context and what earlier ones left, and leaves an artifact."""
