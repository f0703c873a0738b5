"""What is odd about a data set, found before anything is trained."""
