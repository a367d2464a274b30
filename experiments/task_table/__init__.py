"""Parts of the report on predictors of accuracy over tasks and architectures."""
