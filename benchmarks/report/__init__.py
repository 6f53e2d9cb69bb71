"""A finished run to report.html, and records to the tables of the README.

Read in this order: run_files, answers, charts, quality, view, page, tables, readme_demo, readme_index.
"""

__all__ = ["page", "run_files"]
