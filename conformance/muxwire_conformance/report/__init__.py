"""Reports of a run: text for people, JSON and JUnit for programs."""
