"""What a search asks: tables, and a synthetic objective; `files` has the format."""
