"""The bundle: a folder with one exported encoder, its card, canaries and engine records.

Read in this order: checks, card, calibration, moments, folder, canaries, engine_records, import_config, stage2_importer, frozen_importer,
importer, clip_text.
"""

__all__ = [
    "calibration",
    "canaries",
    "card",
    "checks",
    "engine_records",
    "folder",
    "frozen_importer",
    "import_config",
    "importer",
    "moments",
]
