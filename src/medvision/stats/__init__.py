"""Statistics that know no task: resampling, ranking, tests."""
