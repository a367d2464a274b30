"""Parts of the experiments on what MetaD2A's models learn."""
