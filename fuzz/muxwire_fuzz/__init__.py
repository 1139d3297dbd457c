"""The place of the fuzzing targets; it holds none yet."""
