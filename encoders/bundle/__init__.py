"""The bundle: a folder with one exported encoder, its card, canaries and engine records.

Read in this order: checks, card, folder, canaries, engine_records, import_config, stage2_importer, importer, moments.
"""

__all__ = [
    "canaries",
    "card",
    "checks",
    "engine_records",
    "folder",
    "import_config",
    "importer",
    "moments",
]
