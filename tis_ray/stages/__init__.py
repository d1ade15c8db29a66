"""The stages of a study: each takes its context and what earlier ones left, and leaves an artifact.

Each lists the inputs that name its artifact, and has a `VERSION` that is one of them.
"""
