"""What a search is run on; `base` has the form of all, `files` that of table files."""
