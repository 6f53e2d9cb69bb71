"""From videos to an archive that can be searched: `tfcovr build`, and `tfcovr demo`, the same flow on rendered video with checks.

Read in this order: steps, step_notes, questions, time_evidence, summary, run, build_settings, build_encoder, build_clips, build.
"""

__all__ = ["build", "build_encoder", "run", "steps", "time_evidence"]
