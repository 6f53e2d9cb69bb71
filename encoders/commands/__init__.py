"""Commands of encoders, one file a verb."""
