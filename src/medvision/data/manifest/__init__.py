"""The table through which data enters, and the card beside it."""
