"""Everything that arXiv 2505.02255 reports, from the project's own commands."""
