"""HTTP: a thin face over the pipeline, shaped like OpenAI's."""
