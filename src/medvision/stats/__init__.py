"""Statistics that know no task: the patient bootstrap, areas under curves, tests of differences."""
