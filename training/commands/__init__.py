"""Commands of training, one file a verb."""
