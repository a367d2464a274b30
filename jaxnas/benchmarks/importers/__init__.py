"""Importers of published benchmark files into table files."""
