"""xlbook: cross-lingual Transformers, one working assistant at a time."""
